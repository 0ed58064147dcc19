/**
 * The interface between the streams and the part that does the DMA: the real kernel (native), or this package's own kernel on
 * emulated hardware (emulator). It consists of four small tables (topology, memory, target, passthrough) and the object that
 * carries them. Everything here is about *one process's* use of a machine.
 */

import { didYouMean } from '../base/nearest.js';
import type { Evidence } from './evidence.js';
import { bareName, normalizeBdf } from './names.js';
import type { Engine, SnapshotOptions } from './system-options.js';
import type { Bdf, PciDev, Topology } from './topology.js';

/** Granule of every mapping, in bytes. */
export const PAGE_SIZE = 4096;

/**
 * Numbers of bytes, by the route that they took.
 *
 *     drive A ──internal──▶ A's CMB ──peerBus──▶ drive B        copying N bytes A→B through A's CMB:
 *                                                               internal N, peerBus N, the rest 0
 */
export interface PathBytes {
  /** A drive moved data to or from its own CMB. */
  internal: number;
  /** From one PCI function to another without reaching the root complex. */
  peerBus: number;
  /** From one PCI function to another through the root complex (host bridge), not through DRAM. */
  hostBridge: number;
  /** Into or out of host DRAM, as far as is known. */
  hostDram: number;
  /**
   * Bytes that a target moved with a peer's memory, without proof that they went directly: the kernel may have bounced them
   * through host DRAM. Absent: none. The reason is in the receipt's `unproven`.
   */
  unproven?: number;
}

/** The routes that are known. */
export type KnownWay = Exclude<keyof PathBytes, 'unproven'>;

/** A piece of mmapped memory. */
export interface Mapping {
  /** Exactly `bytes` long. memremap's `pgmapOf()` recognises the buffer and every view of it. */
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  /** The function whose CMB this is, or null for host memory. */
  readonly provider: PciDev | null;
  /**
   * Detach the buffer (any later use of a view throws) and free the memory. Idempotent.
   * Must not be called while an I/O uses the memory; the slot pool ensures this.
   */
  munmap(): void;
}

export interface MemoryBackend {
  /**
   * mmap(MAP_SHARED) of `<provider>/p2pmem/allocate`. Bytes are rounded up to pages.
   * @throws P2pdmaError ENODEV (no p2pmem), ENOMEM (pool exhausted), EACCES
   */
  mmapP2pmem(provider: PciDev, bytes: number): Mapping;
  /** Page-aligned host memory, suitable for O_DIRECT. */
  allocHost(bytes: number): Mapping;
  /** Ordinary garbage-collected memory, aligned for O_DIRECT, that a consumer may keep forever. */
  allocBuffer(bytes: number): Uint8Array;
  /** Bytes that are free in the provider's pool now (`p2pmem/available`). */
  available(provider: PciDev): number;
}

/** What a block queue accepts. Sizes in bytes. */
export interface QueueLimits {
  /** Offset and length of every transfer must be multiples of this: 512 or 4096. */
  readonly logicalBlockSize: number;
  /** Memory addresses must be multiples of this (`queue/dma_alignment` + 1): 4 on NVMe. */
  readonly dmaAlignment: number;
  /** Size of the largest single request (`queue/max_sectors_kb`); longer ones are split. */
  readonly maxTransfer: number;
  /** Maximum number of separate pieces of memory in one request (`queue/max_segments`). */
  readonly maxSegments: number;
  /** The queue accepts P2P memory (BLK_FEAT_PCI_P2PDMA). */
  readonly pciP2pdma: boolean;
}

/**
 * One transfer, as preadv2/pwritev2 with O_DIRECT would do it. The caller owns the object and may reuse it after `done`. Before
 * that, the caller must not change it or its memory.
 */
