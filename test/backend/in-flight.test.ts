import t from 'tap';
import { InFlight } from '../../lib/backend/in-flight.js';

t.test('idle is when the last one leaves, and not before', async (t) => {
  const inFlight = new InFlight();
  inFlight.enter();
  inFlight.enter();
  let idle = false;
  const waiting = inFlight.idle().then(() => {
    idle = true;
  });
  t.equal(inFlight.leave(), false);
  await new Promise(setImmediate);
  t.equal(idle, false);
  t.equal(inFlight.count, 1);
  t.equal(inFlight.leave(), true);
  await waiting;
  inFlight.enter();
  t.equal(inFlight.leave(), true, 'with nobody waiting');
  t.equal(inFlight.count, 0);
});
