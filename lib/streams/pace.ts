import { wrongArgument } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';

/** How much lateness is made up for: timers come late, and what a slow drive left unused is not saved up for a burst. */
const SLACK_MS = 100;

/** A limit in bytes per second, for one stream or for several together: each transfer pushes the moment at which the next may begin. */
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

  /** What an option says: a limit of its own, one that several share, or none. @internal */
  static of(bandwidth: number | Pace | undefined): Pace | null {
    return typeof bandwidth === 'number' ? new Pace(bandwidth) : (bandwidth ?? null);
  }

  /** Milliseconds until the next transfer may begin; 0: now. @internal */
  delay(now: number): number {
    return Math.max(0, this.#due - now);
  }

  /** A transfer of so many bytes begins. @internal */
  spend(bytes: number, now: number): void {
    this.#due = Math.max(this.#due, now - SLACK_MS) + bytes / this.#bytesPerMs;
  }
}
