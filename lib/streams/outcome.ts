import { type Deferred, deferred } from './transfer.js';

type Result<T> = { readonly value: T } | { readonly error: Error };

/** Something that will happen once, or fail. The promise for it is only made if somebody asks for it. */
export class Outcome<T> {
  #result: Result<T> | null = null;
  #asked: Deferred<T> | null = null;

  /** Nobody has to handle its rejection. */
  get promise(): Promise<T> {
    if (this.#asked !== null) return this.#asked.promise;
    this.#asked = deferred<T>();
    this.#asked.promise.catch(() => {});
    if (this.#result !== null) this.#tell(this.#asked, this.#result);
    return this.#asked.promise;
  }

  /** It has happened. Later calls of this and of `reject` do nothing. */
  resolve(value: T): void {
    this.#settle({ value });
  }

  /** It has failed. Later calls of this and of `resolve` do nothing. */
  reject(error: Error): void {
    this.#settle({ error });
  }

  #settle(result: Result<T>): void {
    if (this.#result !== null) return;
    this.#result = result;
    if (this.#asked !== null) this.#tell(this.#asked, result);
  }

  #tell(asked: Deferred<T>, result: Result<T>): void {
    if ('error' in result) asked.reject(result.error);
    else asked.resolve(result.value);
  }
}
