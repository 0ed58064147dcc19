/**
 * Finds block devices by name, by device number and by path, with their layers and users. Devices come and go, so the object
 * is made for one question and not kept.
 */
import { posix } from 'node:path';
import { bareName } from '../../backend/names.js';
import { findMount, type Mount, type MountSource, parseMountinfo } from './mountinfo.js';
import { MAX_SECTORS, NVME_DISK } from './nvme.js';
import { PathStat } from './path-stat.js';
import { SysfsDir, type SysfsTree } from './tree.js';

const MAX_LIST = 4 * 1024 * 1024;

/** One block device's directory and its name, `'nvme0n1p1'`. */
export interface BlockDir {
  readonly name: string;
  readonly dir: SysfsDir;
  /** Its device number, `'259:1'`, if it was found by it. */
  readonly number?: string;
}

/** A partition of a disk, as an entry of a list. */
export interface PartitionInfo {
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Null when nobody uses it; otherwise who, in words. */
  readonly inUse: string | null;
}

/** The layer that a block device forms, and what is below it. */
export interface Layer {
  readonly kind: 'partition' | 'device-mapper' | 'md' | 'stacked' | 'loop' | 'multipath-head' | 'disk';
  /** The devices directly below; empty for a disk, and for a loop device. */
  readonly below: readonly BlockDir[];
  /** The file of a loop device. */
  readonly file: string | null;
  /** The RAID level of an md array, if known: `'raid1'`. */
  readonly level?: string;
}

export interface InUse {
  readonly mountPoints: readonly string[];
  /** Devices on top of it or of one of its partitions: `'dm-0'`, `'md0'`. */
  readonly holders: readonly string[];
  readonly swap: boolean;
  /** Null when nobody uses it; otherwise who, in words. */
  readonly words: string | null;
}

export class BlockDevices {
  readonly #tree: SysfsTree;
  readonly #controllers: ReadonlyMap<string, SysfsDir>;
  readonly #mountSource: MountSource | null;
  #mounts: Mount[] | null = null;
  #swapPaths: string[] | null = null;
  #stats: Map<string, PathStat | null> | null = null;

  /** @param controllers directories of the NVMe controllers, which hold their disks */
  constructor(
    tree: SysfsTree,
    controllers: ReadonlyMap<string, SysfsDir>,
    mountSource: MountSource | null = null,
  ) {
    this.#tree = tree;
    this.#controllers = controllers;
    this.#mountSource = mountSource;
  }

  /** True if they are this machine's devices, so that the paths in their attributes are this machine's too. */
  get live(): boolean {
    return this.#tree.live;
  }

  /** What the kernel says of one of this machine's paths; null: there is nothing, or it cannot be asked about. */
  statOf(path: string): PathStat | null {
    this.#stats ??= new Map();
    let stat = this.#stats.get(path);
    if (stat === undefined) {
      stat = PathStat.of(path);
      this.#stats.set(path, stat);
    }
    return stat;
  }

