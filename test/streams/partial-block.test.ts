import t from 'tap';
import type { BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import { zeroPath } from '../../lib/backend/path-bytes.js';
import { EIO } from '../../lib/base/errno.js';
import { openSystem } from '../../lib/index.js';
import { mergeIntoBlock } from '../../lib/streams/partial-block.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';
import { fc } from '../helpers/random.js';

const BLOCK = 512;

/** A device of four blocks; `fails` says which of its answers is an error. `moved` is called before each answer. */
function device(fails?: 'read' | 'write', moved = () => {}) {
  const content = bytesOf(4 * BLOCK, 9);
  const asked: string[] = [];
  const target = {
    ...{ kind: 'namespace', path: 'disk', size: content.length, limits: { logicalBlockSize: BLOCK } },
    submit(io: IoRequest) {
      const view = io.segments[0]!;
      asked.push(`${io.op} ${io.offset} ${view.length}`);
      setImmediate(() => {
        if (io.op === fails) io.result = -EIO;
        else {
          if (io.op === 'read') view.set(content.subarray(io.offset, io.offset + view.length));
          else content.set(view, io.offset);
          io.result = view.length;
          io.path.hostDram = view.length;
        }
        moved();
        io.done(io);
      });
    },
  } as unknown as BlockTarget;
  return { target, content, asked };
}

t.test('the part is changed, and no byte beside it', async () => {
  const place = fc.tuple(fc.nat(3), fc.nat(BLOCK - 1)).chain(([block, within]) =>
    fc.record({
      offset: fc.constant(block * BLOCK + within),
      part: fc.uint8Array({ maxLength: BLOCK - within }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(place, async ({ offset, part }) => {
      const { target, content } = device();
      const right = Buffer.from(content);
      right.set(part, offset);
      // What is left in the memory from before must not matter.
      await mergeIntoBlock(target, part, offset, Buffer.alloc(BLOCK, 0xdb), zeroPath());
      return content.equals(right);
    }),
    {
      examples: [
        [{ offset: 0, part: new Uint8Array(1) }],
        [{ offset: 2 * BLOCK - 1, part: new Uint8Array([7]) }],
        [{ offset: BLOCK, part: new Uint8Array(BLOCK) }],
      ],
    },
  );
});

t.test('one block is read, then written; both count', async (t) => {
  const { target, asked } = device();
  const path = zeroPath();
  await mergeIntoBlock(target, new Uint8Array(10), 1030, Buffer.alloc(BLOCK), path);
  t.same(asked, ['read 1024 512', 'write 1024 512']);
  t.equal(path.hostDram, 1024);
});

t.test('what cannot be read is not written over', async (t) => {
  const { target, content, asked } = device('read');
  const before = Buffer.from(content);
  const merging = mergeIntoBlock(target, new Uint8Array(10), 1030, Buffer.alloc(BLOCK), zeroPath());
  await t.rejects(merging, { code: 'EIO', syscall: 'read', offset: 1024 });
  t.same(asked, ['read 1024 512']);
  t.ok(content.equals(before));
});

t.test('what cannot be written is an error', async (t) => {
  const { target } = device('write');
  const merging = mergeIntoBlock(target, new Uint8Array(10), 1030, Buffer.alloc(BLOCK), zeroPath());
  await t.rejects(merging, { code: 'EIO', syscall: 'write', offset: 1024 });
});

t.test('memory that goes away meanwhile is an error, and the block is not written', async (t) => {
  for (const goes of ['block', 'part'] as const) {
    const memory = { part: new Uint8Array(10), block: new Uint8Array(BLOCK) };
    // As the memory of a CMB whose drive is removed: nothing is left of it.
    const go = () => structuredClone(null, { transfer: [memory[goes].buffer] });
    const { target, content, asked } = device(undefined, go);
    const before = Buffer.from(content);
    const merging = mergeIntoBlock(target, memory.part, 1030, memory.block, zeroPath());
    await t.rejects(merging, { code: 'EFAULT', syscall: 'write', offset: 1030 }, goes);
    t.same(asked, ['read 1024 512'], goes);
    t.ok(content.equals(before), goes);
  }
});

t.test('hardware that drops peer writes does not change the bytes beside the part', async (t) => {
  const described = await openSystem({ machine: 'switch' });
  const machine = described.snapshot();
  await described.close();
  const faults = [{ kind: 'drop-peer-writes', function: '03:00.0' }];
  const system = await openSystem({ machine: { ...machine, faults } });
  await poke(system, 'nvme0n1', 0, bytesOf(8192, 1));
  await poke(system, 'nvme1n1', 0, bytesOf(8192, 2));
  const copy = system.pipeline('nvme0n1', 'nvme1n1', { end: 4999, provider: '03:00.0' });
  await t.rejects(copy, { code: 'ERR_VERIFY_MISMATCH', path: '/dev/nvme1n1', offset: 4608 });
  t.ok(
    (await peek(system, 'nvme1n1', 4608, 3584)).equals(bytesOf(8192, 2).subarray(4608)),
    'nothing is lost',
  );
  t.same(await system.close(), NOTHING_LEFT);
});
