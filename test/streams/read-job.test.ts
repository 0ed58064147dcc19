import t from 'tap';
import { ReadJob } from '../../lib/streams/read-job.js';
import type { Slot } from '../../lib/streams/slot-pool.js';

t.test('what it brought: of what was asked for, no byte that was not read', async (t) => {
  for (const [from, to, moved, right] of [
    [0, 1024, 1024, [0, 1024]],
    [0, 1024, 700, [0, 700]],
    [0, 700, 1024, [0, 700]],
    [100, 700, 1024, [100, 700]],
    [100, 700, 300, [100, 300]],
    [100, 700, 100, [100, 100]],
    [100, 700, 50, [100, 100]],
    [0, 1024, 0, [0, 0]],
  ] as const) {
    const job = new ReadJob();
    job.view = Buffer.alloc(1024);
    Object.assign(job, { from, to, moved });
    const { byteOffset, length } = job.bytes;
    const at = byteOffset - job.view.byteOffset;
    t.same([at, at + length], right, `${from}..${to}, ${moved} read`);
  }
  const whole = new ReadJob();
  whole.view = Buffer.alloc(512);
  Object.assign(whole, { to: 512, moved: 512 });
  t.equal(whole.bytes, whole.view, 'all of it is the view itself');
});

t.test('dropped, its slot comes back once', async (t) => {
  let settled = 0;
  const slot = { filling: true, settle: () => settled++ };
  const job = new ReadJob();
  job.drop();
  job.slot = slot as unknown as Slot;
  job.drop();
  job.drop();
  t.same([settled, slot.filling, job.slot], [1, false, null]);
});
