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

/** The locks of one device. */
interface Device {
  readonly held: Set<Lock>;
  /** In the order of the requests. */
  waiting: Lock[];
  /** How many of both are exclusive. Without one, no lock is in the way of another. */
  exclusive: number;
}

export class RangeLocks {
  readonly #devices = new Map<string, Device>();

  /**
   * Call `granted` once the range is locked, possibly at once. Its argument is the function that releases the lock; a second
   * call of it does nothing.
   */
  lock({ on, start, end, exclusive }: Range, granted: Lock['granted']): void {
    let device = this.#devices.get(on);
    if (device === undefined) {
      device = { held: new Set(), waiting: [], exclusive: 0 };
      this.#devices.set(on, device);
    }
    const lock = { start, end, exclusive, granted };
    if (exclusive) device.exclusive++;
    if (isBlocked(lock, device, device.waiting)) {
      device.waiting.push(lock);
      return;
    }
    device.held.add(lock);
    this.#give(on, device, lock);
  }

  /** The number of devices that have locks now. */
  get lockedDevices(): number {
    return this.#devices.size;
  }

  #give(on: string, device: Device, lock: Lock): void {
    lock.granted(() => {
      if (!device.held.delete(lock)) return;
      if (lock.exclusive) device.exclusive--;
      if (device.waiting.length > 0) this.#grant(on, device);
      else if (device.held.size === 0) this.#devices.delete(on);
    });
  }

  /** A lock was released: those that waited only for it are granted. */
  #grant(on: string, device: Device): void {
    const granted: Lock[] = [];
    const waiting: Lock[] = [];
    for (const lock of device.waiting) {
      if (isBlocked(lock, device, waiting)) {
        waiting.push(lock);
        continue;
      }
      device.held.add(lock);
      granted.push(lock);
    }
    device.waiting = waiting;
    for (const lock of granted) this.#give(on, device, lock);
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

/** Must the lock wait for one that is held, or for one of those `before` it that wait? */
function isBlocked(lock: Lock, { held, exclusive }: Device, before: readonly Lock[]): boolean {
  if (exclusive === 0) return false;
  for (const other of held) if (isInTheWay(other, lock)) return true;
  return before.some((other) => isInTheWay(other, lock));
}

function isInTheWay(other: Lock, lock: Lock): boolean {
  return (lock.exclusive || other.exclusive) && lock.start < other.end && other.start < lock.end;
}
