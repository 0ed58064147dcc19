/** The one of the runtime, whatever a test puts in its place later. */
const { setImmediate } = globalThis;

let turn = 0;
let isCounting = false;

const next = (): void => {
  turn++;
  isCounting = false;
};

/**
 * The number of this turn of the event loop, for what need not be asked of the kernel twice within one: all that happens before the
 * next setImmediate() callbacks is the same turn.
 */
export function thisTurn(): number {
  if (!isCounting) {
    isCounting = true;
    setImmediate(next);
  }
  return turn;
}
