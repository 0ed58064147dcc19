/**
 * Finds out what a name or path refers to, and what it would be if it were opened as a source or destination of a copy. Nothing
 * is opened for this.
 */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { End, Place, UnderlyingRange } from '../../backend/backend.js';
import type { PciDev } from '../../backend/topology.js';
import { deviceIdentity } from './identity.js';
import type { BlockInfo, Sysfs } from './machine.js';
import { PathStat } from './path-stat.js';
import { underlying } from './ranges.js';

/** An end, and the facts from which it was derived. */
export interface Look {
  readonly end: End;
  readonly info: BlockInfo | null;
  /** The file that was found, by its st_dev and st_ino: `info` is valid for this file. Null: it was not a file. */
  readonly file: string | null;
  /** The directory that the path is in, if nothing was there: `info` is valid as long as `nothingIn` says so. */
  readonly nothingIn: string | null;
}

const UNKNOWN = {
  client: null,
  legs: null,
  noP2pReason: 'nothing is known of its block device',
  noP2pByCommand: 'nothing is known of its block device',
  unproven: null,
} as const;

export function inspect(sysfs: Sysfs, nameOrPath: string): Look {
  return sysfs.together(() => lookAt(sysfs, nameOrPath));
}

function lookAt(sysfs: Sysfs, nameOrPath: string): Look {
  const { devices } = sysfs;
  const info = sysfs.blockInfo(nameOrPath);
  const path = pathOf(nameOrPath, info);
  const { client, legs, noP2pReason, noP2pByCommand, unproven } = info ?? UNKNOWN;
  const end: End = {
    path,
    kind: info?.kind ?? 'file',
    size: info?.size ?? null,
    ...{ client, legs, noP2pReason, noP2pByCommand, unproven },
    inUse: info?.inUse.words ?? null,
    readOnly: info?.readOnly ?? false,
    identity: info === null || info.kind === 'file' ? null : deviceIdentity(devices, info.name!),
    endsWithProcess: false,
    ranges: rangesOf(sysfs, path, info),
    place: placeOf(nameOrPath, info),
  };
  // A device is looked at again, because its users and even the drive itself can change at any moment.
  const ours = sysfs.live && info?.kind === 'file';
  const stat = ours ? devices.statOf(nameOrPath) : null;
  const file = stat?.isFile === true ? stat.identity : null;
  return {
    ...{ end, info, file },
    nothingIn: ours && stat === null ? nothingIn(nameOrPath, (path) => devices.statOf(path)) : null,
  };
}

/** `'nvme0n1'` means its device node; a string with a slash, or one that is not a device's name, is a path. */
export function pathOf(nameOrPath: string, info: BlockInfo | null): string {
  if (!nameOrPath.includes('/') && info !== null && info.kind !== 'file' && info.device !== null)
    return info.device;
  return nameOrPath;
}

/** The target itself, then the devices or files that hold its bytes. */
export function rangesOf(sysfs: Sysfs, path: string, info: BlockInfo | null): UnderlyingRange[] {
  return [...(info?.ranges ?? underlying(sysfs.devices, path))];
}

/** Whether the path leads to this file, which is given by its st_dev and st_ino. */
export function isSameFile(path: string, identity: string): boolean {
  const there = PathStat.of(path);
  return there?.isFile === true && there.identity === identity;
}

/** The st_dev and st_ino of the directory in which a file would be created; null: something is there, or no directory. */
export function nothingIn(path: string, stat = PathStat.of): string | null {
  if (stat(path) !== null) return null;
  return stat(dirname(resolve(path)))?.identity ?? null;
}

function placeOf(nameOrPath: string, info: BlockInfo | null): Place | null {
  if (info === null) return null;
  // For opening, a bare name that is not a device's means a new file; for a query it is a misspelling.
  if (info.kind === 'file' && !nameOrPath.includes('/') && !existsSync(nameOrPath)) return null;
  const { kind, layers, disks, noP2pReason, legs, unproven, inUse, zones, partitions } = info;
  const clients = disks.length === 0 ? [] : clientsOf(disks);
  const way = { noP2pReason, unproven, zones };
  return { kind, layers, clients, legs, ...way, inUse: inUse.words, partitions };
}

function clientsOf(disks: BlockInfo['disks']): PciDev[] {
  return [...new Set(disks.map(({ client }) => client).filter((client) => client !== null))];
}
