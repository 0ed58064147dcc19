import { normalizeBdf, parseBdf } from '../backend/names.js';
import {
  invalid,
  type Machine,
  type MachineBar,
  type MachineDraft,
  type MachineFunction,
  type MachineSubsystem,
  type NvmeDescription,
} from './schema.js';

/*
 * What firmware does before the kernel boots: it assigns an address to every BAR without one, depth first, so that
 * everything below a bridge is contiguous. In addition, every controller gets a name.
 *
 *     0x20_0000_0000  ┬ 00:01.0 root port: a whole number of MiB
 *                     │  03:00.0 BAR0 16 KiB, BAR2 (CMB) 16 MiB, aligned to itself
 *                     ┴
 */

/** The first address to be assigned, unless addresses in the description are higher. */
const FIRST_ADDRESS = 0x20_0000_0000;
/** A bridge's memory window begins and ends at a multiple of this value. */
export const WINDOW_ALIGN = 0x100000;
/** Alignment of the windows of host bridges. */
const HOST_BRIDGE_ALIGN = 0x1_0000_0000;

type DraftFunction = MachineDraft['functions'][number];

const BRIDGE_TYPES = new Set(['root-port', 'upstream-port', 'downstream-port', 'pcie-to-pci-bridge']);

/** Can other functions be below this one? Decided by its type, or by its class if the type could not be read. */
export function isBridge(fn: { readonly type: string; readonly class: number | null }): boolean {
  if (BRIDGE_TYPES.has(fn.type)) return true;
  return (
    (fn.type === 'unknown' || fn.type === 'conventional') && Math.floor((fn.class ?? 0) / 0x100) === 0x0604
  );
}

export function alignUp(n: number, to: number): number {
  return Math.ceil(n / to) * to;
}

/** Complete a draft whose links are sound and whose functions are in BDF order. */
export function layOutBars(draft: MachineDraft, places: ReadonlyMap<string, string>): Machine {
  const names = controllerNames(draft.functions, places);
  const functions = draft.functions.map((fn) => complete(fn, names.get(fn.bdf) ?? null));
  assignAddresses(draft, functions);
  return {
    version: draft.version,
    name: draft.name,
    description: draft.description,
    emulated: draft.emulated,
    kernel: draft.kernel,
    cpu: draft.cpu,
    iommu: draft.iommu,
    memremapAlign: draft.memremapAlign,
    ioTimeout: draft.ioTimeout,
    useCmbSqes: draft.useCmbSqes,
    hostBridges: draft.hostBridges,
    functions: functions as MachineFunction[],
    subsystems: draft.subsystems.map((subsystem) => nameSubsystem(subsystem, names)),
    arrays: draft.arrays,
    latency: draft.latency,
    faults: draft.faults,
  };
}

/**
 * Refers to the controllers by name. The default name of a subsystem has the number of its first controller, as in
 * the kernel.
 */
function nameSubsystem(
  { name, controllers }: MachineDraft['subsystems'][number],
  names: ReadonlyMap<string, string>,
): MachineSubsystem {
  const named = controllers.map((controller) => names.get(normalizeBdf(controller)) ?? controller);
  return { name: name ?? named[0]!.replace(/^nvme/, 'nvme-subsys'), controllers: named };
}

/** nvme0, nvme1, … in BDF order; names from the description are kept and not assigned again. */
function controllerNames(functions: readonly DraftFunction[], places: ReadonlyMap<string, string>) {
  const controllers = functions.filter((fn) => fn.nvme !== null);
  const taken = new Map<string, string>();
  for (const fn of controllers) {
    const name = fn.nvme?.name;
    if (name === null || name === undefined) continue;
    const other = taken.get(name);
    if (other !== undefined) {
      throw invalid(
        `${places.get(fn.bdf)}.nvme.name`,
        `${fn.bdf} and ${other} are both '${name}'`,
        'Rename one of them.',
      );
    }
    taken.set(name, fn.bdf);
  }
  const names = new Map<string, string>();
  let next = 0;
  for (const fn of controllers) {
    let name = fn.nvme?.name ?? null;
    if (name === null) {
      while (taken.has(`nvme${next}`)) next++;
      name = `nvme${next++}`;
    }
    names.set(fn.bdf, name);
  }
  return names;
}

type PlacedBar = { -readonly [K in keyof MachineBar]: MachineBar[K] };
type PlacedFunction = Omit<MachineFunction, 'bars'> & { bars: PlacedBar[] };

/** Marks a BAR without an address. */
const UNPLACED = -1;

