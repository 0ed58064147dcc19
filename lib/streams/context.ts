import type { Backend, BlockTarget, LeakReport, OpenOptions } from '../backend/backend.js';
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
  #targets = new Map<BlockTarget, Closable>();
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

  /** The backend's openTarget(), for whatever closing the system must end or wait for. Give it to `closeTarget`. */
  async openTarget(nameOrPath: string, options: OpenOptions): Promise<BlockTarget> {
    this.assertOpen();
    const opening = this.backend.openTarget(nameOrPath, options);
    const closable: Closable = {
      shutdown: () =>
        opening.then(
          (target) => target.close(),
          () => {},
        ),
    };
    this.#open.add(closable);
    try {
      const target = await opening;
      this.#targets.set(target, closable);
      return target;
    } catch (error) {
      this.#open.delete(closable);
      throw error;
    }
  }

  async closeTarget(target: BlockTarget): Promise<void> {
    await target.close();
    const closable = this.#targets.get(target);
    if (closable !== undefined) this.#open.delete(closable);
    this.#targets.delete(target);
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
