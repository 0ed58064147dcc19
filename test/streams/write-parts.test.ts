/** The parts that a writer is made of, each on its own. */
import { AsyncLocalStorage } from 'node:async_hooks';
import fc from 'fast-check';
import t from 'tap';
import { AsyncScope } from '../../lib/streams/async-scope.js';
import { ByteQueue, joined, lengthOf } from '../../lib/streams/byte-queue.js';
import { Frontier } from '../../lib/streams/frontier.js';
import { Joint } from '../../lib/streams/joint.js';
import { lockedDevices, lockPlace, lockRange } from '../../lib/streams/range-lock.js';
import { Turns } from '../../lib/streams/turns.js';
import { WriteTally } from '../../lib/streams/write-tally.js';

t.test('Frontier: what has no gap before it counts, in whatever order pieces end', async () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 12 }), fc.nat(), (sizes, seed) => {
      let at = 7;
      const pieces = sizes.map((bytes) => {
        at += bytes;
        return { offset: at - bytes, bytes };
      });
      const shuffled = pieces.map((piece, i) => ({ piece, key: (i * 7919 + seed) % 13 }));
      shuffled.sort((a, b) => a.key - b.key);
      const frontier = new Frontier(7);
      const ended = new Set<number>();
      return shuffled.every(({ piece }) => {
        frontier.add(piece.offset, piece.bytes);
        ended.add(piece.offset);
        const gap = pieces.find(({ offset }) => !ended.has(offset));
        return frontier.at === (gap?.offset ?? at);
      });
    }),
  );
});

t.test('Frontier: a part that was written counts, and the piece once more in its place', async (t) => {
  const frontier = new Frontier(0);
  frontier.add(10, 10);
  frontier.add(0, 4);
  t.equal(frontier.at, 4, 'failed after 4 of 10 bytes');
  frontier.add(0, 10);
  t.equal(frontier.at, 20);
  frontier.add(20, 0);
  t.equal(frontier.at, 20);
});

t.test('Joint: the first error in the order of the pieces, and the bytes before it', async (t) => {
  const answers: [Error | null, number][] = [];
  const joint = new Joint((error, moved) => answers.push([error, moved]));
  const [a, b, c] = [joint.piece(10), joint.piece(20), joint.piece(30)];
  joint.close();
  const [early, late] = [new Error('early'), new Error('late')];
  c(late, 5);
  t.equal(joint.failed, true);
  a(null, 10);
  t.equal(answers.length, 0, 'one is not over');
  b(early, 3);
  t.same(answers, [[early, 13]]);

  new Joint((error, moved) => answers.push([error, moved])).close();
  t.same(answers[1], [null, 0], 'nothing to do');
});

t.test('ByteQueue: the bytes of its chunks, cut and copied anywhere', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 8 }),
      fc.array(fc.tuple(fc.boolean(), fc.nat(25)), { maxLength: 10 }),
      (chunks, steps) => {
        const all = Buffer.concat(chunks);
        const queue = new ByteQueue(chunks);
        let at = 0;
        return steps.every(([copy, wanted]) => {
          const bytes = Math.min(wanted, all.length - at);
          let got: Uint8Array = new Uint8Array(bytes);
          if (copy) queue.fill(got);
          else got = joined(queue.cut(bytes));
          const right = all.subarray(at, at + bytes).equals(got);
          at += bytes;
          return right && queue.length === all.length - at;
        });
      },
    ),
  );
});

t.test('ByteQueue: what lies together is not copied', async (t) => {
  const chunk = new Uint8Array(10);
  const queue = new ByteQueue([chunk, new Uint8Array(5)]);
  t.equal(joined(queue.cut(4)).buffer, chunk.buffer);
  t.equal(lengthOf(queue.cut(100)), 11, 'no more than there is');
});

