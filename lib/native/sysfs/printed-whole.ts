/** `inspect.custom` of node:util, without loading it. */
const CUSTOM = Symbol.for('nodejs.util.inspect.custom');

/** What is read when it is asked for is shown by `console.log` like the rest, and not as `[Getter]`. */
export function printedWhole<T extends object>(facts: T): T {
  return Object.defineProperty(facts, CUSTOM, { value: () => ({ ...facts }) });
}
