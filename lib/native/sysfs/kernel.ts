/**
 * The running kernel and its settings: release, CONFIG_PCI_P2PDMA, CPU, IOMMU, nvme_core's multipath. These are the facts
 * behind a `doctor`'s findings; a fact that cannot be determined is null or `'unknown'`.
 */
import { type KernelVersion, olderThan, parseRelease } from '../../backend/kernel-release.js';
import type { Cpu, IommuMode } from '../../backend/topology.js';
import { builtin } from '../../base/builtin.js';
import type { IommuGroups } from './iommu-groups.js';
import { parseNumber, quote, reasonOf, type SysfsTree } from './tree.js';

export interface IommuFacts {
  readonly mode: IommuMode;
  /** The IOMMU units, `'dmar0'`, `'ivhd0'`, `'smmu3.0x…'`. */
  readonly units: readonly string[];
  /** `type` of each group: `'DMA'`, `'DMA-FQ'`, `'identity'`, …; null where unreadable. */
  readonly groupTypes: ReadonlyMap<number, string | null>;
  /** How the mode was determined, in words. */
  readonly why: string;
}

export interface P2pdmaConfig {
  /** CONFIG_PCI_P2PDMA; null: not known. */
  readonly enabled: boolean | null;
  /** How it was determined: a file's name, or in words. */
  readonly from: string;
}

export interface KernelFacts {
  /** The release whose rules apply: the running kernel's, unless another was named. */
  readonly release: string | null;
  /** The running kernel's release as uname gives it, `'6.12.117'`. */
  readonly running: string | null;
  /** `[6, 12, 117]`. */
  readonly version: KernelVersion | null;
  readonly p2pdma: P2pdmaConfig;
  /** nvme_core's `multipath` parameter. */
  readonly nvmeMultipath: boolean | null;
  /** nvme's `sgl_threshold` parameter, in bytes; 0: no SGLs. */
  readonly sglThreshold: number | null;
  /** nvme's `use_cmb_sqes` parameter. */
  readonly useCmbSqes: boolean | null;
  /** The value of `pci=disable_acs_redir=` on the kernel command line, `'0000:00:01.0;0000:02:00.0'`. */
  readonly disableAcsRedir: string | null;
  readonly commandLine: string | null;
}

const AMD = 'AuthenticAMD';

export function readCpu(tree: SysfsTree): Cpu {
  const text = tree.text('proc/cpuinfo');
  const field = (name: string): string | null =>
    new RegExp(`^${name}[ \\t]*:[ \\t]*(.+)$`, 'm').exec(text ?? '')?.[1]?.trim() ?? null;
  const family = field('cpu family');
  const number = family === null ? null : parseNumber(family);
  if (family !== null && number === null) {
    tree.note('/proc/cpuinfo', `cpu family is not a number: ${quote(family)}`);
  }
  const vendor = field('vendor_id');
  const facts = { vendor, family: number };
  // For processors of other makes, cpuinfo has no vendor_id; an empty cpuinfo means that it was not captured.
  return !text || (vendor === AMD && number === null) ? { ...facts, known: false } : facts;
}

export function readRelease(tree: SysfsTree): string | null {
  const release = tree.text('proc/sys/kernel/osrelease', 256, { optional: true });
  if (release) return release;
  const version = tree.text('proc/version', 4096);
  return version === null ? null : (/^Linux version (\S+)/.exec(version)?.[1] ?? null);
}

/** What is known before the kernel's settings are read. */
export interface KernelAtHand {
  /** What readRelease() found. */
  readonly running: string | null;
  /** The release of another kernel, whose rules apply; all other facts are those of the running kernel. */
  readonly asked: string | undefined;
  readonly hasP2pmem: boolean;
}

export function readKernel(tree: SysfsTree, { running, asked, hasP2pmem }: KernelAtHand): KernelFacts {
  const release = asked ?? running;
  const commandLine = tree.text('proc/cmdline', 4096, { optional: true });
  const multipath = tree.text('sys/module/nvme_core/parameters/multipath', 256, { optional: true });
  const threshold = tree.text('sys/module/nvme/parameters/sgl_threshold', 256, { optional: true });
  let p2pdma: P2pdmaConfig | null = null;
  return {
    release,
    running,
    version: parseRelease(release)?.version ?? null,
    // A kernel's configuration is long and often compressed, and few questions are about it.
    get p2pdma() {
      p2pdma ??= p2pdmaConfig(tree, running, hasP2pmem);
      return p2pdma;
    },
    nvmeMultipath: bool(multipath),
    sglThreshold: threshold === null ? null : parseNumber(threshold),
    useCmbSqes: bool(tree.text('sys/module/nvme/parameters/use_cmb_sqes', 256, { optional: true })),
    disableAcsRedir: /(?:^|[\s",])(?:pci=)?disable_acs_redir=([^\s",]+)/.exec(commandLine ?? '')?.[1] ?? null,
    commandLine,
  };
}

