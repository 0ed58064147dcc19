/** The number of a turn of the event loop. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import t from 'tap';
import { thisTurn } from '../../lib/base/turn.js';

t.test('the same in ticks and microtasks, another one in the next turn', async (t) => {
  await nextTurn();
  const turn = thisTurn();
  await null;
  t.equal(thisTurn(), turn);
  await new Promise<void>((resolve) => process.nextTick(resolve));
  t.equal(thisTurn(), turn);
  await nextTurn();
  t.not(thisTurn(), turn);
  const later = thisTurn();
  // Nobody asked for the number in these turns.
  for (let i = 0; i < 3; i++) await nextTurn();
  t.not(thisTurn(), later);
});
