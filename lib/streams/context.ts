import type { Backend, LeakReport } from '../backend/backend.js';
import { P2pdmaError } from '../errors.js';

/** Anything a system has to end before its machine can be put away. */
interface Closable {
  /** Stop now, waiting for what is in flight. Must not reject. */
  shutdown(): Promise<void>;
}

/**
 * What every stream, target and allocation of one System shares: the backend, and the list of what is
 * still open, so that closing the system ends all of it in a safe order.
 */
export class StreamContext {
  readonly backend: Backend;
  #open = new Set<Closable>();
  #closing: Promise<LeakReport> | null = null;
  /** Mappings not yet given back. */
  mappings = 0;

  constructor(backend: Backend) {
    this.backend = backend;
  }

  get closed(): boolean {
    return this.#closing !== null;
  }

  add(closable: Closable): void {
    this.assertOpen();
    this.#open.add(closable);
  }

  remove(closable: Closable): void {
    this.#open.delete(closable);
  }

  assertOpen(): void {
    if (this.closed) throw new P2pdmaError('ERR_STREAM_DESTROYED', 'the system is closed');
  }

  /**
   * End everything, newest first (streams stand on targets, targets on the machine), then the backend.
   * What is lent to a consumer is detached: its use throws from then on.
   */
  close(): Promise<LeakReport> {
    this.#closing ??= (async () => {
      for (const closable of [...this.#open].reverse()) await closable.shutdown();
      const report = await this.backend.close();
      report.slots += this.mappings;
      return report;
    })();
    return this.#closing;
  }
}