export interface IoRequest {
  op: 'read' | 'write';
  /** Byte offset in the target. */
  offset: number;
  /** Memory, in order. CMB and host memory may be mixed (if the CMB is the drive's own, the result is EIO). */
  segments: readonly Uint8Array[];
  /**
   * Buffered I/O, without O_DIRECT: any offset, length and address is accepted, and a file gets exactly the length that was
   * written. The page cache and direct transfers agree on every byte. Files only; other targets answer EOPNOTSUPP.
   */
  readonly buffered?: boolean;
  /** The caller does not mind whether the page cache serves it. The target decides; if it does, its memory must be the host's. */
  readonly cacheable?: boolean;
  /** Set by the backend: the number of bytes moved, or a negative errno. A short count is possible and is not an error here. */
  result: number;
  /** Set by the backend: the route of the bytes. The native backend derives it from the map type. */
  readonly path: PathBytes;
  /** Called exactly once, never inside `submit`. */
  done(io: IoRequest): void;
}

/** An NVMe command for passthrough (NVME_IOCTL_IO64_CMD, NVME_IOCTL_ADMIN64_CMD). */
export interface PassthroughCommand {
  /** Send it to the admin queue instead of the namespace’s queue. Default: false. */
  readonly admin?: boolean;
  /** Its low two bits give the direction of the data: 1 to the drive, 2 from the drive (NVMe Base, Opcode). */
  readonly opcode: number;
  /** Namespace id; default: the target’s own, or 0 for the admin queue. */
  readonly nsid?: number;
  /** Command dword 2; default 0. */
  readonly cdw2?: number;
  /** Command dword 3; default 0. */
  readonly cdw3?: number;
  /** Command dword 10; default 0. */
  readonly cdw10?: number;
  /** Command dword 11; default 0. */
  readonly cdw11?: number;
  /** Command dword 12; default 0. */
  readonly cdw12?: number;
  /** Command dword 13; default 0. */
  readonly cdw13?: number;
  /** Command dword 14; default 0. */
  readonly cdw14?: number;
  /** Command dword 15; default 0. */
  readonly cdw15?: number;
  /** Data memory, which the drive reads or writes, depending on the opcode's low two bits. */
  readonly data?: Uint8Array;
  /** Timeout in milliseconds; default: the driver’s. */
  readonly timeoutMs?: number;
}

/** The drive's answer. */
export interface PassthroughResult {
  /** NVMe status: code type << 8 | code; 0 is success. */
  readonly status: number;
  /** Command-specific result (DW0 and DW1 of the completion). */
  readonly result: bigint;
  /** The route of its data. */
  readonly path: PathBytes;
}

/**
 * The PCI functions that do a target's DMA, if there are several: the members of an array, or the paths of a multipath head.
 */
export interface Legs {
  /** The device that they belong to: `'md0 (raid1)'`. */
  readonly of: string;
  /** Each block is written to several of them, and an error of only one of them is not reported: see releases/bugs.ts. */
  readonly mirror: boolean;
  /** The PCI functions, each of which must be able to reach the memory. */
  readonly clients: readonly PciDev[];
}

/** An open namespace, block device or file. */
export interface BlockTarget {
  /** Same as `Target.name`. */
  readonly name: string;
  /** The path as the caller gave it. */
  readonly path: string;
  /** An NVMe namespace, another block device (partition, dm, md, loop), or a file. */
  readonly kind: 'namespace' | 'block' | 'file';
  /** The PCI function that does the DMA (the P2PDMA client); null: there is none, or there are several. */
  readonly client: PciDev | null;
  /** Absent or null: no PCI functions other than `client` do its DMA. @internal */
  readonly legs?: Legs | null;
  /** Exact size in bytes; for a file, its current length. */
  readonly size: number;
  /** The same, as it was in this turn of the event loop; absent: no faster to know than `size`. */
  readonly sizeThisTurn?: number;
  /** Of a file: where what is moved with memory of the host rather goes through the page cache, up to this byte. Default: 0. */
  readonly cachedUpTo?: number;
  /** The limits of its queue. */
  readonly limits: QueueLimits;
  /** Null if this target accepts CMB memory; otherwise the reason why it does not, in words. */
  readonly noP2pReason: string | null;
  /** Null if each success proves which route the bytes took; otherwise the reason why a receipt must say `unproven`. */
  readonly unproven: string | null;
  /** See Place. */
  readonly zones?: string | null;
  /** See End. @internal */
  readonly ranges: readonly UnderlyingRange[];
  /** False: this process may write it but not read it. @internal */
  readonly readable: boolean;
  /** It is a file, which was created when it was opened here. @internal */
  readonly made?: boolean;
  /** The number of its open descriptor, where this process has one. @internal */
  readonly fd?: number | undefined;
  /**
   * Set: node:fs reads and writes it, one call at a time and in order, for this reason (in words). It has no size that is
   * known in advance, a read returns what is there, and it ends where a read returns nothing. @internal
   */
  readonly inOrder?: string;
  /** Queue one transfer. Transfers of one event-loop turn are submitted together. @internal */
  submit(io: IoRequest): void;
  /** Make everything that was written durable. */
  flush(): Promise<void>;
  /** Set a file's exact length; block targets reject with EINVAL. */
  truncate(size: number): Promise<void>;
  /**
   * The first byte at or after `offset` that is not in a hole; `size` if there is none. Where holes are not known, everything
   * counts as data.
   */
  seekData(offset: number): number;
  /** The first byte at or after `offset` that is in a hole; `size` if there is none. */
  seekHole(offset: number): number;
  /** Make `[offset, offset + length)` a hole that reads as zeros; EOPNOTSUPP if the target does not support holes. */
  punchHole(offset: number, length: number): Promise<void>;
  /**
   * Send an NVMe command (drivers/nvme/host/ioctl.c); its status is in the result. ENOTTY: the target is not an NVMe namespace.
   */
  passthrough(command: PassthroughCommand): Promise<PassthroughResult>;
  /** Resolves when nothing is in flight any more and the target is closed. Idempotent. */
  close(): Promise<void>;
}

