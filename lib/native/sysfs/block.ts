/**
 * The storage stack under a target, and which of its layers refuse peer-to-peer memory.
 *
 *     file ─▶ filesystem ─▶ dm-0 ─▶ nvme0n1p1 ─▶ nvme0n1 ─▶ 0000:03:00.0
 *             (may bounce)  (refuses: BLK_FEAT_PCI_P2PDMA       (the client:
 *                            is not inherited)                   does the DMA)
 *
 * The reported reason is that of the topmost layer that refuses.
 */

import { realpathSync } from 'node:fs';
import { posix, resolve } from 'node:path';
import type { Legs, QueueLimits, UnderlyingRange } from '../../backend/backend.js';
import { type KernelRelease, parseRelease } from '../../backend/kernel-release.js';
import { emptyNamespace, hostManagedZones } from '../../backend/namespace-kinds.js';
import type { IommuMode, PciDev } from '../../backend/topology.js';
import { MD_MIRRORS, withheldFromPrograms } from '../../kernel/releases/table.js';
import {
  type BlockDevices,
  type BlockDir,
  type InUse,
  type Layer,
  numberOf,
  type PartitionInfo,
} from './devices.js';
import { fileSystemFacts } from './filesystems.js';
import type { KernelFacts } from './kernel.js';
import type { MountedFacts } from './mounted-facts.js';
import { clearMount, type Mount } from './mountinfo.js';
import {
  blockSize,
  MAX_SECTORS,
  maxTransferOf,
  metadataBytesOf,
  NVME_DISK,
  type SysfsController,
  zonedOf,
} from './nvme.js';
import { inLayer, overlayLayers } from './overlay.js';
import { functionOnPath, type SysfsPci } from './pci.js';
import { underlying } from './ranges.js';
import { layerRefusal, overNetwork } from './refusals.js';
import type { SysfsDir, SysfsTree } from './tree.js';

/** A disk at the bottom of the stack. */
export interface BlockDisk {
  readonly name: string;
  /** The PCI function that does its DMA, or null. */
  readonly client: PciDev | null;
  /** `'nvme0'`, or null: it is not an NVMe disk. */
  readonly controller: string | null;
}

export interface BlockInfo {
  readonly kind: 'namespace' | 'block' | 'file';
  /** The name of the requested block device, or of the one on which a file lies; null: the file's filesystem has none. */
  readonly name: string | null;
  /** Its device node, `'/dev/nvme0n1p1'`. */
  readonly device: string | null;
  /** Its device number, `'259:1'`. */
  readonly number: string | null;
  /** Every block device of the stack, from the top down: `['dm-0', 'nvme0n1p1', 'nvme0n1']`. */
  readonly stack: readonly string[];
  /** The same devices with their kinds. */
  readonly layers: readonly {
    readonly name: string;
    readonly kind: Layer['kind'];
    readonly level?: string;
  }[];
  /** The partitions of a disk. */
  readonly partitions: readonly PartitionInfo[];
  readonly disks: readonly BlockDisk[];
  /** The controller that does the DMA, if there is exactly one. */
  readonly controller: string | null;
  /** The P2PDMA client: the function that does the DMA, if there is exactly one. */
  readonly client: PciDev | null;
  readonly legs: Legs | null;
  /** In bytes; for a file, its current length; null if unknown (a file in a captured tree). */
  readonly size: number | null;
  readonly readOnly: boolean;
  /** For a zoned device (host-managed), a clause that says how it must be written; otherwise null. */
  readonly zones: string | null;
  /** For a namespace, the bytes of metadata per block (`metadata_bytes`, since 6.8); null: not reported. */
  readonly metadataBytes: number | null;
  readonly limits: QueueLimits;
  /** Null if it accepts CMB memory; otherwise what refuses it, in words. */
  readonly noP2pReason: string | null;
  /** The same for NVMe commands, which go to the queue of the namespace's path and not to the queue of its multipath head. */
  readonly noP2pByCommand: string | null;
  /** Null if success proves which route the bytes took. */
  readonly unproven: string | null;
  /** True if a non-zero `stx_dio_mem_align` of the file would make `unproven` null. */
  readonly dioAlignProves: boolean;
  /** The filesystem of a file, `'ext4'`. */
  readonly fileSystem: string | null;
  /** The filesystem that does a file's direct I/O; it differs from `fileSystem` on overlayfs. */
  readonly directFileSystem: string | null;
  /** The super options of that filesystem. */
  readonly mountOptions: readonly string[];
  readonly mountPoint: string | null;
  /** A block device itself, and what holds its bytes. Null: the target is a file, or its device number is not known. */
  readonly ranges: readonly UnderlyingRange[] | null;
  /** Who mounts or holds a block device. The filesystem of a file does not count. */
  readonly inUse: InUse;
}

