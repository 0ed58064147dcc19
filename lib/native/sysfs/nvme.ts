/**
 * Reads NVMe controllers and their namespaces from sysfs.
 *
 *     sys/class/nvme/nvme0 ──▶ …/0000:03:00.0/nvme/nvme0        transport pcie
 *                                 ├── nvme0n1                   a plain disk, or
 *                                 └── nvme0c0n1                 one hidden path to the multipath head nvme0n1
 *     sys/class/nvme/nvme1 ──▶ devices/virtual/nvme-fabrics/ctl/nvme1      transport tcp, rdma, fc, loop
 */

import type { Controller, UnusableCmb } from '../../backend/backend.js';
import { misaligned } from '../../backend/hardware.js';
import { parseRelease } from '../../backend/kernel-release.js';
import { normalizeBdf } from '../../backend/names.js';
import type { PciDev } from '../../backend/topology.js';
import { distributionOf } from '../../kernel/releases/distributions.js';
import {
  CMB_ALIGN_SKIP,
  misalignedFate,
  NOT_PUBLISHED,
  NOT_REGISTERED,
} from '../../kernel/releases/memory.js';
import { holds } from '../../kernel/releases/rule.js';
import type { KernelFacts } from './kernel.js';
import { functionOnPath, type SysfsPci } from './pci.js';
import type { SysfsDir, SysfsTree } from './tree.js';

/** The decoded fields of CMBLOC and CMBSZ (NVMe specification). */
export interface CmbRegisters {
  readonly bar: number;
  readonly offset: number;
  readonly size: number;
  readonly sqs: boolean;
  readonly cqs: boolean;
  readonly lists: boolean;
  readonly rds: boolean;
  readonly wds: boolean;
}

export interface SysfsNamespace {
  /** The device that is opened; for a multipath namespace, its head. */
  readonly name: string;
  readonly nsid: number;
  readonly size: number;
  readonly logicalBlockSize: number;
  /** The largest request that the hardware accepts (`max_hw_sectors_kb`), in bytes; null if unknown. */
  readonly maxHwTransfer: number | null;
  readonly readOnly: boolean;
  /** Bytes of metadata per block (`metadata_bytes`, since 6.8); null: not reported. */
  readonly metadataBytes: number | null;
  /** Of a host-managed zoned namespace: its zones' size in bytes, null if not reported. Null: it takes writes in any order. */
  readonly zoned: { readonly zoneSize: number | null } | null;
}

export interface SysfsController extends Controller {
  readonly namespaces: readonly SysfsNamespace[];
  readonly serial: string | null;
  readonly firmware: string | null;
  /** `'live'`, `'resetting'`, `'dead'`, … */
  readonly state: string | null;
  readonly subsystemNqn: string | null;
  /** For a fabric `traddr=…,trsvcid=…`, for PCIe the BDF. */
  readonly address: string | null;
  /** Null: it has no CMB, or the kernel does not show the registers. */
  readonly cmbRegisters: CmbRegisters | null;
}

/** The name of a namespace's disk: subsystem or controller number, controller of a hidden path, head number. */
export const NVME_DISK = /^nvme(\d+)(?:c(\d+))?n(\d+)$/;

/** Controllers' directories by name: those in the nvme class, and those found below PCI functions. */
export function controllerDirs(tree: SysfsTree, pci: SysfsPci): ReadonlyMap<string, SysfsDir> {
  const dirs = new Map<string, SysfsDir>();
  const addAll = (parent: SysfsDir | null): void => {
    for (const name of parent?.names() ?? []) {
      if (!/^nvme\d+$/.test(name) || dirs.has(name)) continue;
      const dir = parent!.dir(name);
      if (dir !== null) dirs.set(name, dir);
    }
  };
  addAll(tree.dir('sys/class/nvme', { optional: true }));
  for (const { bdf, class: pciClass } of pci.functions) {
    if (pciClass >> 8 === PCI_CLASS_STORAGE_NVM) addAll(pci.dir(bdf)!.dir('nvme', { optional: true }));
  }
  return dirs;
}