export interface OpenOptions {
  readonly write?: boolean | undefined;
  /** Allow writing to a device that is mounted or otherwise in use. */
  readonly force?: boolean | undefined;
  /** Files only: create it if missing. */
  readonly create?: boolean | undefined;
  /** Files only: fail if it exists. */
  readonly exclusive?: boolean | undefined;
  /** Files only: start at length 0. */
  readonly truncate?: boolean | undefined;
  /** Files only: the permissions of a new file, before the umask; default: 0o666. */
  readonly mode?: number | undefined;
  /** Native only: which engine does the I/O. */
  readonly engine?: Engine | undefined;
  /** Emulator only: on which controller (name or BDF) a file is placed; default: see openSystem. */
  readonly controller?: string | undefined;
  /** The result of `inspect` for it. Facts in it that cannot have changed since are not looked up again. */
  readonly end?: End | undefined;
}

/** Why the kernel lends a CMB to nobody; `Controller.cmb` says what each kind means. @inline */
export interface UnusableCmb {
  /** What is wrong with it. */
  readonly kind:
    | 'no-p2pdma'
    | 'no-data'
    | 'outside-bar'
    | 'misaligned'
    | 'perhaps-misaligned'
    | 'not-registered'
    | 'not-published';
  /** The same in words, with the numbers. */
  readonly text: string;
}

/** An NVMe controller and what it offers. */
export interface Controller {
  /** `'nvme0'`. */
  readonly name: string;
  /** Its PCI function; null if it is reached over a network. */
  readonly pdev: PciDev | null;
  /** `'pcie'`, or a fabric's transport: `'tcp'`, `'loop'`, `'rdma'`. */
  readonly transport: string;
  /** The model that the drive reports; null: not known. */
  readonly model: string | null;
  /** Its block devices: name (`'nvme0n1'`), namespace id, size and block size in bytes. */
  readonly namespaces: readonly {
    /** The disk's name in /dev: `'nvme0n1'`. */
    readonly name: string;
    /** Namespace id, from 1. */
    readonly nsid: number;
    /** In bytes. */
    readonly size: number;
    /** In bytes: 512 or 4096. */
    readonly logicalBlockSize: number;
  }[];
  /**
   * Its Controller Memory Buffer (NVMe Base, CMBLOC and CMBSZ), or null. `unusable`: why the kernel lends it to nobody. The
   * kinds are: `no-p2pdma`: the kernel was built without CONFIG_PCI_P2PDMA; `no-data`: the drive does not support the data
   * of reads or of writes in it (RDS, WDS); `outside-bar`: its registers place it beyond its BAR; `misaligned`: its size or
   * its start does not fit the granule of memory hot-plug; `perhaps-misaligned`: the same, but only a BAR is visible, which
   * may be a CMB; `not-registered`, `not-published`: the kernel did not do it, and only its log may say why.
   */
  readonly cmb: {
    /** In bytes. */
    readonly size: number;
    /** Commands can both read and write it (RDS and WDS in CMBSZ), so it may be chosen as a provider. */
    readonly published: boolean;
    /** Null, or the reason why the kernel lends it to nobody: its kind, and the same in words. */
    readonly unusable: UnusableCmb | null;
  } | null;
}

