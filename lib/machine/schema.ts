import { MEMREMAP_COMPAT_ALIGN } from '../backend/hardware.js';
import { normalizeBdf, PCI_ADDRESS } from '../backend/names.js';
import type { AcsControl, Bdf, IommuMode, PciePortType } from '../backend/topology.js';
import { described } from '../base/described.js';
import { P2pdmaError } from '../base/errors.js';
import { readSize } from '../base/words.js';
import * as z from '../base/zod.js';

/**
 * A machine description: the emulator runs it, `p2pdma snapshot` captures it on a real server, and a test uses it as
 * its fixture. `parseMachine` turns JSON into a `Machine`, in which every value is filled in: numbers are numbers,
 * BARs have addresses, controllers have names, functions are in BDF order. A `Machine` is itself valid input, and
 * parsing it again changes nothing.
 */
export interface Machine {
  readonly version: 1;
  readonly name: string;
  readonly description: string;
  /** True: a snapshot of an emulated machine, so it never was physical hardware. */
  readonly emulated: boolean;
  /** The kernel's release, `'6.12'` or `'6.17.0-35-generic'`: its host bridge allow-list, errnos and rules for CMBs apply. */
  readonly kernel: string;
  readonly cpu: { readonly vendor: string | null; readonly family: number | null };
  readonly iommu: IommuMode;
  /**
   * The result of the kernel's memremap_compat_align(): device memory whose start or size is not a multiple of it is
   * not registered, without a message. See MEMREMAP_COMPAT_ALIGN.
   */
  readonly memremapAlign: number;
  /**
   * nvme_core.io_timeout: seconds after which the driver aborts an I/O command; after the same time again, it resets
   * the drive.
   */
  readonly ioTimeout: number;
  /**
   * nvme.use_cmb_sqes: I/O submission queues are placed in the CMB of their drive if it supports them (CMBSZ.SQS),
   * which reduces its pool.
   */
  readonly useCmbSqes: boolean;
  readonly hostBridges: readonly MachineHostBridge[];
  readonly functions: readonly MachineFunction[];
  /**
   * NVMe subsystems whose namespaces are reached through multipath heads; controllers that are not in a subsystem
   * have plain disks.
   */
  readonly subsystems: readonly MachineSubsystem[];
  readonly arrays: readonly MachineArray[];
  /** Null: as fast as the computer can. */
  readonly latency: Latency | null;
  readonly faults: readonly Fault[];
}

/**
 * The controllers that lead to the same namespaces: each namespace is one multipath head, and the controllers are its
 * paths.
 */
export interface MachineSubsystem {
  /** `'nvme-subsys0'`; its number is in the names of its heads: `'nvme0n1'`. */
  readonly name: string;
  /**
   * Names of the controllers. Namespaces with the same number are one namespace, and must be described identically in
   * each controller.
   */
  readonly controllers: readonly string[];
}

/** The md levels. For levels with parity, the CPU reads the data. */
export const ARRAY_LEVELS = ['linear', 'raid0', 'raid1', 'raid4', 'raid5', 'raid6', 'raid10'] as const;
export type ArrayLevel = (typeof ARRAY_LEVELS)[number];

/** An md array without a superblock (`mdadm --build`): its data begins where its members do. */
export interface MachineArray {
  /** `'md0'`. */
  readonly name: string;
  /** raid10 uses the layout near=2. */
  readonly level: ArrayLevel;
  /** In bytes; not used by raid1 and linear. */
  readonly chunk: number;
  /** Namespaces, multipath heads and partitions: `'nvme0n1'`, `'nvme1n1p2'`. */
  readonly members: readonly string[];
}

export interface MachineHostBridge {
  readonly domain: number;
  /** Number of its root bus. */
  readonly bus: number;
  /** Bus address − CPU address, for every BAR below. */
  readonly busOffset: number;
  /** Does the root complex forward a TLP from one of this host bridge's ports to another function? */
  readonly peerRouting: boolean;
}