/** What is the same for all files of a mounted filesystem. */
export type MountedInfo = Omit<BlockInfo, 'size'>;

/** What blockInfo needs to know about the machine: its tree and its devices as of now, and the rest of it. */
export interface BlockContext {
  readonly tree: SysfsTree;
  readonly devices: BlockDevices;
  readonly pci: SysfsPci;
  readonly controllers: readonly SysfsController[];
  readonly iommu: IommuMode;
  readonly kernel: () => KernelFacts;
  readonly release: KernelRelease | null;
  /** What is known of the filesystems that are mounted; null: nothing is remembered. */
  readonly remembered: MountedFacts<MountedInfo> | null;
}

/** Returns null if there is no such device or file. */
export function blockInfo(context: BlockContext, pathOrName: string): BlockInfo | null {
  const { tree, devices } = context;
  if (pathOrName === '' || pathOrName.includes('\0')) return null;
  if (!pathOrName.includes('/')) {
    const named = devices.byName(pathOrName);
    if (named !== null) return new DeviceInfo(context, named);
  }
  if (tree.live) return liveInfo(context, resolve(pathOrName));
  const path = posix.normalize(pathOrName);
  if (!path.startsWith('/')) return null;
  const node = devices.byDevPath(path);
  if (node !== null) return new DeviceInfo(context, node);
  if (path.startsWith('/dev/')) return null;
  return fileInfo(context, { mount: devices.mountOf(path, null), path, size: null });
}

/** For this machine: the path is inspected, and a file that does not exist yet is judged by its directory. */
function liveInfo(context: BlockContext, path: string): BlockInfo | null {
  const { devices } = context;
  const stat = devices.statOf(path);
  if (stat === null) {
    const directory = posix.dirname(path);
    const parent = devices.statOf(directory);
    if (parent === null) return devicePathInfo(context, path);
    const only = clearMount(devices.mounts(), parent.on);
    // /dev/shm is a filesystem of its own, without device nodes.
    if (path.startsWith('/dev/') && !only?.mountPoint.startsWith('/dev/'))
      return devicePathInfo(context, path);
    if (only !== null) return fileInfo(context, { mount: only, path, size: null });
    const real = realPath(directory);
    const mount = devices.mountOf(real, parent.on);
    return fileInfo(context, { mount, path: posix.join(real, posix.basename(path)), size: null });
  }
  if (stat.isBlockDevice) {
    const found = devices.byNumber(stat.device);
    return found === null ? null : new DeviceInfo(context, found);
  }
  if (stat.isCharacterDevice) return devicePathInfo(context, path);
  const size = stat.isFile ? stat.size : null;
  const number = stat.on;
  const only = clearMount(devices.mounts(), number);
  if (only !== null) return fileInfo(context, { mount: only, path, size });
  const real = realPath(path);
  return fileInfo(context, { mount: devices.mountOf(real, number), path: real, size });
}

function devicePathInfo(context: BlockContext, path: string): BlockInfo | null {
  const node = context.devices.byDevPath(path);
  return node === null ? null : new DeviceInfo(context, node);
}

/** What opening a device rarely needs is read when it is asked for. (A class, not getters in an object: see inspect.ts.) */
class DeviceInfo implements BlockInfo {
  readonly kind: BlockInfo['kind'];
  readonly name: string;
  readonly device: string;
  readonly number: string | null;
  readonly stack: BlockInfo['stack'];
  readonly layers: BlockInfo['layers'];
  readonly disks: BlockInfo['disks'];
  readonly controller: string | null;
  readonly client: PciDev | null;
  readonly legs: Legs | null;
  readonly size: number | null;
  readonly metadataBytes: number | null;
  readonly zones: string | null;
  readonly limits: QueueLimits;
  readonly noP2pReason: string | null;
  readonly noP2pByCommand: string | null;
  readonly unproven = null;
  readonly dioAlignProves = false;
  readonly fileSystem = null;
  readonly directFileSystem = null;
  readonly mountOptions: readonly string[] = [];
  readonly mountPoint = null;
  readonly #devices: BlockDevices;
  readonly #device: BlockDir;

