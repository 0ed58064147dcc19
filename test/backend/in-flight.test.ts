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
  await inFlight.idle();
  inFlight.enter();
  t.equal(inFlight.leave(), true, 'with nobody waiting');
  t.equal(inFlight.count, 0);
});

t.test('all who wait are told', async (t) => {
  const inFlight = new InFlight();
  await inFlight.idle();
  inFlight.enter();
  let told = 0;
  const waiting = [1, 2, 3].map(() => inFlight.idle().then(() => told++));
  await new Promise(setImmediate);
  t.equal(told, 0);
  inFlight.leave();
  inFlight.enter();
  await Promise.all(waiting);
  t.equal(told, 3);
  inFlight.leave();
  t.equal(told, 3, 'once each');
});
