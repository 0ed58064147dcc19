/** What a copy takes of a stream of another kind: so many bytes, at a rate, and nothing that stays open. */
import { Readable } from 'node:stream';
import t from 'tap';
import { Portion, portionOf } from '../../lib/copy/portion.js';
import { openSystem, Pace, planCopy } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT, peek } from '../helpers/copies.js';

/** An endless stream of 1000 bytes at a time. */
function endless(): Readable {
  return new Readable({
    read() {
      setImmediate(() => this.push(bytesOf(1000)));
    },
  });
}

t.test(
  'as many bytes as were asked for, in the middle of a chunk, and the source is destroyed',
  async (t) => {
    const source = endless();
    const portion = new Portion(source, 2500, null);
    const got = Buffer.concat(await portion.toArray());
    t.ok(got.equals(Buffer.concat([bytesOf(1000), bytesOf(1000), bytesOf(1000)]).subarray(0, 2500)));
    t.ok(source.destroyed);
  },
);

t.test('none', async (t) => {
  const source = endless();
  t.same(await new Portion(source, 0, null).toArray(), []);
  t.ok(source.destroyed);
});

t.test('a source that is shorter', async (t) => {
  const got = await new Portion(Readable.from([bytesOf(10)]), 2500, null).toArray();
  t.equal(Buffer.concat(got).length, 10);
});

t.test('an error, or an end without one, of the source', async (t) => {
  const failing = endless();
  const portion = new Portion(failing, 1e9, null);
  setImmediate(() => failing.destroy(new Error('the disk is gone')));
  await t.rejects(portion.toArray(), { message: 'the disk is gone' });
  const closing = endless();
  const cut = new Portion(closing, 1e9, null);
  setImmediate(() => closing.destroy());
  await t.rejects(cut.toArray(), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
});

t.test('a rate', async (t) => {
  const began = performance.now();
  const got = Buffer.concat(await new Portion(endless(), 50_000, new Pace(100_000)).toArray());
  const took = performance.now() - began;
  t.equal(got.length, 50_000);
  t.ok(took > 300, `${took} ms for half a second, less what it may catch up`);
});

t.test('destroyed while it waits', async (t) => {
  const source = endless();
  const portion = new Portion(source, 1e9, new Pace(10));
  portion.resume();
  await new Promise((resolve) => setTimeout(resolve, 20));
  portion.destroy();
  t.ok(source.destroyed);
});

t.test('all of it is the stream itself; one that is used up is too', async (t) => {
  const source = endless();
  t.equal(portionOf(source, Number.POSITIVE_INFINITY, null), source);
  source.destroy();
  t.equal(portionOf(source, 5, null), source);
});

t.test('pipeline: `end` and `bandwidth` of a stream, and what has no meaning there', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const source = endless();
  const receipt = await system.pipeline(source, 'nvme0n1', { end: 9999, bandwidth: 1e9, verify: true });
  t.match(receipt, { bytes: 10_000, transport: 'host-memory', verified: true });
  t.ok(source.destroyed);
  const expected = Buffer.concat(Array.from({ length: 10 }, () => bytesOf(1000)));
  t.ok((await peek(system, 'nvme0n1', 0, 10_240)).subarray(0, 10_000).equals(expected));
  for (const options of [{ start: 5 }, { sparse: true }]) {
    await t.rejects(system.pipeline(endless(), 'nvme0n1', options), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: new RegExp(`^option ${Object.keys(options)[0]}: a stream`),
    });
  }
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('planCopy: a stream tells no length, and nothing is read from it', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const source = endless();
  t.match(await planCopy(source, 'nvme0n1', { system }), {
    ...{ bytes: null, transport: 'host-memory', source: { kind: 'stream', size: 0 }, problems: [] },
    destinations: [{ effect: 'overwrite', from: 0, to: null }],
  });
  const plan = await planCopy(source, 'nvme0n1', { system, end: 2 ** 40, requireP2p: true });
  t.equal(plan.bytes, 2 ** 40 + 1);
  t.match(plan.problems, [{ code: 'ENOSPC' }, { code: 'ERR_P2P_REQUIRED' }]);
  t.equal(source.readableLength, 0);
  t.notOk(source.readableFlowing);
  source.destroy();
  t.same(await system.close(), NOTHING_LEFT);
});