  constructor(context: BlockContext, device: BlockDir) {
    const under = walkDown(context, [device]);
    const { dir, name } = device;
    const sectors = dir.number('size', { max: MAX_SECTORS });
    const isNamespace = NVME_DISK.test(name);
    const metadataBytes = isNamespace ? metadataBytesOf(dir) : null;
    const empty = sectors === 0 ? emptyNamespace(name, metadataBytes) : null;
    const noP2pReason = empty ?? under.refusal ?? kernelRefusal(context);
    const { stack, layers, disks, controller, client, legs } = common(under);
    this.kind = isNamespace ? 'namespace' : 'block';
    this.name = name;
    this.device = `/dev/${name.replaceAll('!', '/')}`;
    this.number = device.number ?? numberOf(dir);
    this.stack = stack;
    this.layers = layers;
    this.disks = disks;
    this.controller = controller;
    this.client = client;
    this.legs = legs;
    this.size = sectors === null ? null : sectors * 512;
    this.metadataBytes = metadataBytes;
    this.zones = zonesOf(context, device);
    this.limits = new LimitsAsRead(context, device, noP2pReason === null);
    this.noP2pReason = noP2pReason;
    this.noP2pByCommand = isNamespace ? (empty ?? commandRefusal(context, device)) : noP2pReason;
    this.#devices = context.devices;
    this.#device = device;
  }

  get partitions(): readonly PartitionInfo[] {
    return this.#devices.partitions(this.#device);
  }

  get readOnly(): boolean {
    return this.#device.dir.flag('ro', { optional: true }) ?? false;
  }

