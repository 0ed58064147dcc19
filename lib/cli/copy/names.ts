/**
 * The names that a disk may have on the line of `copy`. What a name stands for is said before anything is read or written.
 *
 *     nvme1n1                                        its name in /dev
 *     /dev/disk/by-id/nvme-Samsung_SSD_990_S6Z1…     udev's names; also without the folders
 *     S6Z1NJ0W123456                                 its serial number, if only one disk has it
 *     ./nvme1n1, /data/disk.img                      files: whatever has a slash and is no device
 *
 * A word that could mean a device or a file in this folder is refused. Choosing either would surprise whoever meant the other.
 */
import { existsSync } from 'node:fs';
import { posix } from 'node:path';
import type { Disk, System } from '../../index.js';
import { CommandError } from '../errors.js';
import { printable } from '../format.js';
import { diskText } from '../recognise.js';
import type { Ends } from './pipes.js';

const BY_ID = '/dev/disk/by-id/';

/** A word of the line and the device that it stands for. */
export interface Resolved {
  readonly given: string;
  /** `'nvme1n1'`. */
  readonly name: string;
  /** `'/dev/nvme1n1'`. */
  readonly path: string;
  /** Null: it is not a whole disk, or nothing is known of it. */
  readonly disk: Disk | null;
}

/** The ends with their devices in place of other names for them, and what is to be said about that. */
export function named(system: System, ends: Ends): { ends: Ends; resolved: Resolved[] } {
  let read: readonly Disk[] | null = null;
  const disks = () => (read ??= system.disks());
  const resolved: Resolved[] = [];
  const name = <T>(end: T | string): T | string => {
    const device = typeof end === 'string' ? resolve(system, disks, end) : null;
    if (device === null) return end;
    if (device.said) resolved.push(device);
    return device.use;
  };
  const source = name(ends.source);
  const destinations = ends.destinations.map(name);
  const shown = (old: string, now: unknown) => (typeof now === 'string' ? now : old);
  const names = {
    source: shown(ends.names.source, source),
    destinations: destinations.map((end, i) => shown(ends.names.destinations[i]!, end)),
  };
  return { ends: { ...ends, source, destinations, names }, resolved };
}

/** `S6Z1NJ0W123456 is /dev/nvme1n1: Samsung SSD 990 PRO 2TB, serial S6Z1NJ0W123456, 1.8 TiB`. */
export function resolvedText({ given, path, disk }: Resolved): string {
  return `${printable(given)} is ${printable(path)}${disk === null ? '' : `: ${diskText(disk)}`}`;
}

/** `use`: what the copy is given. `said`: whether the user wrote something else, or less. */
type Meaning = Resolved & { readonly use: string; readonly said: boolean };

/** Null: the word is the path of a file. @throws CommandError ERR_INVALID_ARG_VALUE: it could mean several things */
function resolve(system: System, disks: () => readonly Disk[], given: string): Meaning | null {
  const place = system.locate(given);
  const device = place === null || place.kind === 'file' ? null : place.layers[0]!.name;
  const bare = !given.includes('/');
  if (device !== null && bare) {
    refuseFile(given, `the device /dev/${device}`, `/dev/${device}`);
    const said = system.backend === 'native';
    return { ...meaning(disks, given, device), use: given, said };
  }
  if (device !== null) {
    return { ...meaning(disks, given, device), use: given, said: posix.basename(given) !== device };
  }
  const id = given.startsWith(BY_ID) ? given.slice(BY_ID.length) : given;
  if (id.includes('/')) return null;
  const found = disks().filter(({ serial, ids }) => ids.includes(id) || (bare && serial === id));
  if (found.length > 1) throw ambiguous(given, found);
  const [disk] = found;
  if (disk === undefined) return null;
  if (bare)
    refuseFile(given, `a name of the disk /dev/${disk.name} (${diskText(disk)})`, `/dev/${disk.name}`);
  return { ...meaning(disks, given, disk.name), use: disk.name, said: true };
}

function meaning(disks: () => readonly Disk[], given: string, name: string): Resolved {
  return { given, name, path: `/dev/${name}`, disk: disks().find((disk) => disk.name === name) ?? null };
}

/** @throws CommandError if there is also a file with this name in this folder */
function refuseFile(given: string, what: string, path: string): void {
  if (!existsSync(given)) return;
  throw new CommandError(
    'ERR_INVALID_ARG_VALUE',
    `'${given}' is ${what}, and there is a file with this name in this folder`,
    `For the device write ${path}, for the file ./${given}.`,
  );
}

function ambiguous(given: string, found: readonly Disk[]): CommandError {
  const candidates = found.map((disk) => `/dev/${disk.name} (${diskText(disk)})`).join('; ');
  return new CommandError(
    'ERR_INVALID_ARG_VALUE',
    `'${given}' is the serial number of ${found.length} disks: ${candidates}`,
    'Name the one that you mean by its name in /dev.',
  );
}
