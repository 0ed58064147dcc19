/**
 * What the bytes of a device lie on, by numbers rather than names:
 *
 *     loop0 ──offset──▶ raw.img            nvme0n1p1 ──start──▶ nvme0n1            dm-0 ──somewhere in──▶ nvme0n1p2
 *
 * A filesystem is not looked through: a file's blocks move, and its disk is in use anyway.
 */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { deviceNumber, fileRange, type UnderlyingRange } from '../backend.js';

const SECTOR = 512;
const MAX_DEPTH = 32;

/** Of a device by its number (`'259:1'`), or of a path. */
export function underlying(root: string, of: string | { readonly number: string }): UnderlyingRange[] {
  const found: UnderlyingRange[] = [];
  const all = { start: 0, length: Number.POSITIVE_INFINITY, exact: true };
  if (typeof of === 'string') addPath(of, all);
  else addDevice(of.number, all);
  return found;

  function addPath(path: string, range: Omit<UnderlyingRange, 'on' | 'name'>): void {
    const device = blockDevice(path);
    if (device !== null) addDevice(device, range);
    else found.push({ ...fileRange(path), ...range });
  }

  function addDevice(number: string, range: Omit<UnderlyingRange, 'on' | 'name'>): void {
    const dir = directoryOf(root, number);
    const name = dir === null ? number : `/dev/${basename(dir).replaceAll('!', '/')}`;
    found.push({ on: `device ${number}`, name, ...range });
    if (dir === null || found.length > MAX_DEPTH) return;
    const { start, exact } = range;
    const length = Math.min(range.length, numberIn(dir, 'size') * SECTOR);
    const disk = existsSync(join(dir, 'partition')) ? textIn(dirname(dir), 'dev') : null;
    if (disk !== null) addDevice(disk, { start: start + numberIn(dir, 'start') * SECTOR, length, exact });
    const file = textIn(dir, 'loop/backing_file');
    if (file !== null) addPath(file, { start: start + numberIn(dir, 'loop/offset'), length, exact });
    for (const slave of namesIn(dir, 'slaves')) {
      const below = textIn(join(dir, 'slaves', slave), 'dev');
      const size = numberIn(join(dir, 'slaves', slave), 'size') * SECTOR;
      if (below !== null) addDevice(below, { start: 0, length: size, exact: false });
    }
  }
}

/** Its number; null for anything else, and for what cannot be looked at: opening it will say why. */
function blockDevice(path: string): string | null {
  try {
    const there = statSync(path, { bigint: true });
    return there.isBlockDevice() ? deviceNumber(there.rdev) : null;
  } catch {
    return null;
  }
}

function directoryOf(root: string, number: string): string | null {
  try {
    return realpathSync(join(root, 'sys/dev/block', number));
  } catch {
    return null;
  }
}

function textIn(dir: string, name: string): string | null {
  try {
    return readFileSync(join(dir, name), 'utf8').replace(/\n$/, '') || null;
  } catch {
    return null;
  }
}

function numberIn(dir: string, name: string): number {
  const value = Number(textIn(dir, name) ?? 0);
  return Number.isSafeInteger(value) ? value : 0;
}

function namesIn(dir: string, name: string): string[] {
  try {
    return readdirSync(join(dir, name)).sort();
  } catch {
    return [];
  }
}