export function readControllers(
  tree: SysfsTree,
  pci: SysfsPci,
  dirs: ReadonlyMap<string, SysfsDir>,
  kernel: () => KernelFacts,
): readonly SysfsController[] {
  const named = [...dirs]
    .sort(([a], [b]) => Number(a.slice(4)) - Number(b.slice(4)))
    .map(([name, dir]) => readController(tree, pci, kernel, name, dir));
  if (tree.files.peerMemory) return named;
  const known = new Set(named.map(({ pdev }) => pdev));
  const others = pci.functions.filter((dev) => dev.class >> 8 === PCI_CLASS_STORAGE_NVM && !known.has(dev));
  return [...named, ...others.map(unnamed)];
}

/** For a function that is known to be an NVMe controller only by its class: its name is not known, so its address is used. */
function unnamed(pdev: PciDev): SysfsController {
  return {
    name: pdev.bdf,
    pdev,
    transport: 'pcie',
    model: null,
    namespaces: [],
    cmb: null,
    serial: null,
    firmware: null,
    state: null,
    subsystemNqn: null,
    address: pdev.bdf,
    cmbRegisters: null,
  };
}

const PCI_CLASS_STORAGE_NVM = 0x0108;

function readController(
  tree: SysfsTree,
  pci: SysfsPci,
  kernel: () => KernelFacts,
  name: string,
  dir: SysfsDir,
): SysfsController {
  const address = dir.text('address', { optional: true });
  const said = dir.text('transport');
  const pdev = said === null || said === 'pcie' ? functionOf(pci, dir, address) : null;
  const cmbRegisters = readCmbRegisters(dir);
  return {
    name,
    pdev,
    transport: said || (pdev === null ? 'unknown' : 'pcie'),
    model: dir.text('model') || null,
    namespaces: readNamespaces(tree, name, dir),
    cmb: tree.files.peerMemory || cmbRegisters !== null ? cmbOf(pdev, cmbRegisters, kernel) : null,
    serial: dir.text('serial', { optional: true }) || null,
    firmware: dir.text('firmware_rev', { optional: true }) || null,
    state: dir.text('state', { optional: true }) || null,
    subsystemNqn: dir.text('subsysnqn', { optional: true }) || null,
    address,
    cmbRegisters,
  };
}

function functionOf(pci: SysfsPci, dir: SysfsDir, address: string | null): PciDev | null {
  for (const bdf of [functionOnPath(dir.real), address, dir.linkName('device')]) {
    const dev = bdf === null ? null : pci.find(normalizeBdf(bdf));
    if (dev !== null) return dev;
  }
  return null;
}

// --- namespaces ---

function readNamespaces(tree: SysfsTree, controller: string, dir: SysfsDir): SysfsNamespace[] {
  const number = controller.slice(4);
  const disks = dir.names().filter((name) => NVME_DISK.test(name));
  let home: SysfsDir | null = dir;
  if (disks.length === 0) {
    home = tree.dir('sys/class/block', { optional: true }) ?? tree.dir('sys/block', { optional: true });
    for (const name of home?.names() ?? []) {
      const match = NVME_DISK.exec(name);
      if (match !== null && (match[2] ?? match[1]) === number && !isPathOfOther(home!, name, controller)) {
        disks.push(name);
      }
    }
  }
  return disks
    .map((disk) => ({ disk, dir: home!.dir(disk) }))
    .filter((found): found is { disk: string; dir: SysfsDir } => found.dir !== null)
    .map(({ disk, dir: diskDir }) => readNamespace(disk, diskDir))
    .sort((a, b) => a.nsid - b.nsid);
}

/** A disk's `device` link shows to which controller it belongs; a head's link leads to its subsystem. */
function isPathOfOther(home: SysfsDir, disk: string, controller: string): boolean {
  const owner = home.dir(disk)?.linkName('device') ?? null;
  return owner !== null && owner !== controller;
}

