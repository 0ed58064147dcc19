/**
 * The seam between the streams and whatever does the DMA: the real kernel (native) or ours over
 * emulated hardware (emulator). Four small tables (topology, memory, target, passthrough) and
 * the object that carries them. Everything here is about *one process's* use of a machine.
 */

import { didYouMean } from '../base/nearest.js';
import type { Evidence } from './evidence.js';
import { bareName, normalizeBdf } from './names.js';
import type { Engine, SnapshotOptions } from './system-options.js';
import type { Bdf, PciDev, Topology } from './topology.js';

/** Granule of every mapping, in bytes. */
export const PAGE_SIZE = 4096;

/**
 * Bytes by the route that they took.
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
   * Given to a target as a peer's memory, and nothing proves that it went directly: the kernel may have moved it through host
   * DRAM. Absent: none. Why is in the receipt's `unproven`.
   */
  unproven?: number;
}

/** The ways that are known. */
export type KnownWay = Exclude<keyof PathBytes, 'unproven'>;

/** A piece of mmapped memory. */
export interface Mapping {
  /** Exactly `bytes` long. memremap's `pgmapOf()` recognises it and every view of it. */
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  /** The function whose CMB this is, or null for host memory. */
  readonly provider: PciDev | null;
  /**
   * Detach the buffer (any later use of a view throws) and give the memory back. Idempotent.
   * Must not be called while an I/O uses it; the slot pool sees to that.
   */
  munmap(): void;
}

export interface MemoryBackend {
  /**
   * mmap(MAP_SHARED) of `<provider>/p2pmem/allocate`. Bytes are rounded up to pages.
   * @throws P2pdmaError ENODEV (no p2pmem), ENOMEM (pool exhausted), EACCES
   */
  mmapP2pmem(provider: PciDev, bytes: number): Mapping;
  /** Page-aligned host memory fit for O_DIRECT. */
  allocHost(bytes: number): Mapping;
  /** Ordinary garbage-collected memory, at an address fit for O_DIRECT, that a consumer may keep for ever. */
  allocBuffer(bytes: number): Uint8Array;
  /** Bytes free in the provider's pool now (`p2pmem/available`). */
  available(provider: PciDev): number;
}

/** What a block queue accepts. Sizes in bytes. */
export interface QueueLimits {
  /** Offset and length of every transfer are multiples of it: 512 or 4096. */
  readonly logicalBlockSize: number;
  /** Memory addresses are multiples of it (`queue/dma_alignment` + 1): 4 on NVMe. */
  readonly dmaAlignment: number;
  /** Largest single request (`queue/max_sectors_kb`): longer ones are split. */
  readonly maxTransfer: number;
  /** Most separate pieces of memory in one request (`queue/max_segments`). */
  readonly maxSegments: number;
  /** The queue takes P2P memory (BLK_FEAT_PCI_P2PDMA). */
  readonly pciP2pdma: boolean;
}

/**
 * One transfer, as preadv2/pwritev2 with O_DIRECT would do it. The caller owns the object, may reuse
 * it after `done`, and must leave it and its memory alone before.
 */
export interface IoRequest {
  op: 'read' | 'write';
  /** Byte offset in the target. */
  offset: number;
  /** Memory, in order. CMB and host memory may be mixed (a CMB's owner answers that with EIO). */
  segments: readonly Uint8Array[];
  /**
   * The kernel's ordinary way, without O_DIRECT: any offset, length and address, and a file gets exactly the length that
   * was written. The page cache and direct transfers agree on every byte. Files only: EOPNOTSUPP for others.
   */
  readonly buffered?: boolean;
  /** Set by the backend: bytes moved, or a negative errno. A short count is possible and is not an error here. */
  result: number;
  /** Set by the backend: how the bytes went. Natively this is derived from the map type. */
  readonly path: PathBytes;
  /** Called exactly once, never inside `submit`. */
  done(io: IoRequest): void;
}

/** An NVMe command for passthrough (NVME_IOCTL_IO64_CMD, NVME_IOCTL_ADMIN64_CMD). */
export interface PassthroughCommand {
  /** To the admin queue instead of the namespace’s. Default false. */
  readonly admin?: boolean;
  /** Its low two bits say which way data goes: 1 to the drive, 2 from it (NVMe Base, Opcode). */
  readonly opcode: number;
  /** Namespace id; default: the target’s own, or 0 on the admin queue. */
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
  /** Data memory, read or written by the drive depending on the opcode's low two bits. */
  readonly data?: Uint8Array;
  /** In milliseconds; default: the driver’s. */
  readonly timeoutMs?: number;
}

