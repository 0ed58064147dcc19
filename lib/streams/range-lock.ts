/**
 * Locks on ranges of devices, within this process; an emulated machine's devices have locks of their own. To change a part of a
 * block, the block is read, changed and written back, and no other write to it may happen in between:
 *
 *     whole blocks  ── shared ────▶ run in parallel, even if they overlap
 *     part of block ── exclusive ─▶ waits for all locks that overlap it, and they wait for it
 *
 * Locks are granted in the order of the requests, so no request waits forever. The key is the device on which the bytes
 * are stored: two names of one device share a lock.
 */
import type { Backend, UnderlyingRange } from '../backend/backend.js';

interface Lock {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  readonly granted: (release: () => void) => void;
}

/** A range of bytes of the device that `on` names, for an exclusive or a shared lock. */
export type Range = Omit<Lock, 'granted'> & { readonly on: string };

/** Where a target's byte 0 is for its locks: on the lowest device for which this is known exactly. */
export function lockPlace(
  underlying: readonly UnderlyingRange[],
  path: string,
): { on: string; base: number } {
  const exact = underlying.findLast((range) => range.exact);
  return exact === undefined ? { on: path, base: 0 } : { on: exact.on, base: exact.start };
}

export class RangeLocks {
  readonly #devices = new Map<string, { held: Lock[]; waiting: Lock[] }>();

  /**
   * Call `granted` once the range is locked, possibly at once. Its argument is the function that releases the lock; a second
   * call of it does nothing.
   */
  lock({ on, ...range }: Range, granted: Lock['granted']): void {
    const device = this.#devices.get(on) ?? { held: [], waiting: [] };
    this.#devices.set(on, device);
    device.waiting.push({ ...range, granted });
    this.#grant(on);
  }

  /** The number of devices that have locks now. */
  get lockedDevices(): number {
    return this.#devices.size;
  }

  #grant(on: string): void {
    const { held, waiting } = this.#devices.get(on)!;
    const granted: Lock[] = [];
    for (const lock of [...waiting]) {
      const before = waiting.slice(0, waiting.indexOf(lock));
      if ([...held, ...before].some((other) => isInTheWay(other, lock))) continue;
      waiting.splice(before.length, 1);
      held.push(lock);
      granted.push(lock);
    }
    if (held.length === 0 && waiting.length === 0) this.#devices.delete(on);
    for (const lock of granted) {
      lock.granted(() => {
        const at = held.indexOf(lock);
        if (at === -1) return;
        held.splice(at, 1);
        this.#grant(on);
      });
    }
  }
}

/** The locks of the real devices, which all systems of this process share. */
const real = new RangeLocks();
/** An emulated machine that nobody closes takes its locks along. */
const emulated = new WeakMap<Backend, RangeLocks>();

/** The locks of the devices that this backend opens. */
export function locksOf(backend: Backend): RangeLocks {
  if (backend.machine === null) return real;
  const locks = emulated.get(backend) ?? new RangeLocks();
  emulated.set(backend, locks);
  return locks;
}

function isInTheWay(other: Lock, lock: Lock): boolean {
  return (lock.exclusive || other.exclusive) && lock.start < other.end && other.start < lock.end;
}