function readNamespace(disk: string, dir: SysfsDir): SysfsNamespace {
  const [, subsystem, , head] = NVME_DISK.exec(disk)!;
  const queue = dir.dir('queue');
  const maxHw = queue?.number('max_hw_sectors_kb', { optional: true }) ?? null;
  return {
    name: `nvme${subsystem}n${head}`,
    nsid: dir.number('nsid', { min: 1, max: 0xffffffff, optional: true }) ?? Number(head),
    size: (dir.number('size', { max: MAX_SECTORS }) ?? 0) * 512,
    logicalBlockSize: blockSize(queue) ?? 512,
    maxHwTransfer: maxHw === null ? null : maxHw * 1024,
    readOnly: dir.flag('ro', { optional: true }) ?? false,
    metadataBytes: metadataBytesOf(dir),
    zoned: zonedOf(queue),
  };
}

/** The maximum number of 512-byte sectors for which the size in bytes is exact. */
export const MAX_SECTORS = Math.floor(Number.MAX_SAFE_INTEGER / 512);

/** Zones that accept only sequential writes, according to the queue; zones of a host-aware device accept any writes. */
export function zonedOf(queue: SysfsDir | null): { readonly zoneSize: number | null } | null {
  if (queue?.text('zoned', { optional: true }) !== 'host-managed') return null;
  const sectors = queue.number('chunk_sectors', { max: MAX_SECTORS, optional: true });
  return { zoneSize: sectors === null ? null : sectors * 512 };
}

/** Bytes of metadata per block of a namespace: `metadata_bytes`, since 6.8. Null: not reported. */
export function metadataBytesOf(dir: SysfsDir): number | null {
  return dir.number('metadata_bytes', { max: 0xffff, optional: true });
}

/** A queue’s longest transfer, in bytes; the administrator can change it at any time. */
export function maxTransferOf(queue: SysfsDir): number | null {
  const sectorsKb = queue.number('max_sectors_kb', { min: 1, max: 2 ** 32 });
  return sectorsKb === null ? null : sectorsKb * 1024;
}

/** `queue/logical_block_size`: a power of two. */
export function blockSize(queue: SysfsDir | null): number | null {
  const value = queue?.number('logical_block_size', { min: 512, max: 65536 }) ?? null;
  if (value !== null && !Number.isInteger(Math.log2(value))) {
    queue!.malformed('logical_block_size', 'not a power of two', String(value));
    return null;
  }
  return value;
}

// --- CMB ---

/** `cmbloc` and `cmbsz`, or both in `cmb` on older kernels. The kernel shows them only if there is a CMB. */
function readCmbRegisters(dir: SysfsDir): CmbRegisters | null {
  let location = dir.number('cmbloc', { max: 0xffffffff, optional: true });
  let capability = dir.number('cmbsz', { max: 0xffffffff, optional: true });
  if (location === null || capability === null) {
    const text = dir.text('cmb', { optional: true });
    if (text === null) return null;
    location = hexField(text, 'cmbloc');
    capability = hexField(text, 'cmbsz');
    if (location === null || capability === null) {
      dir.malformed('cmb', 'no cmbloc and cmbsz in it', text);
      return null;
    }
  }
  const unit = (capability >>> 8) & 0xf;
  if (capability === 0) return null;
  if (unit > 6) {
    dir.malformed('cmbsz', 'reserved size unit', String(unit));
    return null;
  }
  const granule = 4096 * 16 ** unit;
  return {
    bar: location & 7,
    offset: (location >>> 12) * granule,
    size: (capability >>> 12) * granule,
    sqs: (capability & 0x01) !== 0,
    cqs: (capability & 0x02) !== 0,
    lists: (capability & 0x04) !== 0,
    rds: (capability & 0x08) !== 0,
    wds: (capability & 0x10) !== 0,
  };
}

function hexField(text: string, name: string): number | null {
  const digits = new RegExp(`${name}\\s*:\\s*(?:0?x)?([0-9a-f]{1,8})\\b`, 'i').exec(text)?.[1];
  return digits === undefined ? null : Number.parseInt(digits, 16);
}

