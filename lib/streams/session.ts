import {
  type Backend,
  type BlockTarget,
  type LeakReport,
  type OpenOptions,
  type Origin,
  originOf,
} from '../backend/backend.js';
import { P2pdmaError } from '../base/errors.js';
import { Members } from '../base/members.js';
import { AheadBudget } from './ahead-budget.js';
import {
  copyMetrics,
  type Flow,
  flowOf,
  type Metered,
  type Metrics,
  metricsChannel,
  noMetrics,
  type PoolUse,
} from './metrics.js';
import { SpareMemory } from './spare-memory.js';

/** Anything that a system has to shut down before its backend can be closed. */
interface Closable {
  /** Stop now, and wait for what is in flight. Rejects if closing it fails; then it is closed all the same. */
  shutdown(): Promise<void>;
}

/** A target that belongs to a system, from the moment when it begins to open. */
class Opened implements Closable {
  readonly #opening: Promise<BlockTarget>;

  constructor(opening: Promise<BlockTarget>) {
    this.#opening = opening;
  }

  shutdown(): Promise<void> {
    return this.#opening.then(
      (target) => target.close(),
      () => {},
    );
  }
}

/** What the metrics need to know about a slot pool. */
interface Pool {
  readonly provider: { readonly bdf: string } | null;
  readonly bytes: number;
  readonly slots: readonly unknown[];
  readonly inUse: number;
}

/**
 * What every stream, target and allocation of one System shares: the backend, and the list of what is
 * still open, so that closing the system closes everything in a safe order.
 */
export class StreamContext {
  readonly backend: Backend;
  readonly #open = new Members<Closable>();
  readonly #targets = new WeakMap<BlockTarget, Closable>();
  /** True from the beginning of `close()`, so also for what it shuts down. */
  #closed = false;
  #closing: Promise<LeakReport> | null = null;
  /** The number of mappings that are not unmapped yet. */
  mappings = 0;
  /** Memory that no stream uses. */
  readonly spare = new SpareMemory();
  /** What readers have read ahead for consumers that get Buffers of their own. */
  readonly ahead = new AheadBudget();
  /** The pools that are not unmapped yet. */
  readonly pools = new Members<Pool>();
  /** The totals of everything that is closed. */
  #totals: Metrics;
  #counted = new WeakSet<object>();

  constructor(backend: Backend) {
    this.backend = backend;
    this.#totals = noMetrics(this.origin);
  }

  get origin(): Origin {
    return originOf(this.backend);
  }

  get closed(): boolean {
    return this.#closed;
  }

  add(closable: Closable): void {
    this.assertOpen();
    this.#open.add(closable);
  }

  remove(closable: Closable): void {
    if (!this.#open.delete(closable) || !isMetered(closable)) return;
    closable.meter(this.#totals);
    if (!metricsChannel.hasSubscribers) return;
    metricsChannel.publish({
      ...this.origin,
      closed: closable.metered,
      path: closable.meteredPath,
      metrics: this.metrics(),
      flow: flowOf(closable),
    });
  }

  /** Count an error by its code. Each error object is counted once. */
  failed(error: unknown): void {
    if (typeof error !== 'object' || error === null || this.#counted.has(error)) return;
    this.#counted.add(error);
    const { code, name } = error as { code?: unknown; name?: unknown };
    const { errors } = this.#totals;
    const key = String(code ?? name ?? 'unknown');
    errors[key] = (errors[key] ?? 0) + 1;
  }

  metrics(): Metrics {
    const sum = copyMetrics(this.#totals);
    for (const closable of this.#open) {
      if (!isMetered(closable)) continue;
      sum.open[`${closable.metered}s`]++;
      closable.meter(sum);
    }
    return { ...sum, pools: poolUse(this.pools), p2pmem: this.closed ? [] : this.#p2pmem() };
  }

  /** What each open stream has moved so far. */
  flows(): Flow[] {
    return [...this.#open].flatMap((closable) => (isMetered(closable) ? (flowOf(closable) ?? []) : []));
  }

  #p2pmem(): Metrics['p2pmem'] {
    const { memory, topology } = this.backend;
    return topology.functions.flatMap((pdev) =>
      pdev.p2pmem === null
        ? []
        : [{ provider: pdev.bdf, size: pdev.p2pmem.size, available: memory.available(pdev) }],
    );
  }

  assertOpen(): void {
    if (this.closed) throw closedSystem();
  }

  /** The backend's openTarget(), so that closing the system also closes the target. Close the target with `closeTarget`. */
  openTarget(nameOrPath: string, options: OpenOptions): Promise<BlockTarget> {
    if (this.closed) return Promise.reject(closedSystem());
    return this.adopt(this.backend.openTarget(nameOrPath, options));
  }

  /** Make it this system's target, so that closing the system also closes it. */
  adopt(opening: Promise<BlockTarget>): Promise<BlockTarget> {
    const opened = new Opened(opening);
    this.#open.add(opened);
    return opening.then(
      (target) => {
        this.#targets.set(target, opened);
        return target;
      },
      (error: unknown) => {
        this.#open.delete(opened);
        this.failed(error);
        throw error;
      },
    );
  }

  /** It is closed also if this rejects because close(2) said that data was lost. */
  closeTarget(target: BlockTarget): Promise<void> {
    const forget = () => this.#forget(target);
    return target.close().then(forget, (error: unknown) => {
      forget();
      throw error;
    });
  }

  #forget(target: BlockTarget): void {
    const opened = this.#targets.get(target);
    if (opened === undefined) return;
    this.#open.delete(opened);
    this.#targets.delete(target);
  }

  /**
   * Shut down everything, newest first (streams depend on targets, and targets on the machine), and then the backend.
   * Chunks that are lent to a consumer are detached: using them throws from then on.
   * @throws P2pdmaError the first error of closing something, after everything is closed
   */
  close(): Promise<LeakReport> {
    this.#closed = true;
    this.#closing ??= (async () => {
      let failed: unknown = null;
      for (const closable of [...this.#open].reverse()) {
        await closable.shutdown().catch((error) => {
          failed ??= error;
        });
      }
      this.spare.close();
      const report = await this.backend.close();
      if (failed !== null) throw failed;
      report.slots += this.mappings;
      return report;
    })();
    return this.#closing;
  }
}

function closedSystem(): P2pdmaError {
  return new P2pdmaError('ERR_STREAM_DESTROYED', 'the system is closed');
}

function isMetered(closable: Closable & Partial<Metered>): closable is Closable & Metered {
  return closable.metered !== undefined;
}

function poolUse(pools: Iterable<Pool>): PoolUse[] {
  const rows = new Map<string | null, PoolUse>();
  for (const { provider, bytes, slots, inUse } of pools) {
    const key = provider?.bdf ?? null;
    const row = rows.get(key);
    rows.set(key, {
      provider: key,
      pools: (row?.pools ?? 0) + 1,
      bytes: (row?.bytes ?? 0) + bytes,
      slots: (row?.slots ?? 0) + slots.length,
      inUse: (row?.inUse ?? 0) + inUse,
    });
  }
  return [...rows.values()];
}