  get ranges(): readonly UnderlyingRange[] | null {
    return this.number === null ? null : underlying(this.#devices, { number: this.number });
  }

  get inUse(): InUse {
    return this.#devices.inUse(this.#device);
  }
}

/** What refuses peer memory on the route of an NVMe command; for a multipath head, its paths are checked. */
function commandRefusal(context: BlockContext, device: BlockDir): string | null {
  const layer = context.devices.layer(device);
  const from = layer.kind === 'multipath-head' && layer.below.length > 0 ? layer.below : [device];
  return walkDown(context, from).refusal ?? kernelRefusal(context);
}

const UNUSED: InUse = { mountPoints: [], holders: [], swap: false, words: null };

interface FilePlace {
  readonly mount: Mount | null;
  readonly path: string;
  readonly size: number | null;
}

function fileInfo(context: BlockContext, place: FilePlace, depth = 0): BlockInfo {
  const { mount, size } = place;
  if (mount?.type === 'overlay' && depth < MAX_DEPTH) {
    const below = overlayInfo(context, { ...place, mount }, depth);
    if (below !== null) return below;
  }
  if (mount === null || context.remembered === null) return { size, ...mountedInfo(context, mount) };
  return { size, ...context.remembered.of(mount, context, () => mountedInfo(context, mount)) };
}

/** What is the same for all files of a mounted filesystem. */
function mountedInfo(context: BlockContext, mount: Mount | null): MountedInfo {
  const { devices } = context;
  const on = mount === null ? [] : devices.devicesOf(mount);
  const under = walkDown(context, on);
  const facts = mount === null ? null : fileSystemFacts(mount.type, mount.superOptions);
  const first = on[0] ?? null;
  const noP2pReason =
    facts === null ? 'its filesystem is not known' : (facts.noP2p ?? belowFile(mount!, on, under));
  const reason = noP2pReason ?? kernelRefusal(context);
  return {
    kind: 'file',
    name: first?.name ?? null,
    device: first === null ? null : `/dev/${first.name.replaceAll('!', '/')}`,
    number: first === null ? null : numberOf(first.dir),
    ...common(under),
    partitions: [],
    readOnly: mount?.options.includes('ro') ?? false,
    metadataBytes: null,
    zones: null,
    limits: queueLimits(context, first, reason === null),
    noP2pReason: reason,
    noP2pByCommand: reason,
    unproven: facts?.unproven ?? null,
    dioAlignProves: facts?.dioAlignProves ?? false,
    fileSystem: mount?.type ?? null,
    directFileSystem: mount?.type ?? null,
    mountOptions: mount?.superOptions ?? [],
    mountPoint: mount?.mountPoint ?? null,
    ranges: null,
    inUse: UNUSED,
  };
}

/** A file on overlayfs, treated as the file in its layer that it appears to be. Null: the layers are not visible from here. */
function overlayInfo(
  context: BlockContext,
  { mount, path, size }: FilePlace & { readonly mount: Mount },
  depth: number,
): BlockInfo | null {
  const { upper, lower, split } = overlayLayers(mount);
  const all = upper === null ? lower : [upper, ...lower];
  const places = all.map((layer) => ({ layer, mount: context.devices.mountOf(layer, null) }));
  const [first] = places;
  if (first === undefined || places.some(({ layer, mount: on }) => !layer.startsWith('/') || on === null))
    return null;
  const there =
    context.tree.live &&
    places.find(({ layer }) => context.devices.statOf(inLayer(layer, mount, path)) !== null);
  const { layer, mount: on } = there || first;
  const info = fileInfo(context, { mount: on, path: inLayer(layer, mount, path), size }, depth + 1);
  const one = !split && places.every((place) => place.mount!.device === on!.device);
  const seems = `the kernel does not say which layer of overlayfs '${path}' is in; it seems to be ${layer}`;
  return {
    ...info,
    unproven: info.unproven ?? (one ? null : seems),
    dioAlignProves: info.dioAlignProves && one,
    fileSystem: mount.type,
    mountPoint: mount.mountPoint,
    readOnly: mount.options.includes('ro'),
  };
}

function belowFile(mount: Mount, on: readonly BlockDir[], under: Under): string | null {
  if (on.length === 0) return `the block device under ${mount.type} on ${mount.mountPoint} is not known`;
  if (on.length > 1) return `${mount.type} spreads over ${on.map(({ name }) => name).join(' and ')}`;
  return under.refusal;
}

// --- walking down the stack ---

interface Under {
  readonly stack: string[];
  readonly layers: { name: string; kind: Layer['kind']; level?: string }[];
  readonly disks: BlockDisk[];
  /** The topmost refusal. */
  refusal: string | null;
  /** True if something between the target and its disks does its own I/O, so there is no client. */
  detached: boolean;
}

const MAX_DEPTH = 32;

function walkDown(context: BlockContext, from: readonly BlockDir[]): Under {
  const under: Under = { stack: [], layers: [], disks: [], refusal: null, detached: false };
  const seen = new Set<string>();
  const walk = (device: BlockDir, depth: number): void => {
    if (seen.has(device.name) || depth > MAX_DEPTH) return;
    seen.add(device.name);
    under.stack.push(device.name);
    const layer = context.devices.layer(device);
    under.layers.push({
      name: device.name,
      kind: layer.kind,
      ...(layer.level === undefined ? {} : { level: layer.level }),
    });
    const disk = layer.kind === 'disk' ? diskFacts(context, device) : null;
    under.refusal ??=
      overFabrics(context, device, layer) ??
      layerRefusal(device, layer, context.release) ??
      disk?.refusal ??
      null;
    if (disk !== null) under.disks.push(disk.disk);
    if (layer.kind === 'loop') under.detached = true;
    for (const below of [...layer.below, ...holdersOf(context, layer.file)]) walk(below, depth + 1);
  };
  for (const device of from) walk(device, 0);
  return under;
}

/** The devices of the filesystem that contains a loop device's file. */
function holdersOf({ devices }: BlockContext, file: Layer['file']): readonly BlockDir[] {
  if (!file?.startsWith('/')) return [];
  const mount = devices.mountOf(posix.normalize(file), null);
  return mount === null ? [] : devices.devicesOf(mount);
}

function common(
  under: Under,
): Pick<BlockInfo, 'stack' | 'layers' | 'disks' | 'controller' | 'client' | 'legs'> {
  const { stack, layers, disks, detached } = under;
  const [first] = disks;
  const alike = disks.every((disk) => disk.client === first?.client);
  const one = first !== undefined && !detached && alike;
  return {
    stack,
    layers,
    disks,
    client: one ? first.client : null,
    legs: detached ? null : legsOf(under),
    controller: one && disks.every((disk) => disk.controller === first.controller) ? first.controller : null,
  };
}

/**
 * Null: one function does all the DMA, and there is no mirror that hides an error of one member; or not all functions are
 * known.
 */
function legsOf({ layers, disks }: Under): Legs | null {
  const clients = [...new Set(disks.map(({ client }) => client))].filter((client) => client !== null);
  const mirror = layers.find(({ level }) => level !== undefined && MD_MIRRORS.includes(level));
  if (disks.some(({ client }) => client === null)) return null;
  if (clients.length === 0 || (clients.length === 1 && mirror === undefined)) return null;
  const { name, kind, level } = mirror ?? layers[0]!;
  const what = level ?? (kind === 'multipath-head' ? 'multipath' : null);
  return { of: what === null ? name : `${name} (${what})`, mirror: mirror !== undefined, clients };
}

/** For a multipath head whose paths all lead over a network; plain disks would not help there. */
function overFabrics(context: BlockContext, { name }: BlockDir, layer: Layer): string | null {
  if (layer.kind !== 'multipath-head') return null;
  const transports = layer.below.map(
    (path) => controllerOf(context.controllers, path.name, path.dir.real)?.transport ?? 'pcie',
  );
  if (transports.length === 0 || transports.includes('pcie')) return null;
  return overNetwork(name, [...new Set(transports)].join(' and '), context).refusal;
}

function diskFacts(
  context: BlockContext,
  { name, dir }: BlockDir,
): { disk: BlockDisk; refusal: string | null } {
  const { pci, controllers } = context;
  const controller = NVME_DISK.test(name) ? controllerOf(controllers, name, dir.real) : null;
  const onPath = functionOnPath(dir.real);
  const client = controller === null ? (onPath === null ? null : pci.find(onPath)) : controller.pdev;
  const disk = { name, client, controller: controller?.name ?? null };
  if (!NVME_DISK.test(name)) {
    return { disk, refusal: `${name} is not an NVMe disk: its queue does not take peer-to-peer memory` };
  }
  if (controller === null) return { disk, refusal: `the controller of ${name} is not known` };
  if (controller.transport !== 'pcie') {
    const far = overNetwork(name, controller.transport, context);
    return { disk: { ...disk, client: far.client }, refusal: far.refusal };
  }
  return { disk, refusal: client === null ? `the PCI function of ${controller.name} is not known` : null };
}

/** Found by the device path, by a hidden path's name, or by the namespaces that controllers list. */
function controllerOf(
  controllers: readonly SysfsController[],
  disk: string,
  real: readonly string[],
): SysfsController | null {
  const parent = real.at(-2);
  const hidden = NVME_DISK.exec(disk)?.[2];
  return (
    controllers.find(({ name }) => name === parent) ??
    controllers.find(({ name }) => name === `nvme${hidden}`) ??
    controllers.find(({ namespaces }) => namespaces.some(({ name }) => name === disk)) ??
    null
  );
}

function kernelRefusal({ kernel, iommu }: BlockContext): string | null {
  if (iommu === 'unsupported') return 'the machine’s DMA mapping does not support peer-to-peer memory';
  const { p2pdma, release } = kernel();
  if (p2pdma.enabled === false) return `the kernel was built without CONFIG_PCI_P2PDMA (${p2pdma.from})`;
  return withheldFromPrograms(parseRelease(release));
}

function zonesOf({ devices }: BlockContext, device: BlockDir): string | null {
  const zoned = zonedOf(devices.diskOf(device)?.dir.dir('queue') ?? null);
  return zoned === null ? null : hostManagedZones(zoned.zoneSize);
}

// --- the queue ---

/** Assumed values if the queue does not report its own: correct for any drive, but slow. */
const CAUTIOUS = { logicalBlockSize: 4096, maxTransfer: 128 * 1024, maxSegments: 32 };

/** Each is read when it is asked for: an open device reports most of them itself. */
class LimitsAsRead implements QueueLimits {
  readonly pciP2pdma: boolean;
  readonly #queue: SysfsDir | null;

