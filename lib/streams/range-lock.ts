/**
 * Locks on ranges of devices, within this process. Whoever changes a part of a block reads the block and writes it back, and
 * nobody else may write to it in between:
 *
 *     whole blocks ── shared ────▶ side by side, whatever they overlap
 *     part of one  ── exclusive ─▶ waits for all that overlap it, and they for it
 *
 * Served in the order of their coming, so that nobody waits for ever. Keyed by what the bytes lie on: two names of one
 * device share a lock.
 */
import type { UnderlyingRange } from '../backend/backend.js';

interface Lock {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  readonly granted: (release: () => void) => void;
}

/** A range of bytes of what `on` names, to be changed by somebody alone, or beside others. */
export type Range = Omit<Lock, 'granted'> & { readonly on: string };

const devices = new Map<string, { held: Lock[]; waiting: Lock[] }>();

/** Where a target's byte 0 lies for its locks: as deep as it is known exactly. */
export function lockPlace(
  underlying: readonly UnderlyingRange[],
  path: string,
): { on: string; base: number } {
  const exact = underlying.findLast((range) => range.exact);
  return exact === undefined ? { on: path, base: 0 } : { on: exact.on, base: exact.start };
}

/** Call `granted` once the range is held, perhaps at once, with what lets go of it. */
export function lockRange({ on, ...range }: Range, granted: Lock['granted']): void {
  const device = devices.get(on) ?? { held: [], waiting: [] };
  devices.set(on, device);
  device.waiting.push({ ...range, granted });
  grant(on);
}

/** How many devices have locks now. */
export function lockedDevices(): number {
  return devices.size;
}

function grant(on: string): void {
  const device = devices.get(on)!;
  const { held, waiting } = device;
  const granted: Lock[] = [];
  for (const lock of [...waiting]) {
    const before = waiting.slice(0, waiting.indexOf(lock));
    if ([...held, ...before].some((other) => isInTheWay(other, lock))) continue;
    waiting.splice(before.length, 1);
    held.push(lock);
    granted.push(lock);
  }
  if (held.length === 0 && waiting.length === 0) devices.delete(on);
  for (const lock of granted) {
    lock.granted(() => {
      held.splice(held.indexOf(lock), 1);
      grant(on);
    });
  }
}

function isInTheWay(other: Lock, lock: Lock): boolean {
  return (lock.exclusive || other.exclusive) && lock.start < other.end && other.start < lock.end;
}