t.test('Turns: one kind at a time, in the order of coming', async (t) => {
  const turns = new Turns<string>();
  const started: string[] = [];
  for (const [i, kind] of ['a', 'a', 'b', 'b', 'a'].entries()) {
    turns.run(kind, () => started.push(`${kind}${i}`));
  }
  t.same(started, ['a0', 'a1']);
  turns.over();
  t.same(started, ['a0', 'a1'], 'one of them is not over');
  turns.over();
  t.same(started, ['a0', 'a1', 'b2', 'b3'], 'the last waits its turn');
  turns.over();
  turns.over();
  t.same(started.at(-1), 'a4');
  turns.over();
  turns.run('b', () => started.push('b5'));
  t.equal(started.at(-1), 'b5', 'at once when nothing runs');
});

t.test('range locks: whole blocks side by side, a part of one alone', async (t) => {
  const held: string[] = [];
  const releases = new Map<string, () => void>();
  const lock = (name: string, start: number, end: number, exclusive: boolean, on = 'disk') =>
    lockRange({ on, start, end, exclusive }, (release) => {
      held.push(name);
      releases.set(name, release);
    });
  lock('whole', 0, 4096, false);
  lock('beside', 512, 8192, false);
  lock('part', 512, 1024, true);
  lock('behind', 0, 1024, false);
  lock('elsewhere', 16384, 16896, true);
  lock('other disk', 512, 1024, true, 'other');
  t.same(held, ['whole', 'beside', 'elsewhere', 'other disk'], 'the part waits, and who comes after it');
  releases.get('whole')!();
  t.equal(held.length, 4);
  releases.get('beside')!();
  t.equal(held.at(-1), 'part');
  releases.get('part')!();
  t.equal(held.at(-1), 'behind');
  for (const name of ['behind', 'elsewhere', 'other disk']) releases.get(name)!();
  t.equal(lockedDevices(), 0, 'nothing is kept');
});

t.test('range locks: two names of one device share theirs', async (t) => {
  const disk = { on: 'device 259:0', name: '/dev/nvme0n1', start: 1048576, length: 4096, exact: true };
  const partition = { on: 'device 259:1', name: '/dev/nvme0n1p1', start: 0, length: 4096, exact: true };
  t.same(lockPlace([partition, disk], 'p1'), { on: 'device 259:0', base: 1048576 });
  t.same(lockPlace([partition, { ...disk, exact: false }], 'p1'), { on: 'device 259:1', base: 0 });
  t.same(lockPlace([], 'p1'), { on: 'p1', base: 0 });
});

t.test('WriteTally: what went through the page cache, in words', async (t) => {
  const words = (parts: [number, number][], start = 5, end = 10_000) => {
    const tally = new WriteTally(start);
    for (const [offset, bytes] of parts) tally.ragged(offset, bytes);
    return tally.raggedWords(start, end);
  };
  const through = 'went through the page cache';
  t.equal(words([]), null);
  t.equal(words([[9679, 321]]), `the last 321 bytes, less than a block, ${through}`);
  t.equal(words([[5, 507]]), `the first 507 bytes, less than a block, ${through}`);
  t.equal(words([[5, 7]], 5, 12), `the 7 bytes, less than a block, ${through}`);
  const both: [number, number][] = [
    [5, 507],
    [9728, 272],
  ];
  t.equal(words(both), `the first 507 and the last 272 bytes, each less than a block, ${through}`);
  t.equal(words([...both, [600, 100]]), `879 bytes in 3 parts of blocks ${through}`);
});

t.test('AsyncScope: the context in which it was made', async (t) => {
  const storage = new AsyncLocalStorage<string>();
  const scope = storage.run('mine', () => new AsyncScope());
  storage.run('theirs', () => {
    t.equal(
      scope.run((a: number, b: number) => `${storage.getStore()} ${a + b}`, 1, 2),
      'mine 3',
    );
    scope.wrap((what: string) => t.equal(storage.getStore(), what))('mine');
    t.equal(storage.getStore(), 'theirs', 'and back');
  });
});