function complete(fn: DraftFunction, name: string | null): PlacedFunction {
  const bars = fn.bars.map((bar) => ({
    index: bar.index,
    kind: bar.kind,
    address: bar.address ?? UNPLACED,
    size: bar.size,
    prefetchable: bar.prefetchable ?? false,
  }));
  const nvme = fn.nvme === null ? null : completeNvme(fn.nvme, fn.bdf, name ?? 'nvme0');
  const add = (index: number, size: number, prefetchable: boolean) => {
    if (bars.some((bar) => bar.index === index)) return;
    bars.push({ index, kind: 'memory', address: UNPLACED, size: powerOfTwo(size), prefetchable });
  };
  if (nvme !== null) {
    // The registers come first, then a pair of doorbells for the admin queue and for each I/O queue pair.
    add(0, Math.max(0x4000, 0x1000 + (nvme.queues + 1) * 8), false);
    if (nvme.cmb !== null) add(nvme.cmb.bar, nvme.cmb.offset + nvme.cmb.size, true);
  }
  bars.sort((a, b) => a.index - b.index);
  const p2pmem = completeP2pmem(fn, bars);
  return {
    bdf: fn.bdf,
    type: fn.type,
    upstream: fn.upstream,
    vendor: fn.vendor,
    device: fn.device,
    class: fn.class ?? (isBridge(fn) ? 0x060400 : nvme !== null ? 0x010802 : 0x058000),
    acs: fn.acs,
    bars,
    numaNode: fn.numaNode,
    iommuGroup: fn.iommuGroup,
    nvme: nvme === null ? null : { ...nvme, cmb: nvme.cmb ?? cmbOfP2pmem(p2pmem) },
    p2pmem,
  };
}

function completeNvme(nvme: NonNullable<DraftFunction['nvme']>, bdf: string, name: string): NvmeDescription {
  return { ...nvme, name, serial: nvme.serial ?? madeUpSerial(bdf) };
}

/** The serial number of a drive for which the description has none. */
export function madeUpSerial(bdf: string): string {
  return `P2P${bdf.replace(/[:.]/g, '').toUpperCase()}`;
}

function completeP2pmem(fn: DraftFunction, bars: readonly PlacedBar[]): MachineFunction['p2pmem'] {
  if (fn.p2pmem === null) return null;
  const { size, available, published } = fn.p2pmem;
  const roomy = bars.filter((bar) => bar.kind === 'memory' && bar.size >= size);
  // BAR 0 of a drive has its registers: nothing is placed there that does not say where.
  const rest = fn.nvme === null ? roomy[0] : undefined;
  const guess = fn.nvme?.cmb?.bar ?? (roomy.find((bar) => bar.index > 0) ?? rest)?.index ?? null;
  return { size, available: available ?? size, published, bar: fn.p2pmem.bar ?? guess };
}

/** Peer memory of a drive is its CMB, for its driver registers nothing else; what more the CMB supports is not known. */
function cmbOfP2pmem(p2pmem: MachineFunction['p2pmem']): NvmeDescription['cmb'] {
  if (p2pmem === null || p2pmem.bar === null || p2pmem.size === 0) return null;
  const { size, available, bar } = p2pmem;
  return { size, bar, offset: 0, sqs: available < size, cqs: false, lists: false, rds: true, wds: true };
}

function powerOfTwo(n: number): number {
  let size = 1;
  while (size < n) size *= 2;
  return size;
}

function assignAddresses(draft: MachineDraft, functions: readonly PlacedFunction[]): void {
  let cursor = FIRST_ADDRESS;
  for (const fn of functions) {
    for (const bar of fn.bars) {
      if (bar.kind === 'memory') cursor = Math.max(cursor, bar.address + bar.size);
    }
  }
  let ioCursor = 0x1000;
  const below = new Map<string | null, PlacedFunction[]>();
  for (const fn of functions) {
    const list = below.get(fn.upstream);
    if (list === undefined) below.set(fn.upstream, [fn]);
    else list.push(fn);
  }
  const place = (fn: PlacedFunction): void => {
    for (const bar of fn.bars) {
      if (bar.address !== UNPLACED) continue;
      if (bar.kind === 'io') {
        bar.address = alignUp(ioCursor, bar.size);
        ioCursor = bar.address + bar.size;
      } else {
        bar.address = alignUp(cursor, bar.size);
        cursor = bar.address + bar.size;
      }
    }
    const children = below.get(fn.bdf);
    if (children === undefined) return;
    cursor = alignUp(cursor, WINDOW_ALIGN);
    for (const child of children) place(child);
    cursor = alignUp(cursor, WINDOW_ALIGN);
  };
  const roots = below.get(null) ?? [];
  for (const bridge of draft.hostBridges) {
    cursor = alignUp(cursor, HOST_BRIDGE_ALIGN);
    for (const fn of roots) if (onRootBus(fn.bdf, bridge)) place(fn);
  }
}

/** Is this function on that host bridge's root bus? */
export function onRootBus(bdf: string, bridge: { readonly domain: number; readonly bus: number }): boolean {
  const { domain, bus } = parseBdf(bdf)!;
  return domain === bridge.domain && bus === bridge.bus;
}
