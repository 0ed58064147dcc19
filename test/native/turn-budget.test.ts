/** Work that keeps the thread busy is spread over turns of the event loop. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import t from 'tap';
import type { NativeBackend } from '../../lib/native/backend.js';
import { openNative } from '../../lib/native/backend.js';
import { readSysfs, type Sysfs } from '../../lib/native/sysfs/machine.js';
import { TurnBudget } from '../../lib/native/turn-budget.js';
import { skipNative } from '../helpers/native.js';

const LONG_MS = 3;

function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** Counts turns until it is stopped. */
function turns(): { readonly now: () => number; stop(): void } {
  let turn = 0;
  let stopped = false;
  const next = () => {
    turn++;
    if (!stopped) setImmediate(next);
  };
  setImmediate(next);
  return {
    now: () => turn,
    stop: () => {
      stopped = true;
    },
  };
}

t.test('long work has a turn of its own, in order; short work does not wait', async (t) => {
  const budget = new TurnBudget();
  const { now, stop } = turns();
  const done: [number, number][] = [];
  const work = async (id: number, ms: number) => {
    const turn = budget.wait();
    if (turn !== null) await turn;
    budget.spend(() => busy(ms));
    done.push([id, now()]);
  };
  await Promise.all([0, 1, 2].map((id) => work(id, LONG_MS)));
  t.same(
    done.map(([id]) => id),
    [0, 1, 2],
  );
  t.equal(new Set(done.map(([, turn]) => turn)).size, 3);
  stop();
  await nextTurn();
  t.equal(budget.wait(), null, 'the next turn begins anew');
  t.throws(() =>
    budget.spend(() => {
      busy(LONG_MS);
      throw new Error('on the way');
    }),
  );
  t.not(budget.wait(), null, 'work that failed took time too');
});

t.test('one who waits and does nothing holds up nobody', async (t) => {
  const budget = new TurnBudget();
  budget.spend(() => busy(LONG_MS));
  const idle = budget.wait();
  const next = budget.wait();
  await idle;
  await next;
  t.pass();
});

t.test('targets that are opened at once', { skip: skipNative }, async (t) => {
  const path = t.testdirName;
  t.testdir({ file: 'x' });
  const sysfs = readSysfs('/') as { -readonly [K in keyof Sysfs]: Sysfs[K] };
  const { blockInfo } = sysfs;
  const backend = (await openNative()) as NativeBackend;
  const { now, stop } = turns();
  const looked: number[] = [];
  (backend.sysfs as typeof sysfs).blockInfo = (name) => {
    busy(LONG_MS);
    looked.push(now());
    return blockInfo(name);
  };
  const targets = await Promise.all(
    [0, 1, 2].map(() => backend.openTarget(`${path}/file`, { write: false })),
  );
  t.equal(new Set(looked).size, 3, 'each is looked at in another turn');
  stop();
  await Promise.all(targets.map((target) => target.close()));
  await backend.close();
});
