import type { BlockTarget, PumpAccount } from '../backend/backend.js';
import { addPath } from '../backend/path-bytes.js';
import type { WriteTally } from './write-tally.js';

/** Whole blocks of a writer's target that a pump writes on behalf of the writer. The writer's tally counts them. */
export class LentRange {
  readonly target: BlockTarget;
  /** The offset at which it begins. */
  readonly position: number;
  /** Its length in bytes. */
  readonly bytes: number;
  /** Set by the one that writes the range. Called when another write waits, so that it stops. */
  onStop: (() => void) | null = null;
  readonly #tally: WriteTally;
  readonly #over: (moved: number) => void;
  /** The number of its bytes that are written, from its start without a gap. */
  #moved = 0;
  #inFlight = 0;
  #stopped = false;

  /** @param over called at the end with the number of bytes that were written */
  constructor(
    { target, position, bytes }: Pick<LentRange, 'target' | 'position' | 'bytes'>,
    tally: WriteTally,
    over: (moved: number) => void,
  ) {
    this.target = target;
    this.position = position;
    this.bytes = bytes;
    this.#tally = tally;
    this.#over = over;
  }

  /** True if another write waits for this range. */
  get stopped(): boolean {
    return this.#stopped;
  }

  stop(): void {
    this.#stopped = true;
    this.onStop?.();
  }

  /** Record further progress: `account`, and `moved` more bytes without a gap. `peer`: they came from a CMB. */
  did(moved: number, account: PumpAccount, peer: boolean): void {
    const tally = this.#tally;
    tally.written.add(this.position + this.#moved, moved);
    this.#moved += moved;
    tally.inFlight += account.inFlight - this.#inFlight;
    this.#inFlight = account.inFlight;
    tally.writes += account.transfers;
    addPath(tally.path, account.path);
    if (peer) tally.peerBytes += account.bytes;
    else tally.hostBytes += account.bytes;
  }

  /** End the range. None of its writes may be in flight any more. */
  end(): void {
    this.#over(this.#moved);
  }
}
