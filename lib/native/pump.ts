/**
 * A pump on the engine: C++ reads the chunks and writes them to the destinations, and JavaScript is called once, at the end.
 * Its progress is read from a table that both sides share.
 */
import type { PumpAccount, PumpFailure, PumpProgress, PumpRequest, PumpRun } from '../backend/backend.js';
import { loadAddon } from './addon.js';
import { type Completer, LAYOUT, OP_PUMP } from './engine.js';
import { memoryOf } from './memory.js';
import { type LentTarget, NativeTarget } from './target.js';

/** Start the pump, or decline; in that case nothing has happened. */
export function startPump(request: PumpRequest): PumpRun | null {
  const { source, destinations, slots, length } = request;
  if (slots.length === 0 || memoryOf(slots[0]!).errno !== 0) return null;
  const legs: LentTarget[] = [];
  const decline = () => {
    for (const leg of legs) leg.giveBack();
    return null;
  };
  for (const [i, { target, offset }] of [source, ...destinations].entries()) {
    const op = i === 0 ? 'read' : 'write';
    const leg = target instanceof NativeTarget ? target.lend(op, slots[0]!, offset + length) : null;
    if (leg === null) return decline();
    legs.push(leg);
  }
  // Requests that are submitted together complete together, so all must use one engine.
  if (legs.some(({ engine }) => engine !== legs[0]!.engine)) return decline();
  return new NativePump(request, legs as [LentTarget, ...LentTarget[]]);
}

class NativePump implements PumpRun, Completer<PumpRequest> {
  readonly over: Promise<PumpFailure | null>;
  readonly #legs: readonly LentTarget[];
  readonly #state: Float64Array;
  /** The values of the words at the last progress report. */
  readonly #told: Float64Array;
  #resolve!: (failure: PumpFailure | null) => void;

  constructor(request: PumpRequest, legs: readonly [LentTarget, ...LentTarget[]]) {
    const { source, destinations, length, chunk, depth, slots } = request;
    this.#legs = legs;
    // The buffer is allocated first: a small array without one keeps its words where the garbage collector may move them.
    const words = LAYOUT.pumpLegs + LAYOUT.pumpLegWords * legs.length;
    this.#state = new Float64Array(new ArrayBuffer(words * Float64Array.BYTES_PER_ELEMENT));
    this.#told = new Float64Array(words);
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    const [first] = slots as [Uint8Array];
    const memory = memoryOf(first);
    const stride = slots.length > 1 ? slots[1]!.byteOffset - first.byteOffset : first.byteLength;
    const [from, ...to] = legs;
    from.engine.command(this, request, {
      op: OP_PUMP,
      flags: from.flags,
      fd: from.fd,
      offset: source.offset,
      words: [
        ...[length, chunk, depth, memory.address + first.byteOffset, stride, slots.length, memory.mapping],
        loadAddon().addressOf(new Uint8Array(this.#state.buffer)),
        ...to.flatMap(({ fd, flags }, i) => [fd, flags, destinations[i]!.offset]),
      ],
    });
  }

  progress(): PumpProgress {
    const moved = this.#since(LAYOUT.pumpMoved);
    const [source, ...destinations] = this.#legs.map((_, leg) => this.#account(leg));
    return { moved, source: source!, destinations };
  }

  #account(leg: number): PumpAccount {
    const at = LAYOUT.pumpLegs + LAYOUT.pumpLegWords * leg;
    const bytes = this.#since(at + 1);
    const path = this.#legs[leg]!.pathOf(bytes);
    return { transfers: this.#since(at), bytes, path, inFlight: this.#state[at + 2]! };
  }

  /** How much a word has grown since the last call. */
  #since(word: number): number {
    const grown = this.#state[word]! - this.#told[word]!;
    this.#told[word]! += grown;
    return grown;
  }

  stop(): void {
    this.#state[LAYOUT.pumpStop] = 1;
  }

  /** The engine's completion. Until now, the request and with it the memory were kept alive. */
  completed(_request: PumpRequest, result: number): void {
    for (const leg of this.#legs) leg.giveBack();
    const leg = this.#state[LAYOUT.pumpFailedLeg]!;
    if (result < 0) this.#resolve({ destination: null, at: 0, result });
    else if (leg < 0) this.#resolve(null);
    else {
      this.#resolve({
        destination: leg === 0 ? null : leg - 1,
        at: this.#state[LAYOUT.pumpFailedAt]!,
        result: this.#state[LAYOUT.pumpFailedResult]!,
      });
    }
  }
}