/** What udev found on a device when it last looked at it. Null: it found none. @inline */
export interface DiskRecord {
  /** The kind of partition table: `'gpt'`, `'dos'`. */
  readonly table: string | null;
  /** What a filesystem or a RAID member is: `'ext4'`, `'LVM2_member'`. */
  readonly type: string | null;
  /** The filesystem's label. */
  readonly label: string | null;
  /** The name that the partition table gives to a partition. */
  readonly partitionLabel: string | null;
}

/** What a person recognises a disk by. */
export interface Disk {
  /** Its name in /dev: `'nvme0n1'`. */
  readonly name: string;
  /** In bytes; null: not known. */
  readonly size: number | null;
  /** As the drive reports it; null: not known. */
  readonly model: string | null;
  /** Its serial number; null: not known. The namespaces of one controller have the same. */
  readonly serial: string | null;
  /** Its names below /dev/disk/by-id, the shortest first. */
  readonly ids: readonly string[];
  /** What is on it, from udev's records and not read from it; null: there is no record. */
  readonly record: DiskRecord | null;
  /** The same of its partitions. */
  readonly partitions: readonly { readonly name: string; readonly record: DiskRecord | null }[];
}

/** What is still held after everything was closed. A number other than zero is a leak. */
export interface LeakReport {
  /** IOVA ranges still mapped. */
  iovas: number;
  /** Pages still pinned. */
  pages: number;
  /** Slots that were not released, and bytes of CMB that were not returned to a pool. */
  slots: number;
  /** Requests that never completed. */
  requests: number;
  /** Native only: file descriptors, mappings and rings that are still open. */
  handles: number;
}

/** The storage stack under a name or path, down to the disks. */
export interface Place {
  /** The kind of thing that the name or path refers to. */
  readonly kind: 'namespace' | 'block' | 'file';
  /** Every block device of the stack, from the top down: a device-mapper device, a partition, a disk. */
  readonly layers: readonly {
    /** Its name in /dev: `'dm-0'`, `'nvme0n1p1'`. */
    readonly name: string;
    /** The kind of layer. */
    readonly kind: 'partition' | 'device-mapper' | 'md' | 'stacked' | 'loop' | 'multipath-head' | 'disk';
    /** The RAID level of an md array, if known: `'raid1'`. */
    readonly level?: string;
  }[];
  /** The PCI functions that do the disks' DMA. */
  readonly clients: readonly PciDev[];
  /** Set if several of them do the DMA of one target. @internal */
  readonly legs?: Legs | null;
  /** Null if it accepts CMB memory; otherwise what refuses it, in words. */
  readonly noP2pReason: string | null;
  /** Null if success proves which route the bytes took. */
  readonly unproven: string | null;
  /** Who mounts or holds it, in words; null: nobody, as far as is known. */
  readonly inUse: string | null;
  /** For a zoned device, a clause that says how it must be written; otherwise null. */
  readonly zones?: string | null;
  /** The partitions of a disk. */
  readonly partitions: readonly {
    /** `'nvme0n1p1'`. */
    readonly name: string;
    /** In bytes. */
    readonly size: number;
    /** Who mounts or holds it, in words, or null. */
    readonly inUse: string | null;
  }[];
}

/**
 * What a name or path refers to, and what opening it would give. It is inspected without being opened: once, and the result is
 * passed to every later step. A file need not exist yet.
 */
