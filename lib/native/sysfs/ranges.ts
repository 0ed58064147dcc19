/**
 * What the bytes of a device lie on, by numbers rather than names:
 *
 *     loop0 ──offset──▶ raw.img            nvme0n1p1 ──start──▶ nvme0n1            dm-0 ──somewhere in──▶ nvme0n1p2
 *
 * A filesystem is not looked through: a file's blocks move, and its disk is in use anyway. A path that a captured
 * tree names is the other machine's, and is not looked at here.
 */
import { statSync } from 'node:fs';
import { deviceNumber, fileRange, type UnderlyingRange } from '../../backend/backend.js';
import { type BlockDevices, numberOf } from './devices.js';
import { MAX_SECTORS } from './nvme.js';
import type { SysfsDir } from './tree.js';

const SECTOR = 512;
const MAX_DEPTH = 32;

type Part = Omit<UnderlyingRange, 'on' | 'name'>;

/** Of a device by its number (`'259:1'`), or of a path. */
export function underlying(
  devices: BlockDevices,
  of: string | { readonly number: string },
): UnderlyingRange[] {
  const found: UnderlyingRange[] = [];
  const all = { start: 0, length: Number.POSITIVE_INFINITY, exact: true };
  if (typeof of === 'string') addPath(of, all);
  else addDevice(of.number, all);
  return found;

  function addPath(path: string, range: Part): void {
    const device = devices.live ? blockDevice(path) : null;
    if (device !== null) addDevice(device, range);
    else if (devices.live) found.push({ ...fileRange(path), ...range });
    else found.push({ on: `file ${path}`, name: path, ...range });
  }

  function addDevice(number: string, range: Part): void {
    const device = devices.byNumber(number);
    const name = device === null ? number : `/dev/${device.name.replaceAll('!', '/')}`;
    found.push({ on: `device ${number}`, name, ...range });
    if (device === null || found.length > MAX_DEPTH) return;
    const { dir } = device;
    const { start, exact } = range;
    const length = Math.min(range.length, bytesIn(dir, 'size'));
    const disk = dir.has('partition') ? devices.diskOf(device) : null;
    const onDisk = disk === null ? null : numberOf(disk.dir);
    if (onDisk !== null) addDevice(onDisk, { start: start + bytesIn(dir, 'start'), length, exact });
    const file = dir.line('loop/backing_file', { optional: true });
    const offset = dir.number('loop/offset', { optional: true }) ?? 0;
    if (file) addPath(file, { start: start + offset, length, exact });
    for (const slave of dir.dir('slaves', { optional: true })?.names() ?? []) {
      const below = dir.dir(`slaves/${slave}`, { optional: true });
      const on = below === null ? null : numberOf(below);
      if (on !== null) addDevice(on, { start: 0, length: bytesIn(below!, 'size'), exact: false });
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

/** An attribute in sectors. */
function bytesIn(dir: SysfsDir, name: string): number {
  return (dir.number(name, { max: MAX_SECTORS, optional: true }) ?? 0) * SECTOR;
}
