/** The progress of a copy, as passed to `onProgress` and printed by `p2pdma copy --json`: one object. */
import { type CopyOptions, chunkSize, depthAhead, depthOf, type Progress } from '../streams/options.js';

/** What is known at one moment. The speed can only be computed from several of them. */
export type Moment = Omit<Progress, 'type' | 'bytesPerSecond' | 'etaSeconds' | 'queueDepth'>;

export type Report = (now: Moment) => void;

/** A comparison reads one step ahead: verify.ts. */
const COMPARED_AT_ONCE = 2;

/**
 * Creates the reporter of one copy, used from its first phase to its last.
 * @param passedOn  a destination is a stream of another kind
 */
export function reportTo(options: CopyOptions, passedOn = false): Report | undefined {
  const { onProgress, highWaterMark } = options;
  if (onProgress === undefined) return undefined;
  const depth = passedOn ? depthAhead(options, chunkSize(highWaterMark, 1)) : depthOf(options);
  const rate = new Rate();
  return ({ phase, bytes, total, ...route }) => {
    const bytesPerSecond = rate.add(bytes, phase);
    const etaSeconds = timeLeft(bytes, total, bytesPerSecond);
    const queueDepth = phase === 'copy' ? depth : COMPARED_AT_ONCE;
    onProgress({ type: 'progress', phase, bytes, total, bytesPerSecond, etaSeconds, queueDepth, ...route });
  };
}

/** Bytes per second over the last few seconds of a phase; null: it was looked at once only, which tells no speed. */
class Rate {
  static readonly WINDOW_MS = 3000;
  #samples: { at: number; bytes: number }[] = [];
  #phase: Progress['phase'] | null = null;

  add(done: number, phase: Progress['phase']): number | null {
    if (phase !== this.#phase) this.#samples = [];
    this.#phase = phase;
    const now = performance.now();
    this.#samples.push({ at: now, bytes: done });
    while (this.#samples.length > 2 && now - this.#samples[0]!.at > Rate.WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0]!;
    return now === first.at ? null : Math.round(((done - first.bytes) / (now - first.at)) * 1000);
  }
}

function timeLeft(done: number, total: number | null, bytesPerSecond: number | null): number | null {
  if (total === null || bytesPerSecond === null || bytesPerSecond <= 0) return null;
  return Number((Math.max(0, total - done) / bytesPerSecond).toFixed(1));
}
