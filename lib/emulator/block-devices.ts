/**
 * What can be opened on an emulated machine besides files: namespaces, and the devices that the description stacks on
 * top of them.
 *
 *     md0 ─┬─▶ nvme0n1p1 ─▶ nvme0n1 ─▶ NvmeNs of nvme0
 *          └─▶ nvme1n1 (head) ─┬─▶ NvmeNs of nvme1
 *                              └─▶ NvmeNs of nvme2
 */
import type { End, Legs, Place, UnderlyingRange } from '../backend/backend.js';
import { parseRelease } from '../backend/kernel-release.js';
import { bareName } from '../backend/names.js';
import { emptyNamespace, hostManagedZones } from '../backend/namespace-kinds.js';
import type { PciDev } from '../backend/topology.js';
import { fileRange } from '../host/file-range.js';
import type { Gendisk } from '../kernel/bio.js';
import { Partition } from '../kernel/blk-partition.js';
import { MdArray, type MdLevel } from '../kernel/md.js';
import type { NvmeNs } from '../kernel/nvme-core.js';
import { NvmeNsHead } from '../kernel/nvme-multipath.js';
import { arrayRefusal, headRefusal } from '../kernel/releases/layers.js';
import { MD_MIRRORS } from '../kernel/releases/table.js';
import { disksOf, type MachineDisk } from '../machine/disks.js';
import { type Machine, type MachineArray, namespaceName, partitionName } from '../machine/machine.js';
import type { NamespaceStore } from './nvme/store.js';
import { type Drive, noP2pReason, type RunningMachine } from './running-machine.js';

/** One block device and its properties. */
export interface BlockDevice {
  readonly name: string;
  readonly kind: 'namespace' | 'block';
  /** Null: an array with parity, which can be described but not run. */
  readonly disk: Gendisk | null;
  readonly size: number;
  readonly readOnly: boolean;
  readonly layers: Place['layers'];
  readonly drives: readonly Drive[];
  readonly legs: Legs | null;
  /** The part of the device that does not accept peer memory, in words. Null: there is none. */
  readonly noP2pReason: string | null;
  /** For a zoned namespace, a clause that says how it must be written; otherwise null. */
  readonly zones: string | null;
  /** Of a namespace that the kernel shows with size 0; `metadata` is null if not known. Otherwise null. */
  readonly empty: { readonly metadata: number | null } | null;
  /** The namespace that NVMe commands go to; null: no path is alive. Absent: the device is not a namespace. */
  readonly door?: () => NvmeNs | null;
  /** The files that store its bytes; null: some bytes are in memory only. */
  readonly files: readonly string[] | null;
  /** The underlying ranges that hold its bytes. */
  readonly ranges: readonly UnderlyingRange[];
  readonly partitions: readonly { readonly name: string; readonly size: number }[];
  /** The stores that hold its bytes. */
  readonly media: readonly NamespaceStore[];
}

export class BlockDevices {
  readonly #running: RunningMachine;
  /** By what the namespace of one controller would be called. */
  readonly #diskNames = new Map<string, string>();
  readonly #devices = new Map<string, BlockDevice>();
  /** Distinguishes this machine's devices from devices of the same name on another machine. */
  readonly #number: number;

  constructor(running: RunningMachine, number: number) {
    this.#running = running;
    this.#number = number;
    for (const disk of disksOf(running.machine)) {
      for (const one of disk.controllers) {
        this.#diskNames.set(namespaceName(one, disk.namespace.nsid), disk.name);
      }
      this.#addDisk(disk);
    }
    for (const array of running.machine.arrays) this.#addArray(array);
  }

