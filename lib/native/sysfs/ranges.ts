/**
 * The underlying devices of a device's bytes, identified by numbers rather than names:
 *
 *     loop0 ──offset──▶ raw.img            nvme0n1p1 ──start──▶ nvme0n1            dm-0 ──somewhere in──▶ nvme0n1p2
 *
 * Filesystems are not traversed: a file's blocks move, and its disk is in use anyway. A path in a captured tree
 * belongs to the other machine and is not looked up here.
 */
import type { UnderlyingRange } from '../../backend/backend.js';
import { fileRange, openFileRange } from '../../host/file-range.js';
import { type BlockDevices, type BlockDir, numberOf } from './devices.js';
import { MAX_SECTORS } from './nvme.js';
import type { SysfsDir } from './tree.js';

const SECTOR = 512;
const MAX_DEPTH = 32;

type Part = Omit<UnderlyingRange, 'on' | 'name'>;

/** The ranges under a device given by its number (`'259:1'`), or under a path. */
export function underlying(
  devices: BlockDevices,
  of: string | { readonly number: string },
): UnderlyingRange[] {
  const way = new WayDown(devices);
  const all = { start: 0, length: Number.POSITIVE_INFINITY, exact: true };
  if (typeof of === 'string') way.addPath(of, all);
  else way.addDevice(of.number, all);
  return way.found;
}

/** A walk through the layers, from the top. */
class WayDown {
  readonly found: UnderlyingRange[] = [];
  readonly #devices: BlockDevices;

  constructor(devices: BlockDevices) {
    this.#devices = devices;
  }

  addPath(path: string, range: Part): void {
    const { live } = this.#devices;
    const there = live ? this.#devices.statOf(path) : null;
    if (there?.isBlockDevice) this.addDevice(there.device, range);
    else if (there !== null) this.found.push(Object.assign(openFileRange(path, there.identity), range));
    else if (live) this.found.push({ ...fileRange(path, null), ...range });
    else this.found.push({ on: `file ${path}`, name: path, ...range });
  }

  addDevice(number: string, range: Part): void {
    const device = this.#devices.byNumber(number);
    const name = device === null ? number : `/dev/${device.name.replaceAll('!', '/')}`;
    this.found.push({ on: `device ${number}`, name, ...range });
    if (device === null || this.found.length > MAX_DEPTH) return;
    const { dir } = device;
    const within = { ...range, length: Math.min(range.length, bytesIn(dir, 'size')) };
    this.#addDisk(device, within);
    this.#addBackingFile(dir, within);
    this.#addSlaves(dir);
  }

  #addDisk(device: BlockDir, { start, length, exact }: Part): void {
    const { dir } = device;
    const disk = dir.has('partition') ? this.#devices.diskOf(device) : null;
    const on = disk === null ? null : numberOf(disk.dir);
    if (on !== null) this.addDevice(on, { start: start + bytesIn(dir, 'start'), length, exact });
  }

  #addBackingFile(dir: SysfsDir, { start, length, exact }: Part): void {
    const file = dir.line('loop/backing_file', { optional: true });
    const offset = dir.number('loop/offset', { optional: true }) ?? 0;
    if (file) this.addPath(file, { start: start + offset, length, exact });
  }

  #addSlaves(dir: SysfsDir): void {
    for (const slave of dir.dir('slaves', { optional: true })?.names() ?? []) {
      const below = dir.dir(`slaves/${slave}`, { optional: true });
      const on = below === null ? null : numberOf(below);
      if (on !== null) this.addDevice(on, { start: 0, length: bytesIn(below!, 'size'), exact: false });
    }
  }
}

/** An attribute that is in sectors, converted to bytes. */
function bytesIn(dir: SysfsDir, name: string): number {
  return (dir.number(name, { max: MAX_SECTORS, optional: true }) ?? 0) * SECTOR;
}
