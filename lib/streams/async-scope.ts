import { AsyncResource } from 'node:async_hooks';

/**
 * The async context in which a stream was made: AsyncLocalStorage shows it to all that the stream's events, callbacks and
 * promises run. A completion comes out of an engine that many streams share, in whichever context woke it, so what
 * leads from there to a user's code goes through `run`.
 */
export class AsyncScope extends AsyncResource {
  constructor() {
    super('P2PDMASTREAM');
  }

  /** Call `fn` in this context. */
  run<Args extends unknown[], Result>(fn: (...args: Args) => Result, ...args: Args): Result {
    return this.runInAsyncScope(fn, undefined, ...args);
  }

  /** `fn`, to be called from anywhere. */
  wrap<Args extends unknown[]>(fn: (...args: Args) => void): (...args: Args) => void {
    return (...args) => this.run(fn, ...args);
  }
}
