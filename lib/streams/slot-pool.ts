/**
 * A CMB is small (16 MB is common), so chunks are slots of a pool. Only the account kept here decides when a slot may be
 * overwritten: every user of a slot is counted here, and must give the slot back.
 *
 *     take()          hold(), once for each writer        unhold() by each, when its DMA is done
 *     FREE ─▶ filling ─────────────────────▶ held ───────────────────────────────────────▶ FREE
 *                └────── lent to the user (memory: 'cmb') ─────── release(chunk) ──────────▲
 *
 * A slot is free again only when it is neither being filled, nor lent, nor held.
 */
import type { Mapping } from '../backend/backend.js';
import type { PciDev } from '../backend/topology.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { Outcome } from './outcome.js';
import { poisoned } from './poison.js';
import type { StreamContext } from './session.js';
import type { SpareMemory } from './spare-memory.js';

export class Slot {
  readonly pool: SlotPool;
  readonly buffer: Buffer;
  /** A DMA into it is in flight, or its data was not delivered yet. */
  filling = false;
  /** It is lent to a consumer, which must release() it. */
  lent = false;
  /** The number of writers that accepted it and have not finished with it. */
  holds = 0;

  /** True if its drive was removed, and the memory with it. */
  get isGone(): boolean {
    return this.buffer.length === 0;
  }

  /** Its first `bytes` bytes, or nothing if it is gone. */
  view(bytes: number): Buffer {
    return this.isGone || bytes === this.buffer.length ? this.buffer : this.buffer.subarray(0, bytes);
  }

  constructor(pool: SlotPool, buffer: Buffer) {
    this.pool = pool;
    this.buffer = buffer;
  }

  hold(): void {
    this.holds++;
  }

  /** One writer is done with it. */
  unhold(): void {
    this.holds--;
    this.settle();
  }

  /** Give it back to the pool if nothing needs it any more. */
  settle(): void {
    if (this.holds === 0 && !this.filling && !this.lent) this.pool.giveBack(this);
  }
}

/** @throws P2pdmaError ERR_CHUNK_TOO_LARGE */
export function assertChunkFits(chunk: number, { bdf, p2pmem }: PciDev): void {
  const size = p2pmem?.size ?? 0;
  if (chunk <= size) return;
  const what = `a chunk of ${chunk} bytes does not fit the CMB of ${bdf} (${size} bytes)`;
  throw optionError('ERR_CHUNK_TOO_LARGE', 'highWaterMark', what, { received: chunk });
}

const pools = new WeakMap<ArrayBufferLike, SlotPool>();

/** The slot that contains a chunk, a subarray of a chunk, or a Buffer over it; null for other memory. */
export function slotOf(chunk: Uint8Array): Slot | null {
  const pool = pools.get(chunk.buffer);
  return pool === undefined ? null : pool.slotAt(chunk.byteOffset);
}

/** The slots that contain these chunks. */
export function slotsOf(chunks: readonly Uint8Array[]): readonly Slot[] {
  const slots: Slot[] = [];
  for (const chunk of chunks) {
    const slot = slotOf(chunk);
    if (slot !== null) slots.push(slot);
  }
  return slots;
}

export class SlotPool {
  readonly slotBytes: number;
  readonly slots: readonly Slot[];
  /** Called when a slot has become free. */
  onFree: (() => void) | null = null;
  #context: StreamContext;
  #mapping: Mapping;
  readonly #spare: SpareMemory | null;
  #free: Slot[];
  #closing = false;
  #isMapped = true;
  readonly #unmapped = new Outcome<void>();

  /**
   * `count` slots of `slotBytes` (both ≥ 1) in one mapping.
   * @param spare where host memory comes from and goes to; null: it is mapped, and unmapped at the end
   * @throws P2pdmaError ENOMEM, ENODEV, EACCES from the mapping
   */
  constructor(
    context: StreamContext,
    provider: PciDev | null,
    slotBytes: number,
    count: number,
    spare: SpareMemory | null = null,
  ) {
    const { memory } = context.backend;
    const bytes = slotBytes * count;
    this.#context = context;
    this.#spare = provider === null ? spare : null;
    if (provider !== null) this.#mapping = memory.mmapP2pmem(provider, bytes);
    else this.#mapping = spare?.take(memory, bytes) ?? memory.allocHost(bytes);
    context.mappings++;
    this.slotBytes = slotBytes;
    const { buffer } = this.#mapping;
    const slots: Slot[] = [];
    for (let at = 0; at < bytes; at += slotBytes)
      slots.push(new Slot(this, Buffer.from(buffer, at, slotBytes)));
    this.slots = slots;
    this.#free = slots.toReversed();
    pools.set(this.#mapping.buffer, this);
    context.pools.add(this);
  }

  get provider(): PciDev | null {
    return this.#mapping.provider;
  }

  /** The size of its memory. */
  get bytes(): number {
    return this.slotBytes * this.slots.length;
  }

  /** Slots that are not free. */
  get inUse(): number {
    return this.slots.length - this.#free.length;
  }

  get closing(): boolean {
    return this.#closing;
  }

  slotAt(byteOffset: number): Slot | null {
    return this.slots[Math.floor(byteOffset / this.slotBytes)] ?? null;
  }

  take(): Slot | null {
    const slot = this.#free.pop();
    if (slot === undefined) return null;
    slot.filling = true;
    if (!slot.isGone) poisoned(slot.buffer);
    return slot;
  }

  giveBack(slot: Slot): void {
    this.#free.push(slot);
    if (this.#closing) this.#unmapWhenIdle();
    else this.onFree?.();
  }

  /** Implements `release(chunk)` for chunks lent with `memory: 'cmb'`. */
  release(chunk: Uint8Array): void {
    const slot = slotOf(chunk);
    if (slot === null || slot.pool !== this || !slot.lent) {
      throw new P2pdmaError('ERR_NOT_LENT', 'release(): this chunk is not on loan from this stream');
    }
    slot.lent = false;
    slot.settle();
  }

  /** Allow no more reads into it. Resolves when every slot was given back and the memory is unmapped. */
  close(): Promise<void> {
    this.#closing = true;
    this.onFree = null;
    this.#unmapWhenIdle();
    return this.#unmapped.promise;
  }

  /**
   * Close without waiting for consumers: chunks that they still have on loan are detached, and using them throws. DMA in
   * flight is still awaited.
   */
  revoke(): Promise<void> {
    const closed = this.close();
    for (const slot of this.slots) {
      if (!slot.lent) continue;
      slot.lent = false;
      slot.settle();
    }
    return closed;
  }

  #unmapWhenIdle(): void {
    if (!this.#isMapped || this.#free.length < this.slots.length) return;
    this.#isMapped = false;
    if (this.#spare === null) {
      this.#mapping.munmap();
    } else {
      pools.delete(this.#mapping.buffer);
      this.#spare.giveBack(this.#mapping);
    }
    this.#context.mappings--;
    this.#context.pools.delete(this);
    this.#unmapped.resolve();
  }
}

/** Close the pool. If the system closes first, it waits for the slots in use and revokes those on loan. */
export function retirePool(context: StreamContext, pool: SlotPool): void {
  if (pool.inUse === 0) {
    void pool.close();
    return;
  }
  const closing = { shutdown: () => pool.revoke() };
  if (!context.closed) context.add(closing);
  pool.close().then(() => context.remove(closing));
}