export interface MachineFunction {
  readonly bdf: Bdf;
  readonly type: PciePortType;
  readonly upstream: Bdf | null;
  readonly vendor: number;
  readonly device: number;
  readonly class: number;
  readonly acs: AcsControl;
  readonly bars: readonly MachineBar[];
  readonly numaNode: number | null;
  readonly iommuGroup: number | null;
  readonly nvme: NvmeDescription | null;
  /**
   * Peer memory as it was captured. Beside `nvme.cmb` it is what the kernel made of the CMB: how much it registered (0: none)
   * and whether it published it. Without `nvme.cmb`, that of a drive is its CMB; another function gets it as described.
   */
  readonly p2pmem: {
    readonly size: number;
    readonly available: number;
    readonly published: boolean;
    /** The BAR it lies in, from offset 0; null if none is large enough. */
    readonly bar: number | null;
  } | null;
}

export interface MachineBar {
  readonly index: number;
  readonly kind: 'memory' | 'io';
  /** CPU address. */
  readonly address: number;
  readonly size: number;
  readonly prefetchable: boolean;
}

export interface NvmeDescription {
  /** `'nvme0'`. */
  readonly name: string;
  readonly model: string;
  readonly serial: string;
  /** Maximum transfer size of one command, in bytes. */
  readonly mdts: number;
  /** Supports scatter-gather lists in addition to PRPs. */
  readonly sgls: boolean;
  /** Number of I/O queue pairs that the controller offers. */
  readonly queues: number;
  readonly cmb: CmbDescription | null;
  readonly namespaces: readonly NamespaceDescription[];
}

/** CMBLOC and CMBSZ. */
export interface CmbDescription {
  readonly size: number;
  readonly bar: number;
  readonly offset: number;
  /** Submission queues may lie in it. */
  readonly sqs: boolean;
  /** Completion queues may lie in it. */
  readonly cqs: boolean;
  /** PRP lists and SGL segments may lie in it. */
  readonly lists: boolean;
  /** Read Data Support: data of reads may be written to it. */
  readonly rds: boolean;
  /** Write Data Support: data of writes may be read from it. */
  readonly wds: boolean;
}

export interface NamespaceDescription {
  readonly nsid: number;
  readonly size: number;
  readonly blockSize: 512 | 4096;
  /** Bytes of metadata per block: 8 bytes are protection information (type 1), in a separate buffer (MPTR). */
  readonly metadata: 0 | 8;
  /**
   * The metadata lies within the blocks, as parts of extended LBAs, which the kernel cannot carry: it shows the namespace with
   * size 0. `metadata`: bytes per block; null: not known. Null: the blocks are ordinary ones.
   */
  readonly extendedLba: { readonly metadata: number | null } | null;
  /** Each zone of this many bytes takes writes only in order, from its write pointer on; null: it is not zoned. */
  readonly zoned: { readonly zoneSize: number } | null;
  /** `memory`: sparse, discarded at the end. `file`: stored in the file named by `file`. */
  readonly store: 'memory' | 'file';
  readonly file: string | null;
  readonly readOnly: boolean;
  readonly partitions: readonly MachinePartition[];
}

/** A partition, named `'nvme0n1p1'` if its number is 1. Values are in bytes. */
export interface MachinePartition {
  readonly number: number;
  readonly start: number;
  readonly size: number;
}

export interface Latency {
  readonly readUs: number;
  readonly writeUs: number;
  readonly bytesPerSecond: number | null;
}

/** An injected fault. */
export type Fault =
  /** Reads (or writes, or both: null) that touch this LBA end with a media error. */
  | {
      readonly kind: 'media-error';
      readonly namespace: string;
      readonly lba: number;
      readonly op: 'read' | 'write' | null;
    }
  /** The controller disappears after it has transferred this many bytes of data. */
  | { readonly kind: 'remove'; readonly controller: string; readonly afterBytes: number }
  /** Writes of other functions into this function's BARs are acknowledged and lost. */
  | { readonly kind: 'drop-peer-writes'; readonly function: Bdf }
  /** The nth I/O command (the first is 1) is executed or not, but its completion is never posted. */
  | { readonly kind: 'no-completion'; readonly controller: string; readonly nth: number }
  /** At most this many bytes of the controller's pool can be allocated. */
  | { readonly kind: 'pool-exhausted'; readonly controller: string; readonly available: number };

/** Maximum number of functions, host bridges or faults in one machine. */
export const FUNCTION_LIMIT = 8192;