/** What the drive answered. */
export interface PassthroughResult {
  /** NVMe status: code type << 8 | code; 0 is success. */
  readonly status: number;
  /** Command-specific result (DW0 and DW1 of the completion). */
  readonly result: bigint;
  /** The route of its data. */
  readonly path: PathBytes;
}

/** Several PCI functions may do a target's DMA: the members of an array, the paths of a multipath head. */
export interface Legs {
  /** What has them: `'md0 (raid1)'`. */
  readonly of: string;
  /** Each block is written to several of them, and what one of them refuses nobody hears of: see releases/bugs.ts. */
  readonly mirror: boolean;
  /** Each of them must be able to reach the memory. */
  readonly clients: readonly PciDev[];
}

/** An open namespace, block device or file. */
export interface BlockTarget {
  /** As `Target.name`. */
  readonly name: string;
  /** As the caller gave it. */
  readonly path: string;
  /** An NVMe namespace as it is, another block device (partition, dm, md, loop), or a file. */
  readonly kind: 'namespace' | 'block' | 'file';
  /** The PCI function that does the DMA (the P2PDMA client), or null: none, or not one alone. */
  readonly client: PciDev | null;
  /** Absent: `client` alone does. @internal */
  readonly legs?: Legs | null;
  /** Exact size in bytes; for a file its length now. */
  readonly size: number;
  /** What its queue accepts. */
  readonly limits: QueueLimits;
  /** Null when CMB memory may be given to this target; otherwise why not, in words. */
  readonly noP2pReason: string | null;
  /** Null when each success proves where the bytes went; otherwise why a receipt must say `unproven`. */
  readonly unproven: string | null;
  /** As of Place. */
  readonly zones?: string | null;
  /** As of End. @internal */
  readonly ranges: readonly UnderlyingRange[];
  /** False: it may be written, and this process may not read it. @internal */
  readonly readable: boolean;
  /** Queue one transfer. Transfers of one event-loop turn go down together. @internal */
  submit(io: IoRequest): void;
  /** Make everything written durable. */
  flush(): Promise<void>;
  /** Set a file's exact length; block targets refuse with EINVAL. */
  truncate(size: number): Promise<void>;
  /** The first byte at or after `offset` that is not in a hole; `size` if there is none. Where holes are not known, all is data. */
  seekData(offset: number): number;
  /** The first byte at or after `offset` that is in a hole; `size` if there is none. */
  seekHole(offset: number): number;
  /** Make `[offset, offset + length)` a hole that reads as zeros; EOPNOTSUPP where there are none. */
  punchHole(offset: number, length: number): Promise<void>;
  /**
   * Send an NVMe command (drivers/nvme/host/ioctl.c); its status is in the result. ENOTTY: not an NVMe namespace.
   */
  passthrough(command: PassthroughCommand): Promise<PassthroughResult>;
  /** Resolves when nothing is in flight any more and the target is closed. Idempotent. */
  close(): Promise<void>;
}

export interface OpenOptions {
  readonly write?: boolean | undefined;
  /** Write to a device that is mounted or otherwise held. */
  readonly force?: boolean | undefined;
  /** Files only: create it if missing. */
  readonly create?: boolean | undefined;
  /** Files only: fail if it exists. */
  readonly exclusive?: boolean | undefined;
  /** Files only: start at length 0. */
  readonly truncate?: boolean | undefined;
  /** Natively: which engine does the I/O. */
  readonly engine?: Engine | undefined;
  /** Emulator: which controller (name or BDF) a file is put on; default: see openSystem. */
  readonly controller?: string | undefined;
  /** What `inspect` said of it: what cannot have changed since is not found out again. */
  readonly end?: End | undefined;
}

