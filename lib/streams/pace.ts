import { wrongArgument } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';

/** The most lateness that is compensated. Timers fire late, but time that a slow drive did not use must not cause a burst. */
const SLACK_MS = 100;

/**
 * A limit in bytes per second, for one stream or for several together. Each transfer postpones the time at which the next one
 * may begin.
 */
export class Pace {
  readonly #bytesPerMs: number;
  #due = 0;

  /** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE (not > 0) */
  constructor(bytesPerSecond: number) {
    if (typeof bytesPerSecond !== 'number')
      throw wrongArgument('Pace', 'bytesPerSecond', 'a number', bytesPerSecond);
    if (!(bytesPerSecond > 0)) {
      throw new P2pdmaError(
        'ERR_OUT_OF_RANGE',
        `Pace: bytesPerSecond must be > 0 (received ${bytesPerSecond})`,
      );
    }
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** The Pace that an option gives: a new one for a number, a shared one, or none. @internal */
  static of(bandwidth: number | Pace | undefined): Pace | null {
    return typeof bandwidth === 'number' ? new Pace(bandwidth) : (bandwidth ?? null);
  }

  /** Milliseconds until the next transfer may begin; 0: it may begin now. @internal */
  delay(now: number): number {
    return Math.max(0, this.#due - now);
  }

  /** Record that a transfer of this number of bytes begins. @internal */
  spend(bytes: number, now: number): void {
    this.#due = Math.max(this.#due, now - SLACK_MS) + bytes / this.#bytesPerMs;
  }
}