  /** Names of the devices that are not partitions. */
  names(): string[] {
    return [...new Set(this.#homes().flatMap((home) => home.subdirectoryNames()))];
  }

  /** Names of the md arrays. */
  arrays(): string[] {
    return this.names().filter(
      (name) => /^md/.test(name) && this.byName(name)?.dir.dir('md', { optional: true }) != null,
    );
  }

  /** Find a device by its name, `'nvme0n1'`, `'cciss/c0d0'`. */
  byName(name: string): BlockDir | null {
    const entry = name.replaceAll('/', '!');
    if (!/^[\w.:!+-]+$/.test(entry) || /^\.*$/.test(entry)) return null;
    for (const home of this.#homes()) {
      const dir = home.dir(entry, { optional: true });
      if (dir !== null) return { name: entry, dir };
    }
    const disk = this.#diskOfPartition(entry);
    const dir = disk?.dir.dir(entry, { optional: true }) ?? null;
    return dir === null ? null : { name: entry, dir };
  }

  /** Find a device by its number, `'259:1'`. */
  byNumber(number: string): BlockDir | null {
    // Major 0: a filesystem without a device (tmpfs, overlay), or btrfs' own numbers.
    if (number.startsWith('0:')) return null;
    const dir = this.#tree.dir('sys/dev/block', { optional: true })?.dir(number, { optional: true }) ?? null;
    if (dir !== null && dir.name !== number) return { ...this.#listedAs(dir), number };
    for (const home of this.#homes()) {
      for (const name of home.subdirectoryNames()) {
        const disk = home.dir(name);
        if (disk === null) continue;
        if (numberOf(disk) === number) return { name, dir: disk };
        const part = partitionsOf(disk).find((candidate) => numberOf(candidate.dir) === number);
        if (part !== undefined) return part;
      }
    }
    return null;
  }

  /** A device's directory, by the name under which people know it. A kernel lists every device in /sys/class/block. */
  #listedAs(dir: SysfsDir): BlockDir {
    const { name } = dir;
    if (!this.#tree.files.genuine) return this.byName(name) ?? { name, dir };
    return { name, dir: new SysfsDir(this.#tree, `/sys/class/block/${name}`, dir.real) };
  }

  /** Find a device by a path in /dev, as far as names allow: a node, /dev/mapper/…, /dev/<vg>/<lv>, a captured symlink. */
  byDevPath(path: string): BlockDir | null {
    const clean = posix.normalize(path);
    if (!clean.startsWith('/dev/')) return null;
    const below = bareName(clean);
    const plain = this.byName(below);
    if (plain !== null) return plain;
    const generic = /^ng(\d+n\d+)$/.exec(below);
    if (generic !== null) return this.byName(`nvme${generic[1]}`);
    const [first, second, ...more] = below.split('/');
    if (first && second && more.length === 0) {
      const mapped = first === 'mapper' ? second : `${doubleDashes(first)}-${doubleDashes(second)}`;
      const found = this.#byMapperName(mapped);
      if (found !== null) return found;
    }
    const link = this.#tree
      .dir(posix.dirname(clean).slice(1), { optional: true })
      ?.linkName(posix.basename(clean));
    return link ? this.byName(link) : null;
  }

  #byMapperName(name: string): BlockDir | null {
    for (const home of this.#homes()) {
      for (const entry of home.subdirectoryNames()) {
        if (!/^dm-\d+$/.test(entry)) continue;
        const dir = home.dir(entry);
        if (dir?.dir('dm', { optional: true })?.text('name', { optional: true }) === name)
          return { name: entry, dir };
      }
    }
    return null;
  }

  /** The layer that a device forms, and what is under it. */
  layer({ name, dir }: BlockDir): Layer {
    if (dir.has('partition')) {
      const disk = this.diskOf({ name, dir });
      return { kind: 'partition', below: disk === null ? [] : [disk], file: null };
    }
    if (/^loop\d+$/.test(name)) {
      const file = dir.line('loop/backing_file', { optional: true }) || null;
      return { kind: 'loop', below: [], file };
    }
    const slaves = dir.dir('slaves', { optional: true })?.names() ?? [];
    const isMapper = /^dm-\d+$/.test(name) || dir.has('dm');
    const isMd = /^md/.test(name) && dir.has('md');
    if (isMapper || isMd || slaves.length > 0) {
      const below = slaves.map((slave) => this.byName(slave)).filter((found) => found !== null);
      if (isMapper) return { kind: 'device-mapper', below, file: null };
      if (!isMd) return { kind: 'stacked', below, file: null };
      const level = dir.dir('md', { optional: true })?.text('level', { optional: true });
      return { kind: 'md', below, file: null, ...(level ? { level } : {}) };
    }
    const paths = this.#pathsOfHead({ name, dir });
    if (paths !== null) return { kind: 'multipath-head', below: paths, file: null };
    return { kind: 'disk', below: [], file: null };
  }

  /** The whole disk of a partition; for any other device, the device itself. */
  diskOf(device: BlockDir): BlockDir | null {
    if (!device.dir.has('partition')) return device;
    const above = device.dir.real.slice(0, -1);
    const parent = above.at(-1);
    const found = parent === undefined || parent === 'block' ? null : this.byName(parent);
    return found ?? this.#diskOfPartition(device.name) ?? this.#diskAt(above);
  }

  #diskAt(above: readonly string[]): BlockDir | null {
    const dir = this.#tree.dir(above.join('/'), { optional: true });
    return dir?.has('dev') ? { name: dir.name, dir } : null;
  }

  #diskOfPartition(name: string): BlockDir | null {
    const disk = /^(.*\d)p\d+$/.exec(name)?.[1] ?? /^(.*\D)\d+$/.exec(name)?.[1];
    if (disk === undefined || disk === 'loop' || disk === 'dm-') return null;
    for (const home of this.#homes()) {
      const dir = home.dir(disk, { optional: true });
      if (dir !== null) return { name: disk, dir };
    }
    return null;
  }

  /**
   * The paths of a multipath head; null: it is not a head. A head is recognised by its place in its subsystem or by its hidden
   * paths.
   */
  #pathsOfHead({ name, dir }: BlockDir): BlockDir[] | null {
    const match = NVME_DISK.exec(name);
    if (match === null || match[2] !== undefined) return null;
    const paths: BlockDir[] = [];
    for (const candidate of this.#nvmePathNames()) {
      const path = NVME_DISK.exec(candidate.name)!;
      if (path[1] === match[1] && path[3] === match[3]) paths.push(candidate);
    }
    const inSubsystem = dir.real.some((component) => component.startsWith('nvme-subsys'));
    return paths.length > 0 || inSubsystem ? paths : null;
  }

  /** Every `nvme<subsystem>c<controller>n<head>`, among the block devices or in their controllers' directories. */
  #nvmePathNames(): BlockDir[] {
    const found = new Map<string, BlockDir>();
    const add = (home: SysfsDir): void => {
      for (const name of home.subdirectoryNames()) {
        if (NVME_DISK.exec(name)?.[2] === undefined || found.has(name)) continue;
        const dir = home.dir(name);
        if (dir !== null) found.set(name, { name, dir });
      }
    };
    for (const home of [...this.#homes(), ...this.#controllers.values()]) add(home);
    return [...found.values()];
  }

  /**
   * The directories that list disks; if those were lost because a copy has no symlinks, the directories that contain the disks.
   */
  #homes(): SysfsDir[] {
    const open = (path: string): SysfsDir | null => this.#tree.dir(path, { optional: true });
    const listed = [open('sys/class/block'), open('sys/block')].filter((dir) => dir !== null);
    if (listed.length > 0) return listed;
    const subsystems = open('sys/devices/virtual/nvme-subsystem');
    return [
      open('sys/devices/virtual/block'),
      ...(subsystems?.directoryNames() ?? []).map((name) => subsystems!.dir(name)),
      ...this.#controllers.values(),
    ].filter((dir) => dir !== null);
  }

  mounts(): Mount[] {
    this.#mounts ??=
      this.#mountSource?.mounts() ??
      parseMountinfo(
        this.#tree.text('proc/self/mountinfo', MAX_LIST, { optional: true }) ??
          this.#tree.text('proc/1/mountinfo', MAX_LIST) ??
          '',
      );
    return this.#mounts;
  }

  /** Paths of the swap devices and files. */
  #swaps(): string[] {
    this.#swapPaths ??= (this.#tree.text('proc/swaps', MAX_LIST, { optional: true }) ?? '')
      .split('\n')
      .slice(1)
      .map((line) => line.split(/\s/, 1)[0]!);
    return this.#swapPaths;
  }