function cmbOf(
  pdev: PciDev | null,
  registers: CmbRegisters | null,
  kernel: () => KernelFacts,
): Controller['cmb'] {
  const p2pmem = pdev?.p2pmem ?? null;
  if (p2pmem !== null) {
    const unusable = p2pmem.published ? null : whyUnpublished(registers);
    return { size: p2pmem.size, published: p2pmem.published, unusable };
  }
  if (registers === null) return pdev === null ? null : hiddenCmb(pdev, kernel);
  if (registers.size === 0) return null;
  const bar = pdev?.bars[registers.bar] ?? null;
  const size =
    bar === null ? registers.size : Math.max(0, Math.min(registers.size, bar.size - registers.offset));
  return {
    size,
    published: false,
    unusable: whyUnregistered(registers, size, bar?.cpuAddress ?? null, kernel),
  };
}

function whyUnpublished(registers: CmbRegisters | null): UnusableCmb {
  if (registers === null || (registers.rds && registers.wds)) return NOT_PUBLISHED;
  const lacking = [registers.rds ? null : 'read data (RDS)', registers.wds ? null : 'write data (WDS)'];
  const what = lacking.filter((word) => word !== null).join(' and ');
  return { kind: 'no-data', text: `the CMB does not support ${what}` };
}

function whyUnregistered(
  registers: CmbRegisters,
  size: number,
  start: number | null,
  kernel: () => KernelFacts,
): UnusableCmb {
  if (kernel().p2pdma.enabled === false) {
    const text = `the kernel was built without CONFIG_PCI_P2PDMA (${kernel().p2pdma.from})`;
    return { kind: 'no-p2pdma', text };
  }
  if (size === 0) return { kind: 'outside-bar', text: `the CMB lies outside BAR ${registers.bar}` };
  const why = whyMisaligned(registers.bar, size, start);
  if (why !== null) {
    return { kind: 'misaligned', text: `${why}: ${misalignedFate(parseRelease(kernel().release))}` };
  }
  return NOT_REGISTERED;
}

/** Null: it is aligned well enough for memory hot-plug. */
function whyMisaligned(bar: number, size: number, start: number | null): string | null {
  // An address that is not known may be aligned.
  const wrong = misaligned({ size, start: start ?? 0 });
  if (wrong === null) return null;
  if (wrong === 'size') return `its size, ${size} bytes, is not a multiple of 2 MiB`;
  return `BAR ${bar} does not start at a multiple of 2 MiB`;
}

/** BAR 0 (together with BAR 1, because it is 64-bit) contains the controller's registers. */
const FIRST_OTHER_BAR = 2;

/**
 * A kernel that skips a misaligned CMB does not show its registers either, and one that is built without P2PDMA shows those of
 * no CMB. Only its BAR remains visible: prefetchable memory, which neither the registers nor an MSI-X table would be in.
 */
function hiddenCmb({ bars }: PciDev, kernel: () => KernelFacts): Controller['cmb'] {
  const { release: text, p2pdma } = kernel();
  const release = parseRelease(text);
  const others = bars.filter(
    (one) => one !== null && one.index >= FIRST_OTHER_BAR && one.prefetchable && one.size > 0,
  );
  const lacks = (p2pdma.enabled ?? distributionOf(release)?.p2pdma) === false;
  if (lacks && others[0] != null) return withoutP2pdma(others[0]);
  if (holds(CMB_ALIGN_SKIP, release) === 'no') return null;
  const bar = others.find((one) => whyMisaligned(one!.index, one!.size, one!.cpuAddress) !== null);
  if (bar == null) return null;
  const why = whyMisaligned(bar.index, bar.size, bar.cpuAddress);
  const hint = `BAR ${bar.index} may be a CMB, whose registers the kernel does not show: ${why}, and ${misalignedFate(release)}`;
  return { size: bar.size, published: false, unusable: { kind: 'perhaps-misaligned', text: hint } };
}

function withoutP2pdma({
  index,
  size,
}: {
  readonly index: number;
  readonly size: number;
}): Controller['cmb'] {
  const text = `BAR ${index} may be a CMB, whose registers a kernel without CONFIG_PCI_P2PDMA does not show`;
  return { size, published: false, unusable: { kind: 'no-p2pdma', text } };
}
