import t from 'tap';
import { Pace } from '../../lib/streams/pace.js';
import { fc } from '../helpers/random.js';

/** A pace makes up for that much lateness. */
const SLACK_MS = 100;

t.test('over any time, no more than the rate allows, but for one transfer and the slack', async (t) => {
  const transfer = fc.record({ bytes: fc.integer({ min: 1, max: 5000 }), late: fc.nat(300) });
  let waited = 0;
  fc.assert(
    fc.property(fc.array(transfer, { maxLength: 30 }), fc.integer({ min: 1, max: 100 }), (all, perMs) => {
      const pace = new Pace(perMs * 1000);
      const begun: { at: number; bytes: number }[] = [];
      let now = 5000;
      for (const { bytes, late } of all) {
        const delay = pace.delay(now);
        if (delay > 0) waited++;
        // It does not begin before it is due, and perhaps later: timers are.
        now += delay + (late > 200 ? late : 0);
        pace.spend(bytes, now);
        begun.push({ at: now, bytes });
      }
      return begun.every(({ at: from }, first) => {
        let sum = 0;
        return begun.slice(first).every(({ at, bytes }) => {
          const right = sum <= (at - from + SLACK_MS) * perMs + 1e-6;
          sum += bytes;
          return right;
        });
      });
    }),
  );
  t.ok(waited > 0, 'some had to wait');
});

t.test('the next is due when the one before would have been through', async (t) => {
  const pace = new Pace(1_000_000);
  t.equal(pace.delay(0), 0, 'nothing was spent');
  pace.spend(200_000, 0);
  t.equal(pace.delay(0), 200);
  pace.spend(100_000, 200);
  t.equal(pace.delay(200), 100);
  t.equal(pace.delay(250), 50);
  t.equal(pace.delay(300), 0);
  pace.spend(100_000, 10_000);
  t.equal(pace.delay(10_000), 0, 'late: up to 100 ms are made up for');
  pace.spend(100_000, 10_000);
  t.equal(pace.delay(10_000), 100, 'and no more, however late it was');
});

t.test('a rate is a number above 0', async (t) => {
  for (const rate of [0, -1, Number.NaN]) t.throws(() => new Pace(rate), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => new Pace('1M' as unknown as number), { code: 'ERR_INVALID_ARG_TYPE' });
  const shared = new Pace(5);
  t.same([Pace.of(undefined), Pace.of(shared) === shared], [null, true]);
  const [a, b] = [Pace.of(1000)!, Pace.of(1000)!];
  a.spend(500, 100);
  t.same([a.delay(100), b.delay(100)], [400, 0], 'each its own');
});
