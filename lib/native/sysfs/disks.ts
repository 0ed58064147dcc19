/**
 * What a person recognises a disk by. Model and serial number come from sysfs; the names in /dev/disk/by-id, and what is on
 * the disk, from udev, which wrote them down when it last looked at it. The disk itself is not read.
 */
import type { Disk, DiskRecord } from '../../backend/backend.js';
import { type BlockDevices, type BlockDir, numberOf, partitionsOf } from './devices.js';
import { MAX_SECTORS } from './nvme.js';
import type { SysfsDir, SysfsTree } from './tree.js';

/** Not disks, or made of disks: they have neither model nor serial number. */
const NO_DISK = /^(loop|ram|zram|dm-|md|nbd)\d|^nvme\d+c\d+n\d+$/;
const BY_ID = 'dev/disk/by-id';

/** @param only names of disks; default: all */
export function disksOf(tree: SysfsTree, devices: BlockDevices, only?: readonly string[]): Disk[] {
  const names = (only ?? devices.names()).filter((name) => !NO_DISK.test(name));
  const found = names.map((name) => devices.byName(name)).filter((disk) => disk !== null);
  if (found.length === 0) return [];
  const ids = namesById(tree);
  return found.filter(({ dir }) => !dir.has('partition')).map((disk) => diskOf(tree, disk, ids));
}

function diskOf(tree: SysfsTree, { name, dir }: BlockDir, ids: ReadonlyMap<string, string[]>): Disk {
  const properties = propertiesOf(tree, dir);
  const sectors = dir.number('size', { max: MAX_SECTORS, optional: true });
  return {
    name,
    size: sectors === null ? null : sectors * 512,
    model: attribute(dir, ['device/model', 'device/name']) ?? properties?.get('ID_MODEL') ?? null,
    serial: attribute(dir, ['device/serial', 'serial']) ?? properties?.get('ID_SERIAL_SHORT') ?? null,
    ids: ids.get(name) ?? [],
    record: recordOf(properties),
    partitions: partitionsOf(dir).map((part) => ({
      name: part.name,
      record: recordOf(propertiesOf(tree, part.dir)),
    })),
  };
}

/** The first of these that says something: a serial number of zeros or blanks identifies nothing. */
function attribute(dir: SysfsDir, paths: readonly string[]): string | null {
  for (const path of paths) {
    const value = dir.text(path, { optional: true });
    if (value !== null && /[^0\s.-]/.test(value)) return value;
  }
  return null;
}

/** By device name: the names below /dev/disk/by-id that lead to it, the shortest first. */
function namesById(tree: SysfsTree): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const folder = tree.dir(BY_ID, { optional: true });
  for (const id of folder?.names() ?? []) {
    const device = folder!.linkName(id);
    if (device !== null) found.set(device, [...(found.get(device) ?? []), id]);
  }
  for (const ids of found.values()) ids.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  return found;
}

/** A device's properties in udev's database; null: there is none. */
function propertiesOf(tree: SysfsTree, dir: SysfsDir): Map<string, string> | null {
  const number = numberOf(dir);
  const text = number === null ? null : tree.text(`run/udev/data/b${number}`, undefined, { optional: true });
  if (text === null) return null;
  const pairs = text.matchAll(/^E:([A-Z0-9_]+)=(.*)$/gm);
  return new Map([...pairs].map(([, name, value]) => [name!, value!]));
}

function recordOf(properties: Map<string, string> | null): DiskRecord | null {
  if (properties === null) return null;
  const said = (name: string): string | null => properties.get(name) || null;
  return {
    table: said('ID_PART_TABLE_TYPE'),
    type: said('ID_FS_TYPE'),
    label: decoded(said('ID_FS_LABEL_ENC')) ?? said('ID_FS_LABEL'),
    partitionLabel: decoded(said('ID_PART_ENTRY_NAME')),
  };
}

/** udev writes a blank as `\x20`. Bytes that are no UTF-8 stay as it wrote them. */
function decoded(text: string | null): string | null {
  const character = (_: string, digits: string) => String.fromCharCode(Number.parseInt(digits, 16));
  return text?.replace(/\\x([0-7][0-9a-f])/gi, character) ?? null;
}
