/**
 * Finds out what a name or path refers to, and what it would be if it were opened as a source or destination of a copy. Nothing
 * is opened for this.
 */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { End, Legs, Place, UnderlyingRange } from '../../backend/backend.js';
import type { PciDev } from '../../backend/topology.js';
import type { BlockDevices } from './devices.js';
import { deviceIdentity } from './identity.js';
import type { BlockInfo, MountedInfo, Sysfs } from './machine.js';
import { PathStat } from './path-stat.js';
import { underlying } from './ranges.js';

/**
 * What copying rarely asks is read when it is asked for: who uses a device, and what it is to a person. (Getters in an object
 * literal would give each object a hidden class of its own: V8 takes some µs for that, and keeps all that they can see until the
 * next full collection.)
 */
class NativeEnd implements End {
  readonly path: string;
  readonly kind: End['kind'];
  readonly size: number | null;
  readonly client: PciDev | null;
  readonly legs: Legs | null;
  readonly noP2pReason: string | null;
  readonly noP2pByCommand: string | null;
  readonly unproven: string | null;
  readonly endsWithProcess = false;
  readonly ranges: readonly UnderlyingRange[];
  /** For the backend, which it came from. */
  readonly found: Found;
  readonly #devices: BlockDevices;
  readonly #given: string;

  /** @param sysfs asked within one `together` */
  constructor(sysfs: Sysfs, nameOrPath: string) {
    const { devices } = sysfs;
    const info = sysfs.blockInfo(nameOrPath);
    this.path = pathOf(nameOrPath, info);
    this.kind = info?.kind ?? 'file';
    this.size = info?.size ?? null;
    this.client = info?.client ?? null;
    this.legs = info?.legs ?? null;
    this.noP2pReason = info === null ? UNKNOWN : info.noP2pReason;
    this.noP2pByCommand = info === null ? UNKNOWN : info.noP2pByCommand;
    this.unproven = info?.unproven ?? null;
    this.ranges = rangesOf(sysfs, this.path, info);
    // A device is looked at again, because its users and even the drive itself can change at any moment.
    const ours = sysfs.live && info?.kind === 'file';
    const stat = ours ? devices.statOf(nameOrPath) : null;
    this.found = {
      info,
      file: stat?.isFile === true ? stat.identity : null,
      nothingIn: ours && stat === null ? directoryOf(nameOrPath, (path) => devices.statOf(path)) : null,
    };
    this.#devices = devices;
    this.#given = nameOrPath;
  }

  get inUse(): string | null {
    return this.found.info?.inUse.words ?? null;
  }

  get readOnly(): boolean {
    return this.found.info?.readOnly ?? false;
  }

  get identity(): string | null {
    const { info } = this.found;
    return info !== null && info.kind !== 'file' ? deviceIdentity(this.#devices, info.name!) : null;
  }

  get place(): Place | null {
    return placeOf(this.#given, this.found.info);
  }
}

/** What was found at the path of an end; null: it is not of this kind, or there is none. */
export function foundBy(end: End | undefined): Found | null {
  return end instanceof NativeEnd ? end.found : null;
}

/** It is valid for the file `file`, or for one that is made while the path is in the directory `nothingIn`. */
interface Found {
  readonly info: BlockInfo | null;
  /** The file that was found, by its st_dev and st_ino; null: it was not a file. */
  readonly file: string | null;
  /** The directory that the path is in, if nothing was there. */
  readonly nothingIn: string | null;
}

const UNKNOWN = 'nothing is known of its block device';

export function inspect(sysfs: Sysfs, nameOrPath: string): End {
  return sysfs.together(() => new NativeEnd(sysfs, nameOrPath));
}

/** `'nvme0n1'` means its device node; a string with a slash, or one that is not a device's name, is a path. */
export function pathOf(nameOrPath: string, info: BlockInfo | null): string {
  if (!nameOrPath.includes('/') && info !== null && info.kind !== 'file' && info.device !== null)
    return info.device;
  return nameOrPath;
}

/** The target itself, then the devices or files that hold its bytes. */
export function rangesOf(sysfs: Sysfs, path: string, info: MountedInfo | null): UnderlyingRange[] {
  return [...(info?.ranges ?? underlying(sysfs.devices, path))];
}

/** Whether the path leads to this file, which is given by its st_dev and st_ino. */
export function isSameFile(path: string, identity: string): boolean {
  const there = PathStat.of(path);
  return there?.isFile === true && there.identity === identity;
}

/** The st_dev and st_ino of the directory that a path is in; null: there is none. */
export function directoryOf(path: string, stat = PathStat.of): string | null {
  return stat(dirname(resolve(path)))?.identity ?? null;
}

function placeOf(nameOrPath: string, info: BlockInfo | null): Place | null {
  if (info === null) return null;
  // For opening, a bare name that is not a device's means a new file; for a query it is a misspelling.
  if (info.kind === 'file' && !nameOrPath.includes('/') && !existsSync(nameOrPath)) return null;
  const { kind, layers, disks, noP2pReason, legs, unproven, inUse, zones, partitions } = info;
  const clients = disks.length === 0 ? [] : clientsOf(disks);
  return { kind, layers, clients, legs, noP2pReason, unproven, zones, inUse: inUse.words, partitions };
}

function clientsOf(disks: BlockInfo['disks']): PciDev[] {
  return [...new Set(disks.map(({ client }) => client).filter((client) => client !== null))];
}