  get #machine(): Machine {
    return this.#running.machine;
  }

  /** The machine's name. */
  get machine(): string {
    return this.#machine.name;
  }

  /** The arrays, in the order of the description. */
  get arrays(): readonly BlockDevice[] {
    return this.#machine.arrays.map(({ name }) => this.#devices.get(name)!);
  }

  /** Finds a device by name or path; null: no device has that name, or its drives are gone. */
  find(nameOrPath: string): BlockDevice | null {
    const device = this.#devices.get(bareName(nameOrPath)) ?? null;
    return device === null || device.disk?.dead === true ? null : device;
  }

  /** The disk through which a controller's namespace is opened; null: the description has no such namespace. */
  diskOf(controller: string, nsid: number): BlockDevice | null {
    return this.#devices.get(this.#diskNames.get(namespaceName(controller, nsid)) ?? '') ?? null;
  }

  /** The array that has this device or one of its partitions as a member; null: none. */
  holderOf({ name, partitions }: BlockDevice): string | null {
    const parts = new Set([name, ...partitions.map((part) => part.name)]);
    return this.#machine.arrays.find(({ members }) => members.some((one) => parts.has(one)))?.name ?? null;
  }

  #addDisk({ name, controllers, isHead, namespace }: MachineDisk): void {
    const { nsid, file, partitions, extendedLba, zoned } = namespace;
    const drives = this.#running.drives.filter(({ driver }) => controllers.includes(driver.ctrl.name));
    const paths = drives.flatMap(({ driver }) => driver.ctrl.namespaces.find((ns) => ns.nsid === nsid) ?? []);
    const [plain] = paths;
    // No drive exposes this namespace.
    if (plain === undefined) return;
    const release = parseRelease(this.#machine.kernel);
    const head = isHead ? new NvmeNsHead(name, paths, release) : null;
    const whole = this.#range(name, plain.capacity);
    const disk: BlockDevice = {
      name,
      kind: 'namespace',
      disk: head ?? plain,
      size: plain.capacity,
      readOnly: plain.readOnly,
      layers: head === null ? [{ name, kind: 'disk' }] : headLayers(name, drives, nsid),
      drives,
      legs: legsOf(`${name} (multipath)`, drives, false),
      noP2pReason:
        (extendedLba === null ? null : emptyNamespace(name, extendedLba.metadata)) ??
        (head === null ? null : headRefusal(name, release)) ??
        this.#refusalOf(drives),
      zones: zoned === null ? null : hostManagedZones(zoned.zoneSize),
      empty: extendedLba,
      door: head === null ? () => plain : () => head.findPath(),
      files: file === null ? null : [file],
      ranges: file === null ? [whole] : [whole, { ...fileRange(file), length: plain.capacity }],
      media: [...new Set(drives.flatMap(({ hardware }) => hardware.namespaces.get(nsid) ?? []))],
      partitions: partitions.map(({ number, size }) => ({ name: partitionName(name, number), size })),
    };
    this.#devices.set(name, disk);
    for (const { number, start, size } of partitions) {
      const part = partitionName(name, number);
      const { door: _, ...rest } = disk;
      this.#devices.set(part, {
        ...rest,
        name: part,
        kind: 'block',
        disk: new Partition(part, disk.disk!, { start, size }),
        size,
        layers: [{ name: part, kind: 'partition' }, ...disk.layers],
        ranges: [this.#range(part, size), { ...whole, start, length: size }],
        partitions: [],
      });
    }
  }

  #addArray({ name, level, chunk, members }: MachineArray): void {
    const parts = members.flatMap((member) => this.#devices.get(member) ?? []);
    if (parts.length < members.length) return;
    const release = parseRelease(this.#machine.kernel);
    const drives = [...new Set(parts.flatMap((part) => part.drives))];
    const below = parts.map(({ disk }) => disk!);
    const disk = isRun(level) ? new MdArray({ name, level, chunk, members: below, release }) : null;
    const size = disk?.capacity ?? parityCapacity(level, chunk, below);
    const files = parts.flatMap((part) => part.files ?? []);
    this.#devices.set(name, {
      name,
      kind: 'block',
      disk,
      size,
      readOnly: parts.some((part) => part.readOnly),
      layers: [{ name, kind: 'md', level }, ...parts.flatMap((part) => part.layers)],
      drives,
      legs: legsOf(`${name} (${level})`, drives, MD_MIRRORS.includes(level)),
      noP2pReason:
        arrayRefusal(name, level, release) ??
        parts.map((part) => part.noP2pReason).find((reason) => reason !== null) ??
        null,
      zones: null,
      empty: null,
      media: parts.flatMap((part) => part.media),
      files: parts.every((part) => part.files !== null) ? files : null,
      ranges: [
        this.#range(name, size),
        ...parts.flatMap((part) => part.ranges.map((range) => ({ ...range, exact: false }))),
      ],
      partitions: [],
    });
  }

  #range(name: string, length: number): UnderlyingRange {
    const on = `${name} of machine ${this.#number}`;
    return { on, name: `/dev/${name}`, start: 0, length, exact: true };
  }

  #refusalOf(drives: readonly Drive[]): string | null {
    for (const { driver } of drives) {
      const reason = noP2pReason(driver, this.#machine);
      if (reason !== null) return reason;
    }
    return null;
  }
}

