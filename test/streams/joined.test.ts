import { type EventEmitter, once } from 'node:events';
import { Readable, Writable } from 'node:stream';
import t from 'tap';
import type { BlockTarget } from '../../lib/backend/backend.js';
import { EIO, ENOSPC } from '../../lib/base/errno.js';
import { errnoError, type P2pdmaError } from '../../lib/base/errors.js';
import { JoinedWriters } from '../../lib/streams/joined.js';
import type { LendingEnd } from '../../lib/streams/lending.js';

const target = { path: 'disk', kind: 'file' } as unknown as BlockTarget;

/** A writer's end, of which the first byte that is missing is at `missing`. */
const endOf = (missing = 0) =>
  ({ opened: async () => target, settled: async () => missing }) as unknown as LendingEnd;

function rig() {
  const reader = new Readable({ read() {} });
  const left: LendingEnd[] = [];
  const joined = new JoinedWriters(reader, (end) => left.push(end));
  const writer = () => {
    const writable = new Writable({ write: (_chunk, _encoding, done) => done() });
    const said: string[] = [];
    writable.on('pipe', (from: Readable) => said.push(from === reader ? 'pipe' : 'pipe of another'));
    writable.on('unpipe', (from: Readable, { hasUnpiped }: { hasUnpiped: boolean }) =>
      said.push(`unpipe ${from === reader} ${hasUnpiped}`),
    );
    return { writable, said, end: endOf() };
  };
  return { reader, left, joined, writer };
}

/** What listens to the events that joining listens to. */
const listeners = (of: EventEmitter) =>
  ['close', 'finish', 'end'].map((event) => of.listenerCount(event)).join(' ');

t.test('join() and part(): as pipe() and unpipe(), and nothing listens on afterwards', async (t) => {
  const { reader, left, joined, writer } = rig();
  const [a, b] = [writer(), writer()];
  const before = [reader, a.writable].map(listeners);
  joined.join(a.writable, a.end, undefined);
  joined.join(b.writable, b.end, undefined);
  t.same([joined.size, joined.ends, joined.destinations], [2, [a.end, b.end], [a.writable, b.writable]]);
  t.same([a.said, left], [['pipe'], []]);
  joined.part(a.writable);
  joined.part(a.writable);
  t.same([a.said, left, joined.ends], [['pipe', 'unpipe true false'], [a.end], [b.end]], 'once');
  joined.part(b.writable);
  t.same([reader, a.writable].map(listeners), before);
  joined.part(new Writable());
  t.equal(left.length, 2, 'who was never there does not leave');
});

t.test('joined once more, it is there once, with what was asked for last', async (t) => {
  const { reader, joined, writer } = rig();
  const a = writer();
  joined.join(a.writable, a.end, undefined);
  joined.join(a.writable, a.end, { end: false });
  t.equal(joined.size, 1);
  t.equal(reader.listenerCount('end'), 1);
  reader.resume().push(null);
  await once(reader, 'end');
  t.equal(a.writable.writableEnded, false);
});

t.test('the reader ends: so do they, but for one that is to stay open', async (t) => {
  const { reader, left, joined, writer } = rig();
  const [ends, stays] = [writer(), writer()];
  joined.join(ends.writable, ends.end, undefined);
  joined.join(stays.writable, stays.end, { end: false });
  reader.resume().push(null);
  await once(ends.writable, 'finish');
  t.equal(stays.writable.writableEnded, false);
  t.equal(joined.size, 0);
  t.same([left.length, ends.said.at(-1), stays.said.at(-1)], [2, 'unpipe true false', 'unpipe true false']);
  stays.writable.destroy();
});

t.test('one that closes or finishes is gone', async (t) => {
  const { left, joined, writer } = rig();
  const [closes, finishes] = [writer(), writer()];
  for (const { writable, end } of [closes, finishes]) joined.join(writable, end, undefined);
  closes.writable.destroy();
  await once(closes.writable, 'close');
  t.same(joined.ends, [finishes.end]);
  finishes.writable.end();
  await once(finishes.writable, 'finish');
  t.same([joined.size, left], [0, [closes.end, finishes.end]]);
});

t.test('one fails: it alone is destroyed, and no longer there', async (t) => {
  const { left, joined, writer } = rig();
  const [bad, good] = [writer(), writer()];
  for (const { writable, end } of [bad, good]) joined.join(writable, end, undefined);
  const error = errnoError(-EIO, 'write', 'disk', { offset: 4096 });
  const failed = once(bad.writable, 'error');
  joined.failed(bad.end, error);
  t.same([joined.ends, left, good.writable.destroyed], [[good.end], [bad.end], false], 'at once');
  t.same(await failed, [error]);
  joined.failed(endOf(), error);
  t.same([joined.ends, good.writable.destroyed], [[good.end], false], 'an end that is not there');
});

t.test('one is full: its error names the first byte that is missing, which settles later', async (t) => {
  const { joined, writer } = rig();
  const { writable } = writer();
  const end = endOf(1024);
  joined.join(writable, end, undefined);
  const failed = once(writable, 'error');
  joined.failed(end, errnoError(-ENOSPC, 'write', 'disk', { offset: 8192 }));
  const [error] = (await failed) as [P2pdmaError];
  t.match(error, { code: 'ENOSPC', offset: 1024, path: 'disk' });
});

t.test('clear(): who was there, and how, without a word to them', async (t) => {
  const { reader, left, joined, writer } = rig();
  const [a, b] = [writer(), writer()];
  const before = [reader, a.writable, b.writable].map(listeners);
  joined.join(a.writable, a.end, undefined);
  joined.join(b.writable, b.end, { end: false });
  t.strictSame(joined.clear(), [
    [a.writable, undefined],
    [b.writable, { end: false }],
  ]);
  t.same([joined.size, left, a.said], [0, [], ['pipe']]);
  t.same([reader, a.writable, b.writable].map(listeners), before);
});
