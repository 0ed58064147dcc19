import t from 'tap';
import type { BlockTarget, PumpAccount } from '../../lib/backend/backend.js';
import { zeroPath } from '../../lib/backend/path-bytes.js';
import { LentRange } from '../../lib/streams/lent-range.js';
import { WriteTally } from '../../lib/streams/write-tally.js';

const target = {} as BlockTarget;
const account = (transfers: number, bytes: number, inFlight: number): PumpAccount => ({
  ...{ transfers, bytes, inFlight },
  path: { ...zeroPath(), peerBus: bytes },
});

t.test('what a pump did is in the account of the writer', async (t) => {
  const tally = new WriteTally(512);
  const over: number[] = [];
  const range = new LentRange({ target, position: 512, bytes: 8192 }, tally, (moved) => over.push(moved));
  range.did(1024, account(3, 1536, 2), true);
  t.match(tally, { writes: 3, inFlight: 2, peerBytes: 1536, hostBytes: 0, path: { peerBus: 1536 } });
  t.equal(tally.written.at, 1536, 'only what has no gap before it counts as written');
  range.did(512, account(1, 512, 0), true);
  t.match(tally, { writes: 4, inFlight: 0, peerBytes: 2048 });
  t.equal(tally.written.at, 2048);
  range.end();
  t.same(over, [1536]);
});

t.test('bytes from host memory are counted as such', async (t) => {
  const tally = new WriteTally(0);
  new LentRange({ target, position: 0, bytes: 512 }, tally, () => {}).did(512, account(1, 512, 0), false);
  t.match(tally, { peerBytes: 0, hostBytes: 512 });
});

t.test('stopped before anybody listens, it says so', async (t) => {
  const range = new LentRange({ target, position: 0, bytes: 512 }, new WriteTally(0), () => {});
  t.equal(range.stopped, false);
  range.stop();
  t.equal(range.stopped, true);
  let told = 0;
  range.onStop = () => told++;
  range.stop();
  t.equal(told, 1);
});
