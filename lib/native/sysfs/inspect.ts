/**
 * What a name or path is, and what it would be, were it opened to be copied from or to: nothing is opened for it.
 */
import { type BigIntStats, existsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { End, Place, UnderlyingRange } from '../../backend/backend.js';
import { deviceIdentity } from './identity.js';
import type { BlockInfo, Sysfs } from './machine.js';
import { underlying } from './ranges.js';

/** An end, and what it was found out by. */
export interface Look {
  readonly end: End;
  readonly info: BlockInfo | null;
  /** As long as `markOf` says the same, `info` holds; null: it never does. */
  readonly mark: string | null;
}

const UNKNOWN = {
  client: null,
  legs: null,
  noP2pReason: 'nothing is known of its block device',
  noP2pByCommand: 'nothing is known of its block device',
  unproven: null,
} as const;

export function inspect(sysfs: Sysfs, nameOrPath: string): Look {
  const mark = markOf(sysfs, nameOrPath);
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
    identity: info === null || info.kind === 'file' ? null : deviceIdentity(sysfs.devices, info.name!),
    endsWithProcess: false,
    ranges: rangesOf(sysfs, path, info),
    place: placeOf(nameOrPath, info),
  };
  return { end, info, mark: info?.kind === 'file' ? mark : null };
}

/** `'nvme0n1'` is its device node; anything with a slash, or that is no device's name, is a path. */
export function pathOf(nameOrPath: string, info: BlockInfo | null): string {
  if (!nameOrPath.includes('/') && info !== null && info.kind !== 'file' && info.device !== null)
    return info.device;
  return nameOrPath;
}

/** The target itself, then what its bytes lie on. */
export function rangesOf(sysfs: Sysfs, path: string, info: BlockInfo | null): UnderlyingRange[] {
  const number = info === null || info.kind === 'file' ? null : info.number;
  return underlying(sysfs.devices, number === null ? path : { number });
}

/**
 * Which file it is, by numbers; of one that is yet to be made, in which directory. A device has none: who holds it, and
 * which drive it is, can be another thing a moment later.
 */
export function markOf({ live }: Sysfs, path: string): string | null {
  if (!live) return null;
  const there = statOf(path);
  if (there !== null) return there.isFile() ? `file ${numbersOf(there)}` : null;
  const directory = statOf(dirname(resolve(path)));
  return directory === null ? null : `nothing in ${numbersOf(directory)}`;
}

function numbersOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

function statOf(path: string): BigIntStats | null {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return null;
  }
}

function placeOf(nameOrPath: string, info: BlockInfo | null): Place | null {
  if (info === null) return null;
  // A bare name of no device would be a file yet to be made here; for a question it is a misspelling.
  if (info.kind === 'file' && !nameOrPath.includes('/') && !existsSync(nameOrPath)) return null;
  const { kind, layers, disks, noP2pReason, legs, unproven, inUse, zones, partitions } = info;
  const clients = new Set(disks.map(({ client }) => client).filter((client) => client !== null));
  const way = { noP2pReason, unproven, zones };
  return { kind, layers, clients: [...clients], legs, ...way, inUse: inUse.words, partitions };
}
