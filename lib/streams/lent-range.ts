import type { BlockTarget, PumpAccount } from '../backend/backend.js';
import { addPath } from '../backend/path-bytes.js';
import type { WriteTally } from './write-tally.js';

/** Whole blocks of a writer's target that a pump writes in the writer's place. What it did is the writer's tally's. */
export class LentRange {
  readonly target: BlockTarget;
  /** Where it begins. */
  readonly position: number;
  /** How long it is. */
  readonly bytes: number;
  /** Set by whoever writes it: somebody else waits, so come to an end. */
  onStop: (() => void) | null = null;
  readonly #tally: WriteTally;
  readonly #over: (moved: number) => void;
  /** Bytes of it that are written, from its beginning on without a gap. */
  #moved = 0;
  #inFlight = 0;
  #stopped = false;

  /** @param over called with how many bytes were written in the end */
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

  /** Somebody waits. */
  get stopped(): boolean {
    return this.#stopped;
  }

  stop(): void {
    this.#stopped = true;
    this.onStop?.();
  }

  /** So much more was done, of which `moved` bytes without a gap. `peer`: from a CMB. */
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

  /** Nothing of it is in flight any more. */
  end(): void {
    this.#over(this.#moved);
  }
}