  constructor({ devices }: BlockContext, device: BlockDir | null, pciP2pdma: boolean) {
    this.pciP2pdma = pciP2pdma;
    this.#queue = (device === null ? null : devices.diskOf(device))?.dir.dir('queue') ?? null;
  }

  get logicalBlockSize(): number {
    return blockSize(this.#queue) ?? CAUTIOUS.logicalBlockSize;
  }

  get dmaAlignment(): number {
    const mask = this.#queue?.number('dma_alignment', { max: 0xffff, optional: true }) ?? null;
    return mask !== null && Number.isInteger(Math.log2(mask + 1)) ? mask + 1 : this.logicalBlockSize;
  }

  get maxTransfer(): number {
    return (this.#queue === null ? null : maxTransferOf(this.#queue)) ?? CAUTIOUS.maxTransfer;
  }

  get maxSegments(): number {
    return this.#queue?.number('max_segments', { min: 1, max: 0xffff }) ?? CAUTIOUS.maxSegments;
  }
}

/** All of them, read now. */
function queueLimits(context: BlockContext, device: BlockDir | null, p2pdma: boolean): QueueLimits {
  const limits = new LimitsAsRead(context, device, p2pdma);
  const { logicalBlockSize, dmaAlignment, maxTransfer, maxSegments, pciP2pdma } = limits;
  return { logicalBlockSize, dmaAlignment, maxTransfer, maxSegments, pciP2pdma };
}

// --- this machine's files ---

function realPath(path: string): string {
  try {
    return realpathSync.native(path);
  } catch {
    return path;
  }
}
