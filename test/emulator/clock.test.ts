import { spawnSync } from 'node:child_process';
import t from 'tap';
import { ManualClock, RealClock } from '../../lib/emulator/clock.js';

/** Let the event loop run until something is so. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

t.test('the real clock runs one turn after the other, in order', async (t) => {
  const clock = new RealClock();
  const seen: string[] = [];
  clock.defer(() => {
    seen.push('a');
    clock.defer(() => seen.push('next turn'));
  });
  clock.defer(() => seen.push('b'));
  t.strictSame(seen, [], 'never inside defer');
  await until(() => seen.length === 3);
  t.strictSame(seen, ['a', 'b', 'next turn']);

  const timer = clock.setTimer(() => seen.push('cancelled'), 1);
  timer.cancel();
  await new Promise<void>((resolve) => clock.setTimer(resolve, 5));
  t.notOk(seen.includes('cancelled'));
});

t.test('after a function that throws, the others run', async (t) => {
  const clock = new URL('../../lib/emulator/clock.js', import.meta.url).href;
  const program = `
    import { RealClock } from ${JSON.stringify(clock)};
    const clock = new RealClock();
    process.on('uncaughtException', ({ message }) => console.log(message));
    clock.defer(() => { throw new Error('bad'); });
    clock.defer(() => console.log('next'));
    clock.defer(() => clock.defer(() => console.log('later')));
  `;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  t.equal(stdout, 'bad\nnext\nlater\n');
});

t.test('turns that take long let the event loop run between them', async (t) => {
  const clock = new RealClock();
  const seen: string[] = [];
  let left = 3;
  const long = (): void => {
    seen.push('turn');
    for (const end = performance.now() + 1; performance.now() < end; );
    if (--left > 0) clock.defer(long);
  };
  clock.defer(long);
  const look = (): void => {
    seen.push('loop');
    if (left > 0) setImmediate(look);
  };
  setImmediate(look);
  await until(() => left === 0 && seen.at(-1) === 'loop');
  t.strictSame(seen, ['turn', 'loop', 'turn', 'loop', 'turn', 'loop']);
});

t.test('the manual clock stands still until it is told otherwise', async (t) => {
  const clock = new ManualClock();
  const seen: string[] = [];
  clock.setTimer(() => seen.push(`late ${clock.now()}`), 1000);
  const early = clock.setTimer(() => seen.push('cancelled'), 10);
  clock.setTimer(() => {
    seen.push(`first ${clock.now()}`);
    clock.defer(() => seen.push('its turn'));
    clock.setTimer(() => seen.push(`nested ${clock.now()}`), 5);
  }, 100);
  clock.setTimer(() => seen.push(`second ${clock.now()}`), 100);
  early.cancel();
  clock.advance(99);
  t.strictSame(seen, []);
  clock.advance(901);
  t.strictSame(seen, ['first 100', 'its turn', 'second 100', 'nested 105', 'late 1000']);
  t.equal(clock.now(), 1000);
  t.ok(clock.idle);
});

t.test('a throwing function does not take the others with it', async (t) => {
  const clock = new ManualClock();
  const seen: number[] = [];
  clock.defer(() => seen.push(1));
  clock.defer(() => {
    throw new Error('bad');
  });
  clock.defer(() => seen.push(2));
  t.throws(() => clock.turn(), /bad/);
  clock.settle();
  t.strictSame(seen, [1, 2]);
});

t.test('advanceAsync lets promises settle on the way', async (t) => {
  const clock = new ManualClock();
  let done = false;
  const work = (async () => {
    await new Promise<void>((resolve) => clock.setTimer(resolve, 50));
    await new Promise<void>((resolve) => clock.defer(resolve));
    await new Promise<void>((resolve) => clock.setTimer(resolve, 50));
    done = true;
  })();
  await clock.advanceAsync(100);
  await work;
  t.ok(done);
  t.equal(clock.now(), 100);
});