/** An NVMe controller and what it offers. */
export interface Controller {
  /** `'nvme0'`. */
  readonly name: string;
  /** Its PCI function; null where it is reached over a network. */
  readonly pdev: PciDev | null;
  /** `'pcie'`, or a fabric's transport: `'tcp'`, `'loop'`, `'rdma'`. */
  readonly transport: string;
  /** As the drive reports it; null: not known. */
  readonly model: string | null;
  /** Its block devices: name (`'nvme0n1'`), namespace id, size and block size in bytes. */
  readonly namespaces: readonly {
    /** `'nvme0n1'`: the disk in /dev. */
    readonly name: string;
    /** Namespace id, from 1. */
    readonly nsid: number;
    /** In bytes. */
    readonly size: number;
    /** In bytes: 512 or 4096. */
    readonly logicalBlockSize: number;
  }[];
  /** Its Controller Memory Buffer (NVMe Base, CMBLOC and CMBSZ), or null. */
  readonly cmb: {
    /** In bytes. */
    readonly size: number;
    /** Commands may both read and write it (RDS and WDS in CMBSZ), so it may be chosen as a provider. */
    readonly published: boolean;
    /** Null, or why the kernel cannot use it, in words. */
    readonly unusable: string | null;
  } | null;
}

/** What is still held after everything was closed. Anything but zero is a leak. */
export interface LeakReport {
  /** IOVA ranges still mapped. */
  iovas: number;
  /** Pages still pinned. */
  pages: number;
  /** Slots not handed back, and bytes of CMB not returned to a pool. */
  slots: number;
  /** Requests that never completed. */
  requests: number;
  /** Natively: file descriptors, mappings, rings still open. */
  handles: number;
}