/** What `inspect` reports about a device; `isWritten`: this process has it open for writing. */
export function endOf(devices: BlockDevices, device: BlockDevice, isWritten: (name: string) => boolean): End {
  const { name, kind, size, readOnly, layers, legs, ranges, drives } = device;
  const clients = drives.map(({ hardware }) => hardware.pdev);
  const held = (of: BlockDevice): string | null => {
    const holder = devices.holderOf(of);
    return holder === null ? null : `held by ${holder}`;
  };
  const { noP2pReason, zones } = device;
  // Without spreads: Node 20 keeps an object that has fields after one until a full collection.
  return {
    noP2pReason,
    unproven: null,
    legs,
    path: `/dev/${name}`,
    kind,
    size,
    client: onlyOf(clients),
    inUse: held(device) ?? (isWritten(name) ? 'it is open for writing already' : null),
    readOnly,
    identity: `${name} of the emulated machine '${devices.machine}'`,
    endsWithProcess: device.files === null,
    ranges,
    place: {
      noP2pReason,
      unproven: null,
      legs,
      zones,
      kind,
      layers,
      clients,
      inUse: held(device) ?? (isWritten(name) ? 'open for writing' : null),
      partitions: device.partitions.map((part) => ({
        name: part.name,
        size: part.size,
        inUse: held(devices.find(part.name)!) ?? (isWritten(part.name) ? 'open for writing' : null),
      })),
    },
  };
}

/** The only client; null: there is none, or there are several. */
export function onlyOf(clients: readonly PciDev[]): PciDev | null {
  return clients.length === 1 ? clients[0]! : null;
}

/** Null: one function does all DMA of the device, and no mirror hides the errors of that function. */
function legsOf(of: string, drives: readonly Drive[], mirror: boolean): Legs | null {
  if (drives.length === 1 && !mirror) return null;
  return { of, mirror, clients: drives.map(({ hardware }) => hardware.pdev) };
}

/** `nvme0c1n1`: the hidden disk of the path through nvme1. */
function headLayers(name: string, drives: readonly Drive[], nsid: number): Place['layers'] {
  const subsystem = /^nvme\d+/.exec(name)![0];
  const hidden = drives.map(({ driver }) => `${subsystem}c${driver.ctrl.name.slice('nvme'.length)}n${nsid}`);
  return [{ name, kind: 'multipath-head' }, ...hidden.map((path) => ({ name: path, kind: 'disk' }) as const)];
}

function isRun(level: MachineArray['level']): level is MdLevel {
  return !/^raid[456]$/.test(level);
}

function parityCapacity(level: MachineArray['level'], chunk: number, members: readonly Gendisk[]): number {
  const least = Math.min(...members.map(({ capacity }) => capacity - (capacity % chunk)));
  return least * (members.length - (level === 'raid6' ? 2 : 1));
}