export interface End {
  /** The path that the target would have. */
  readonly path: string;
  readonly kind: BlockTarget['kind'];
  /** In bytes; null: nothing is there, or its size is not known. */
  readonly size: number | null;
  /** The PCI function that would do its DMA, if there is exactly one. */
  readonly client: PciDev | null;
  readonly legs?: Legs | null;
  readonly noP2pReason: string | null;
  /** The same if NVMe commands do the I/O (engine 'passthrough'); absent: the same as `noP2pReason`. */
  readonly noP2pByCommand?: string | null;
  readonly unproven: string | null;
  /** Who mounts or holds it, in words; null: nobody, as far as is known. */
  readonly inUse: string | null;
  readonly readOnly: boolean;
  /** An identity that a device keeps when its name changes (a WWN, a UUID); null: it has none, or it is a file. */
  readonly identity: string | null;
  /** Data written there is lost when this process ends: an emulated drive that is not kept in a file. */
  readonly endsWithProcess: boolean;
  /** The target itself, then the devices or files that hold its bytes, as far as known. */
  readonly ranges: readonly UnderlyingRange[];
  /** The storage stack under it; null: there is no such device or file. */
  readonly place: Place | null;
}

/** In which role an end is inspected; default: as a source. */
export interface InspectOptions {
  readonly write?: boolean;
  /** The number of earlier destinations that are files. */
  readonly earlier?: number;
}

/**
 * Where a target's bytes lie, as a range of the underlying device or file. If two targets have such ranges in common, they
 * overlap.
 */
export interface UnderlyingRange {
  /** A key that is the same for all names of one file or device. */
  readonly on: string;
  /** The name to show to people: `'/dev/nvme0n1'`. */
  readonly name: string;
  readonly start: number;
  readonly length: number;
  /** True: byte n of the target is byte `start` + n. False: it is only known that its bytes are somewhere in this range. */
  readonly exact: boolean;
}

/** Where a result comes from. This is part of every result: an emulated machine's answer must never look like a real one's. */
export interface Origin {
  /** `'native'`: a real kernel; `'emulator'`: a machine in this process. */
  readonly backend: 'native' | 'emulator';
  /** The emulated machine's name; null: the machine is real. */
  readonly machine: string | null;
}

export function originOf({ name, machine }: Pick<Backend, 'name' | 'machine'>): Origin {
  return { backend: name, machine };
}

/** The size of a target as it was in this turn of the event loop at the earliest. */
export function sizeThisTurn(target: BlockTarget): number {
  return target.sizeThisTurn ?? target.size;
}

/** A request to a backend to move the chunks of a range from one target to others by itself. */
export interface PumpRequest {
  readonly source: PumpEnd;
  readonly destinations: readonly PumpEnd[];
  /** Number of bytes to move: a whole number of blocks of every end. */
  readonly length: number;
  /** Number of bytes in one transfer: a whole number of blocks of every end. */
  readonly chunk: number;
  /** Maximum number of reads in flight. */
  readonly depth: number;
  /**
   * Pieces of one mapping, each at least a chunk long, at equal distances. Nothing else may touch this memory until the run is
   * over.
   */
  readonly slots: readonly Uint8Array[];
}

/** One end of a pump's range. */
export interface PumpEnd {
  readonly target: BlockTarget;
  /** Offset in the target at which the range begins, in bytes. */
  readonly offset: number;
}

/** What a pump did at one end since the last call. */
export interface PumpAccount {
  /** Number of transfers that ended. */
  readonly transfers: number;
  /** Bytes that they moved, by route. */
  readonly bytes: number;
  readonly path: PathBytes;
  /** Number of transfers that are in flight now. */
  readonly inFlight: number;
}

/** What a pump did since the last call. */
export interface PumpProgress {
  /** Additional bytes that every destination now has, counted from the beginning without a gap. */
  readonly moved: number;
  readonly source: PumpAccount;
  /** In the order of the request. */
  readonly destinations: readonly PumpAccount[];
}

/** A running transfer of a range. */
export interface PumpRun {
  /** What was done since the last call. */
  progress(): PumpProgress;
  /** Start no further reads; chunks that were already read are still written. */
  stop(): void;
  /**
   * Resolves when nothing is in flight any more. The value is the failure that ended it early, or null: everything was moved,
   * or it was stopped.
   */
  readonly over: Promise<PumpFailure | null>;
}

/** A transfer of a pump that did not move its chunk in full. */
export interface PumpFailure {
  /** Index of the destination that was being written, or null: the source was being read. */
  readonly destination: number | null;
  /** Offset of its chunk from the beginning of the range. */
  readonly at: number;
  /** A byte count smaller than the chunk, or a negative errno. */
  readonly result: number;
}