/** What lies under a name or path, down to the disks. */
export interface Place {
  /** What the name or path is. */
  readonly kind: 'namespace' | 'block' | 'file';
  /** Every block device on the way down, top first: a device-mapper device, a partition, a disk. */
  readonly layers: readonly {
    /** As in /dev: `'dm-0'`, `'nvme0n1p1'`. */
    readonly name: string;
    /** What it is. */
    readonly kind: 'partition' | 'device-mapper' | 'md' | 'stacked' | 'loop' | 'multipath-head' | 'disk';
    /** Of an md array, if it is known: `'raid1'`. */
    readonly level?: string;
  }[];
  /** The PCI functions that do the disks' DMA. */
  readonly clients: readonly PciDev[];
  /** Several of them do it for one target. @internal */
  readonly legs?: Legs | null;
  /** Null when it accepts CMB memory; otherwise what refuses it, in words. */
  readonly noP2pReason: string | null;
  /** Null when success proves where the bytes went. */
  readonly unproven: string | null;
  /** Who mounts or holds it, in words; null: nobody, as far as is known. */
  readonly inUse: string | null;
  /** For a zoned device, how it must be written, as a clause; otherwise null. */
  readonly zones?: string | null;
  /** Of a disk. */
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
 * What a name or path is, and what opening it would give, looked at and not opened: found out once, and handed to all that
 * is done with it. A file need not exist yet.
 */
export interface End {
  /** As of the target that it would be. */
  readonly path: string;
  readonly kind: BlockTarget['kind'];
  /** In bytes; null: nothing is there, or it does not say. */
  readonly size: number | null;
  /** The PCI function that would do its DMA, if it is one alone. */
  readonly client: PciDev | null;
  readonly legs?: Legs | null;
  readonly noP2pReason: string | null;
  /** The same where NVMe commands do the I/O (engine 'passthrough'); absent: as `noP2pReason`. */
  readonly noP2pByCommand?: string | null;
  readonly unproven: string | null;
  /** Who mounts or holds it, in words; null: nobody, as far as is known. */
  readonly inUse: string | null;
  readonly readOnly: boolean;
  /** What a device keeps when it gets another name (a WWN, a UUID); null: it has none, or is a file. */
  readonly identity: string | null;
  /** What is written there is gone when this process ends: an emulated drive that is not kept in a file. */
  readonly endsWithProcess: boolean;
  /** The target itself, then what its bytes lie on, as far as is known. */
  readonly ranges: readonly UnderlyingRange[];
  /** What lies under it; null: there is no such thing. */
  readonly place: Place | null;
}

/** As what an end is looked at; default: as a source. */
export interface InspectOptions {
  readonly write?: boolean;
  /** Destinations before it that are files. */
  readonly earlier?: number;
}

/** Where bytes of a target lie, as bytes of what is under it: two targets that share some overlap. */
export interface UnderlyingRange {
  /** The same for all names of one file or device. */
  readonly on: string;
  /** For people: `'/dev/nvme0n1'`. */
  readonly name: string;
  readonly start: number;
  readonly length: number;
  /** Byte n of the target is byte `start` + n; otherwise all that is known is that its bytes are somewhere in there. */
  readonly exact: boolean;
}

/** Who says so. It is part of every result: an emulated machine's answer must never look like a real one's. */
export interface Origin {
  /** `'native'`: a real kernel; `'emulator'`: a machine in this process. */
  readonly backend: 'native' | 'emulator';
  /** The emulated machine's name; null: a real one. */
  readonly machine: string | null;
}

export function originOf({ name, machine }: Pick<Backend, 'name' | 'machine'>): Origin {
  return { backend: name, machine };
}

/** Chunks of a range, from one target to others, that a backend is asked to move by itself. */
export interface PumpRequest {
  readonly source: PumpEnd;
  readonly destinations: readonly PumpEnd[];
  /** Bytes to move: whole blocks of every end. */
  readonly length: number;
  /** Bytes of one transfer: whole blocks of every end. */
  readonly chunk: number;
  /** Reads in flight at most. */
  readonly depth: number;
  /** Memory of one mapping, a chunk or more each, at equal distances. Nobody else touches it until the run is over. */
  readonly slots: readonly Uint8Array[];
}

/** One end of a pump's range. */
export interface PumpEnd {
  readonly target: BlockTarget;
  /** Where in the target the range begins, in bytes. */
  readonly offset: number;
}

/** What a pump did at one end since it was last asked. */
export interface PumpAccount {
  /** Transfers that ended. */
  readonly transfers: number;
  /** Bytes that they moved, and by which way. */
  readonly bytes: number;
  readonly path: PathBytes;
  /** Transfers that are under way now. */
  readonly inFlight: number;
}

/** What a pump did since it was last asked. */
export interface PumpProgress {
  /** Bytes more that every destination has, from the beginning on without a gap. */
  readonly moved: number;
  readonly source: PumpAccount;
  /** In the order of the request. */
  readonly destinations: readonly PumpAccount[];
}

/** A range on its way. */
export interface PumpRun {
  /** What was done since the last call. */
  progress(): PumpProgress;
  /** Begin no further read; what was read is written. */
  stop(): void;
  /** Resolves when nothing is in flight any more: to what ended it early, or null: everything moved, or it was stopped. */
  readonly over: Promise<PumpFailure | null>;
}

/** A transfer of a pump that did not move its chunk in full. */
export interface PumpFailure {
  /** The destination that was written, or null: the source was read. */
  readonly destination: number | null;
  /** Of its chunk, from the beginning of the range. */
  readonly at: number;
  /** Fewer bytes than its chunk has, or a negative errno. */
  readonly result: number;
}

export interface Backend {
  readonly name: 'native' | 'emulator';
  /** As of Origin. */
  readonly machine: string | null;
  /** What every text of an emulated machine begins with: that it is one, and how long its drives last. A real one: null. */
  readonly notice: string | null;
  /** Of a machine that is known by what was sent: what that was, and what it cannot tell. */
  readonly evidence?: Evidence | null;
  /** The kernel's release as uname gives it, `'6.12.117'`; of an emulated machine the one described. Null: not known. */
  readonly release: string | null;
  readonly topology: Topology;
  readonly controllers: readonly Controller[];
  readonly memory: MemoryBackend;
  /** Open a namespace by name (`nvme0n1`), device path (`/dev/nvme0n1`) or file path. */
  openTarget(nameOrPath: string, options: OpenOptions): Promise<BlockTarget>;
  /** The machine as JSON that the emulator can run (see the machine schema). */
  snapshot(options?: SnapshotOptions): unknown;
  /**
   * Move whole chunks between targets of this backend without a call per chunk. It does no more than the plain case: at the
   * first transfer that does not move its chunk in full it comes to an end and says so. Null: it declines, and each
   * transfer is to be submitted to the targets; so it is where a backend has no pump.
   */
  readonly pump?: (request: PumpRequest) => PumpRun | null;
  /** What there is to know of a name or path without opening it. */
  inspect(nameOrPath: string, options?: InspectOptions): End;
  close(): Promise<LeakReport>;
}

/** The hint of an error about a namespace that is not there. */
export function knownNamespaces(controllers: readonly Controller[], asked: string): string {
  const names = controllers.flatMap(({ namespaces }) => namespaces.map(({ name }) => name));
  const name = bareName(asked);
  const meant = didYouMean(name, names);
  const own = names.filter((other) => other.startsWith(`${name}n`));
  const is = own.length > 0 ? `'${name}' is a controller: name its namespace (${own.join(', ')}).` : meant;
  return `${is} \`p2pdma list\` shows the namespaces there are.`.trimStart();
}

/** Who may have been meant, and who there is: the hint of an error about a name that is not there. */
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