const PORT_TYPES = [
  'endpoint',
  'root-complex-endpoint',
  'root-port',
  'upstream-port',
  'downstream-port',
  'pcie-to-pci-bridge',
  'conventional',
  'unknown',
] as const satisfies readonly PciePortType[];

/** `4096`, `"0x1000"`, `"4096"`, `"16MiB"`: bytes or any other number. NaN if it exceeds 2^53. */
function toNumber(value: number | string): number {
  if (typeof value === 'number') return value;
  if (value.startsWith('-')) return -toNumber(value.slice(1));
  const n = readSize(value)?.bytes ?? Number(value);
  return Number.isSafeInteger(n) ? n : Number.NaN;
}

/** A number as it can be written in JSON, within bounds. */
function quantity(what: string, min: number, max: number, pattern: RegExp) {
  const range = `${what} from ${min} to ${max}`;
  const written = z.union([z.int({ error: range }), z.string().check(z.regex(pattern, { error: what }))], {
    error: what,
  });
  return z
    .pipe(written, z.transform(toNumber))
    .check(z.refine((n) => n >= min && n <= max, { error: range }));
}

const NUMBER = /^(0x[0-9a-fA-F]{1,14}|[0-9]{1,16})$/;
const SIZE = /^(0x[0-9a-fA-F]{1,14}|[0-9]{1,16}( ?([kKmMgGtT][iI])?[bB])?)$/;
const SIGNED = /^-?(0x[0-9a-fA-F]{1,14}|[0-9]{1,16})$/;
/** Physical addresses have at most 52 bits. */
const ADDRESS_MAX = 2 ** 52 - 1;

const number = (max: number, min = 0) => quantity('a whole number (or a "0x…" string)', min, max, NUMBER);
const bytes = (min = 0) => quantity('a size in bytes, as a number, "0x…" or "16MiB"', min, ADDRESS_MAX, SIZE);
const address = quantity('an address (a whole number or a "0x…" string)', 0, ADDRESS_MAX, NUMBER);
const orNull = <T extends z.ZodMiniType>(type: T) =>
  z.pipe(
    z.nullish(type),
    z.transform((v) => v ?? null),
  );

const bdf = z.pipe(
  z.string().check(z.regex(PCI_ADDRESS, { error: 'a PCI address such as "0000:03:00.0" (or "03:00.0")' })),
  z.transform(normalizeBdf),
);

const cmbSchema = z.strictObject({
  size: bytes(4096),
  bar: z._default(number(5), 2),
  offset: z._default(bytes(), 0),
  sqs: z._default(z.boolean(), true),
  cqs: z._default(z.boolean(), true),
  lists: z._default(z.boolean(), true),
  rds: described('Read Data Support: the drive may put data into it.', z._default(z.boolean(), true)),
  wds: described('Write Data Support: the drive may take data from it.', z._default(z.boolean(), true)),
});

const namespaceSchema = z.strictObject({
  nsid: number(0xfffffffe, 1),
  size: described('In bytes; 0 with extendedLba, and only then.', bytes()),
  blockSize: z._default(z.union([z.literal(512), z.literal(4096)], { error: '512 or 4096' }), 512),
  metadata: described(
    'Bytes of metadata beside each block: 8 are protection information.',
    z._default(z.union([z.literal(0), z.literal(8)], { error: '0 or 8' }), 0),
  ),
  extendedLba: described(
    'The metadata lies within the blocks: the kernel gives such a namespace size 0.',
    orNull(
      z.strictObject({
        metadata: described('Bytes per block; null or absent: not known.', orNull(number(0xffff, 1))),
      }),
    ),
  ),
  zoned: described(
    'Zones that take writes only in order; all are empty when the machine starts.',
    orNull(z.strictObject({ zoneSize: bytes(512) })),
  ),
  store: z._default(z.enum(['memory', 'file']), 'memory'),
  file: described('Where the data is, if store is "file".', orNull(z.string().check(z.minLength(1)))),
  readOnly: z._default(z.boolean(), false),
  partitions: z._default(
    z
      .array(z.strictObject({ number: number(255, 1), start: bytes(512), size: bytes(512) }))
      .check(z.maxLength(255)),
    [],
  ),
});