  /** The mount that contains a normalized absolute path; `number`, if known, is the device number of the path itself. */
  mountOf(path: string, number: string | null): Mount | null {
    const mounts = this.mounts();
    const byPath = findMount(mounts, path);
    if (number === null || byPath?.device === number) return byPath;
    return (
      findMount(
        mounts.filter((mount) => mount.device === number),
        path,
      ) ?? byPath
    );
  }

  /** The block devices on which a mounted filesystem lies. */
  devicesOf(mount: Mount): BlockDir[] {
    const first = this.byNumber(mount.device) ?? this.byDevPath(mount.source);
    if (first === null) return [];
    return mount.type === 'btrfs' ? this.#devicesOfBtrfs(first) : [first];
  }

  #devicesOfBtrfs(first: BlockDir): BlockDir[] {
    const all = this.#tree.dir('sys/fs/btrfs', { optional: true });
    for (const uuid of all?.directoryNames() ?? []) {
      const names = all!.dir(`${uuid}/devices`, { optional: true })?.names() ?? [];
      if (names.includes(first.name))
        return names.map((name) => this.byName(name)).filter((dev) => dev !== null);
    }
    return [first];
  }

  /** A disk's partitions, in order of their numbers. */
  partitions(device: BlockDir): PartitionInfo[] {
    return partitionsOf(device.dir)
      .map((part) => ({
        number: part.dir.number('partition', { optional: true }) ?? 0,
        name: part.name,
        size: (part.dir.number('size', { max: MAX_SECTORS }) ?? 0) * 512,
        inUse: this.inUse(part).words,
      }))
      .sort((a, b) => a.number - b.number)
      .map(({ number: _, ...part }) => part);
  }

  /** Who uses this device or one of its partitions. */
  inUse(device: BlockDir): InUse {
    const family = [device, ...partitionsOf(device.dir)];
    const numbers = new Set(family.map(({ dir }) => numberOf(dir)));
    const names = new Set(family.map(({ name }) => name));
    const isOurs = (path: string): boolean => {
      const found = path.startsWith('/dev/') ? this.byDevPath(path) : null;
      return found !== null && names.has(found.name);
    };
    const mountPoints = this.mounts()
      .filter((mount) => numbers.has(mount.device) || (mount.device.startsWith('0:') && isOurs(mount.source)))
      .map((mount) => mount.mountPoint);
    const holders = family.flatMap(({ dir }) => dir.dir('holders', { optional: true })?.names() ?? []);
    const swap = this.#swaps().some(isOurs);
    const words = [
      mountPoints.length > 0 ? `mounted on ${mountPoints.join(', ')}` : null,
      holders.length > 0 ? `held by ${holders.join(', ')}` : null,
      swap ? 'used as swap' : null,
    ].filter((word) => word !== null);
    return { mountPoints, holders, swap, words: words.join('; ') || null };
  }
}

export function numberOf(dir: SysfsDir): string | null {
  const text = dir.text('dev', { optional: true });
  return text !== null && /^\d+:\d+$/.test(text) ? text : null;
}

export function partitionsOf(disk: SysfsDir): BlockDir[] {
  return disk
    .directoryNames()
    .filter((name) => name.startsWith(disk.name))
    .map((name) => ({ name, dir: disk.dir(name) }))
    .filter((part): part is BlockDir => part.dir?.has('partition') ?? false);
}

function doubleDashes(name: string): string {
  return name.replaceAll('-', '--');
}
