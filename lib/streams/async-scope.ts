import { AsyncResource } from 'node:async_hooks';

/**
 * The async context in which a stream was created. AsyncLocalStorage has this context in all code that the stream's events,
 * callbacks and promises run. Many streams share one I/O engine, so a completion arrives in an arbitrary context. Calls from
 * there to a user's code must therefore go through `run`.
 */
export class AsyncScope extends AsyncResource {
  constructor() {
    super('P2PDMASTREAM');
  }

  /** Call `fn` in this context. */
  run<Args extends unknown[], Result>(fn: (...args: Args) => Result, ...args: Args): Result {
    return this.runInAsyncScope(fn, undefined, ...args);
  }

  /** A version of `fn` that can be called from any context, and runs `fn` in this one. */
  wrap<Args extends unknown[]>(fn: (...args: Args) => void): (...args: Args) => void {
    return (...args) => this.run(fn, ...args);
  }
}