/** A boolean module parameter: `'Y'`, `'N'`. */
function bool(parameter: string | null): boolean | null {
  return parameter === null ? null : /^[y1]/i.test(parameter);
}

const MAX_CONFIG = 4 * 1024 * 1024;

function p2pdmaConfig(tree: SysfsTree, release: string | null, hasP2pmem: boolean): P2pdmaConfig {
  if (hasP2pmem) return { enabled: true, from: 'a function has p2pmem' };
  const packed = tree.bytes('proc/config.gz', MAX_CONFIG, { optional: true });
  if (packed !== null) {
    try {
      const { gunzipSync } = builtin('node:zlib');
      const text = gunzipSync(packed, { maxOutputLength: MAX_CONFIG }).toString('latin1');
      return { enabled: configSays(text), from: '/proc/config.gz' };
    } catch (error) {
      tree.note('/proc/config.gz', reasonOf(error));
    }
  }
  if (release !== null && /^[\w.+~-]+$/.test(release)) {
    for (const file of [
      `boot/config-${release}`,
      `lib/modules/${release}/config`,
      `usr/lib/modules/${release}/config`,
    ]) {
      const text = tree.text(file, MAX_CONFIG, { optional: true });
      if (text !== null) return { enabled: configSays(text), from: `/${file}` };
    }
  }
  return { enabled: null, from: 'no kernel configuration was found, and no function with p2pmem' };
}

function configSays(text: string): boolean {
  return /^CONFIG_PCI_P2PDMA=y$/m.test(text);
}

/**
 * Recognises IOMMUs by the names of their units in sys/class/iommu. Those of Intel, AMD and ARM (SMMU v1 to v3) translate
 * through dma-iommu, which accepts P2P memory. The ones in this table have dma_map_ops of their own, without
 * DMA_F_PCI_P2PDMA_SUPPORTED.
 */
const foreignOps: readonly {
  readonly unit: RegExp;
  readonly until?: readonly [number, number];
  readonly whose: string;
}[] = [
  { unit: /^iommu-phb|^spapr/, whose: 'PowerPC' },
  { unit: /^s390-iommu/, until: [6, 7], whose: 's390 before Linux 6.7' },
];

/**
 * How DMA addresses are generated for the functions in `groups` (the relevant ones: drives and providers), or for all functions
 * if `groups` is empty. One translating group makes the machine `translating`.
 */
export function readIommu(
  tree: SysfsTree,
  release: string | null,
  all: IommuGroups,
  groups: ReadonlySet<number>,
): IommuFacts {
  const units = tree.dir('sys/class/iommu', { optional: true });
  const unitNames = units?.names() ?? [];
  const groupTypes = all.types();
  const is = (mode: IommuMode, why: string): IommuFacts => ({ mode, units: unitNames, groupTypes, why });

  if (tree.text('sys/hypervisor/guest_type', 64, { optional: true }) === 'PV') {
    return is('unsupported', 'a Xen PV guest maps DMA with ops of its own');
  }
  const version = parseRelease(release)?.version ?? null;
  for (const { unit, until, whose } of foreignOps) {
    const name = unitNames.find((candidate) => unit.test(candidate));
    if (name === undefined || (until !== undefined && version !== null && !olderThan(version, ...until)))
      continue;
    return is('unsupported', `${name}: ${whose} maps DMA with ops of its own`);
  }
  const relevant = [...groupTypes].filter(([number]) => groups.size === 0 || groups.has(number));
  const translating = relevant.find(([, type]) => type !== null && /^DMA(-FQ)?$/.test(type));
  if (translating !== undefined)
    return is('translating', `group ${translating[0]} is of type ${translating[1]}`);
  if (relevant.some(([, type]) => type === null))
    return is('unknown', 'the type of an IOMMU group is not readable');
  if (relevant.length > 0) {
    const types = [...new Set(relevant.map(([, type]) => type))].join(', ');
    return is('none', `groups are of type ${types}: DMA addresses are physical`);
  }
  if (groups.size > 0 || (units === null && !all.listed)) {
    tree.note('/sys/kernel/iommu_groups', 'missing: whether an IOMMU translates is not known');
    return is('unknown', 'sys/kernel/iommu_groups does not list the groups');
  }
  return is('none', 'no device is in an IOMMU group');
}