const nvmeSchema = z.strictObject({
  name: described(
    'Default: nvme0, nvme1, … in BDF order.',
    orNull(z.string().check(z.regex(/^nvme[0-9]{1,4}$/, { error: 'a name such as "nvme0"' }))),
  ),
  model: z._default(z.string().check(z.maxLength(40)), 'p2pdma emulated NVMe'),
  serial: orNull(z.string().check(z.maxLength(20))),
  mdts: described('Largest transfer of one command.', z._default(bytes(4096), 0x100000)),
  sgls: z._default(z.boolean(), true),
  queues: z._default(number(1024, 1), 16),
  cmb: orNull(cmbSchema),
  namespaces: z._default(z.array(namespaceSchema).check(z.maxLength(1024)), []),
});

const functionSchema = z.strictObject({
  bdf,
  type: z.enum(PORT_TYPES),
  upstream: described('The bridge directly above; null or absent on a root bus.', orNull(bdf)),
  vendor: number(0xffff),
  device: number(0xffff),
  class: described('24-bit class code. Default: from the type.', orNull(number(0xffffff))),
  acs: described(
    'ACS Control register; bit 2 (0x04) redirects peer requests.',
    z._default(
      z.union([number(0xffff), z.enum(['none', 'unknown'])], {
        error: 'the ACS Control register, "none" or "unknown"',
      }),
      'none',
    ),
  ),
  bars: z._default(
    z
      .array(
        z.strictObject({
          index: number(5),
          kind: z._default(z.enum(['memory', 'io']), 'memory'),
          address: described('CPU address; assigned when absent.', orNull(address)),
          size: bytes(4),
          prefetchable: orNull(z.boolean()),
        }),
      )
      .check(z.maxLength(6)),
    [],
  ),
  numaNode: orNull(number(0xffff)),
  iommuGroup: orNull(number(0xffffff)),
  nvme: orNull(nvmeSchema),
  p2pmem: described(
    'Peer memory of the function as captured from sysfs; beside nvme.cmb, what the kernel made of the CMB.',
    orNull(
      z.strictObject({
        size: described('Bytes that the kernel registered; 0: none.', bytes()),
        available: described('Bytes that are free. Of a CMB its driver decides.', orNull(bytes())),
        published: z.boolean(),
        bar: orNull(number(5)),
      }),
    ),
  ),
});

const controllerName = described('A controller, by name or BDF.', z.string().check(z.minLength(1)));
export const faultSchema = z.discriminatedUnion(
  'kind',
  [
    z.strictObject({
      kind: z.literal('media-error'),
      namespace: z.string().check(z.minLength(1)),
      lba: number(Number.MAX_SAFE_INTEGER),
      op: orNull(z.enum(['read', 'write'])),
    }),
    z.strictObject({ kind: z.literal('remove'), controller: controllerName, afterBytes: bytes() }),
    z.strictObject({ kind: z.literal('drop-peer-writes'), function: bdf }),
    z.strictObject({
      kind: z.literal('no-completion'),
      controller: controllerName,
      nth: number(Number.MAX_SAFE_INTEGER, 1),
    }),
    z.strictObject({
      kind: z.literal('pool-exhausted'),
      controller: controllerName,
      available: z._default(bytes(), 0),
    }),
  ],
  { error: 'an object whose kind is that of a fault' },
);