/** What is moved through a pipe. */
export interface PipeMove {
  readonly op: 'read' | 'write';
  readonly fd: number;
  readonly view: Uint8Array;
}

export interface Backend {
  readonly name: 'native' | 'emulator';
  /** See Origin. */
  readonly machine: string | null;
  /**
   * The notice that begins every text about an emulated machine: that it is emulated, and how long its drives last. Null: the
   * machine is real.
   */
  readonly notice: string | null;
  /** For a machine that is only known from what somebody sent: what that was, and what it cannot show. */
  readonly evidence?: Evidence | null;
  /**
   * The kernel's release as uname gives it, `'6.12.117'`; for an emulated machine, the one in its description. Null: not known.
   */
  readonly release: string | null;
  readonly topology: Topology;
  readonly controllers: readonly Controller[];
  /** Names of the md arrays with a member on one of the drives: `'md0'`. */
  readonly arrays: readonly string[];
  readonly memory: MemoryBackend;
  /** Open a namespace by name (`nvme0n1`), device path (`/dev/nvme0n1`) or file path. */
  openTarget(nameOrPath: string, options: OpenOptions): Promise<BlockTarget>;
  /** The machine as JSON that the emulator can run (see the machine schema). */
  snapshot(options?: SnapshotOptions): unknown;
  /**
   * Move whole chunks between targets of this backend without a call per chunk. Only the simple case is handled: at the first
   * transfer that does not move its full chunk, the pump ends and reports that. Null: the backend declines, and each transfer
   * must be submitted to the targets, just as when a backend has no pump.
   */
  readonly pump?: (request: PumpRequest) => PumpRun | null;
  /**
   * Read a pipe or a socket until `view` is full, or write all of `view` to it, in a thread, which waits for a tenth of a second
   * at most: `moved` may be 0. Otherwise it is the number of bytes, or a negative errno. `ended`: the read found the end. The
   * flags of the descriptor, which other processes may share, stay as they are. Nothing else may use the descriptor, or close it,
   * until `done`, which is never called inside this call.
   * Absent: the backend has no threads.
   */
  readonly movePipe?: (move: PipeMove, done: (moved: number, ended: boolean) => void) => void;
  /** The disks with these names (default: all), and what a person recognises them by. */
  disks(only?: readonly string[]): readonly Disk[];
  /** What can be found out about a name or path without opening it. */
  inspect(nameOrPath: string, options?: InspectOptions): End;
  /**
   * What `ask` inspects, it sees as of one moment, and what several ends have in common is looked up once. `ask` is
   * synchronous; nothing is kept after it returns.
   */
  together<T>(ask: () => T): T;
  close(): Promise<LeakReport>;
}

/** The hint for an error about a namespace that does not exist. */
export function knownNamespaces(controllers: readonly Controller[], asked: string): string {
  const names = controllers.flatMap(({ namespaces }) => namespaces.map(({ name }) => name));
  const name = bareName(asked);
  const meant = didYouMean(name, names);
  const own = names.filter((other) => other.startsWith(`${name}n`));
  const is = own.length > 0 ? `'${name}' is a controller: name its namespace (${own.join(', ')}).` : meant;
  return `${is} \`p2pdma list\` shows the namespaces there are.`.trimStart();
}

/** The hint for an error about a controller that does not exist: similar names, and the ones that exist. */
export function knownControllers(controllers: readonly Controller[], asked: string): string {
  const names = controllers.map(({ name }) => name);
  const others = controllers.flatMap(({ pdev, namespaces }) => [
    ...(pdev === null ? [] : [pdev.bdf]),
    ...namespaces.map((namespace) => namespace.name),
  ]);
  const meant = didYouMean(bareName(asked), [...names, ...others]);
  return `${meant} Known controllers: ${names.join(', ') || 'none'}.`.trimStart();
}

/** Find a controller by name (`nvme0`) or BDF. */
export function findController(controllers: readonly Controller[], nameOrBdf: Bdf): Controller | null {
  const bdf = normalizeBdf(nameOrBdf);
  return controllers.find((c) => c.name === nameOrBdf || c.pdev?.bdf === bdf) ?? null;
}