export const machineSchema = z.strictObject({
  $schema: z.optional(z.string()),
  version: z.literal(1, { error: '1, the only version there is' }),
  name: z.string().check(z.minLength(1), z.maxLength(200)),
  description: z._default(z.string(), ''),
  emulated: described(
    'This is a snapshot of an emulated machine, so it never was physical hardware.',
    z._default(z.boolean(), false),
  ),
  kernel: described(
    'Release of the kernel whose answers are given: its host bridge allow-list, its errnos, its rules for CMBs.',
    z._default(
      z.string().check(
        z.maxLength(200),
        z.regex(/^[0-9]{1,4}\.[0-9]{1,4}/, {
          error: 'a kernel release such as "6.12" or "6.17.0-35-generic"',
        }),
      ),
      '6.12',
    ),
  ),
  cpu: z._default(z.strictObject({ vendor: orNull(z.string()), family: orNull(number(0xfff)) }), {
    vendor: null,
    family: null,
  }),
  iommu: z._default(z.enum(['none', 'translating', 'unsupported', 'unknown']), 'none'),
  memremapAlign: described(
    'Granule of device memory that the kernel can register.',
    z._default(bytes(4096), MEMREMAP_COMPAT_ALIGN),
  ),
  ioTimeout: described(
    'Seconds before the NVMe driver aborts an I/O command, and again before it resets the drive.',
    z._default(z.number().check(z.positive(), z.maximum(86_400)), 30),
  ),
  useCmbSqes: described(
    'I/O submission queues lie in the CMB of their drive where it takes them (nvme.use_cmb_sqes).',
    z._default(z.boolean(), true),
  ),
  hostBridges: z
    .array(
      z.strictObject({
        domain: z._default(number(0xffffffff), 0),
        bus: number(0xff),
        busOffset: described(
          'Bus address minus CPU address of every BAR below.',
          z._default(
            quantity('an offset, as a number or "0x…", maybe negative', -ADDRESS_MAX, ADDRESS_MAX, SIGNED),
            0,
          ),
        ),
        peerRouting: z._default(z.boolean(), true),
      }),
    )
    .check(z.minLength(1), z.maxLength(FUNCTION_LIMIT)),
  functions: z.array(functionSchema).check(z.minLength(1), z.maxLength(FUNCTION_LIMIT)),
  subsystems: described(
    'Controllers that lead to the same namespaces: each namespace is an NVMe multipath head.',
    z._default(
      z
        .array(
          z.strictObject({
            name: described(
              'Its number is in the names of its heads. Default: that of its first controller.',
              orNull(
                z
                  .string()
                  .check(z.regex(/^nvme-subsys[0-9]{1,4}$/, { error: 'a name such as "nvme-subsys0"' })),
              ),
            ),
            controllers: described(
              'Its paths, by name or BDF.',
              z.array(z.string().check(z.minLength(1))).check(z.minLength(1), z.maxLength(64)),
            ),
          }),
        )
        .check(z.maxLength(1024)),
      [],
    ),
  ),
  arrays: described(
    'md arrays over namespaces, multipath heads and partitions of the machine.',
    z._default(
      z
        .array(
          z.strictObject({
            name: z.string().check(z.regex(/^md[0-9]{1,4}$/, { error: 'a name such as "md0"' })),
            level: z.enum(ARRAY_LEVELS),
            chunk: z._default(bytes(4096), 0x80000),
            members: described(
              'Namespaces, heads, partitions.',
              z.array(z.string().check(z.minLength(1))).check(z.minLength(1), z.maxLength(256)),
            ),
          }),
        )
        .check(z.maxLength(1024)),
      [],
    ),
  ),
  latency: orNull(
    z.strictObject({
      readUs: z._default(z.number().check(z.nonnegative()), 0),
      writeUs: z._default(z.number().check(z.nonnegative()), 0),
      bytesPerSecond: orNull(z.number().check(z.positive())),
    }),
  ),
  faults: z._default(z.array(faultSchema).check(z.maxLength(FUNCTION_LIMIT)), []),
});

/** A machine as it can be written in JSON. */
export type MachineInput = z.input<typeof machineSchema>;
/** The output of zod: well-formed, but not yet checked for consistency; BARs may have no addresses yet. */
export type MachineDraft = z.output<typeof machineSchema>;

/** The JSON schema of `MachineInput`, published as schema/machine.schema.json. */
export function machineJsonSchema(): unknown {
  return {
    ...z.toJSONSchema(machineSchema, { io: 'input' }),
    title: 'p2pdma machine description',
  };
}

/** `'nvme0'`, 1 → `'nvme0n1'`. */
export function namespaceName(controller: string, nsid: number): string {
  return `${controller}n${nsid}`;
}

/** `'nvme-subsys0'`, 1 → `'nvme0n1'`: the disk that uses all paths. */
export function headName(subsystem: string, nsid: number): string {
  return namespaceName(subsystem.replace('-subsys', ''), nsid);
}

/** `'nvme0n1'`, 2 → `'nvme0n1p2'`. */
export function partitionName(disk: string, number: number): string {
  return `${disk}p${number}`;
}

/** An ERR_MACHINE_INVALID error that names the place, the problem and the remedy. */
export function invalid(where: string, what: string, remedy: string): P2pdmaError {
  return new P2pdmaError('ERR_MACHINE_INVALID', `${where}: ${what}`, { path: where, hint: remedy });
}
