/**
 * Reads PCI functions, the bridges above them and their host bridges from sysfs.
 *
 * The resolved path of a function's directory shows the bridges above it:
 *
 *     sys/bus/pci/devices/0000:03:00.0 ──▶ sys/devices/pci0000:00/0000:00:01.0/…/0000:02:00.0/0000:03:00.0
 *                                                      root bus ──┘  root port         bridge above ──┘
 *
 * A copied tree may have lost its symlinks. Then functions whose directories are nested in a function's directory
 * are below it; failing that, a bridge's secondary and subordinate bus numbers show which buses are below it.
 */
import { bdfId, isBdf, normalizeBdf, type PciAddress, parseBdf, parseRootBus } from '../../backend/names.js';
import type { AcsControl, Bdf, HostBridge, PciBar, PciDev, PciePortType } from '../../backend/topology.js';
import type { IommuGroups } from './iommu-groups.js';
import { type PciConfig, parsePciConfig } from './pci-config.js';
import { printedWhole } from './printed-whole.js';
import { parseNumber, type SysfsDir, type SysfsTree } from './tree.js';

const PCI_STD_NUM_BARS = 6;
const PCI_CLASS_BRIDGE_PCI = 0x0604;
const IORESOURCE_IO = 0x100;
const IORESOURCE_MEM = 0x200;
const IORESOURCE_PREFETCH = 0x2000;
const IORESOURCE_UNSET = 0x20000000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface SysfsPci {
  /** What is in a function's configuration space and in `resource` is read when it is asked for. */
  readonly functions: readonly PciDev[];
  readonly hostBridges: readonly HostBridge[];
  find(bdf: Bdf): PciDev | null;
  /** A function's directory. */
  dir(bdf: Bdf): SysfsDir | null;
  /** Read what was not read yet, so that everything that cannot be read has been noted. */
  readAll(): void;
}

/** A function before it becomes a PciDev. */
interface Found {
  readonly bdf: Bdf;
  readonly address: PciAddress;
  readonly dir: SysfsDir;
  readonly config: () => PciConfig | null;
  readonly class: number;
  upstream: Found | null;
  /** True if its place comes from the path and is not a guess from bus numbers. */
  placed: boolean;
  /** True if a bridge above it is missing. */
  gap: boolean;
  /** For a function on a root bus: that bus. */
  root: { domain: number; bus: number } | null;
  dev: Mutable<PciDev> | null;
}

export function readPci(tree: SysfsTree, groups: IommuGroups): SysfsPci {
  const found = findFunctions(tree);
  placeByPath(tree, found);
  placeByNesting(found);
  placeByBusNumbers(tree, found);
  cutImpossible(tree, found);

  const byAddress = [...found.values()].sort((a, b) => bdfId(a.address) - bdfId(b.address));
  const bridges = new Map<string, Mutable<HostBridge>>();
  const pcieKnown = once(() => byAddress.some((f) => hasLinkSpeed(f.dir)));
  const functions = byAddress.map((f) => toPciDev(f, bridges, groups, pcieKnown));
  for (const dev of functions) {
    const bridge = dev.hostBridge as Mutable<HostBridge>;
    if (dev.upstream !== null || parseBdf(dev.bdf)?.bus !== bridge.bus) continue;
    if (bridge.firstDevice === null || dev.devfn < bridge.firstDevice.devfn) bridge.firstDevice = dev;
  }
  const hostBridges = [...bridges.values()].sort((a, b) => a.domain - b.domain || a.bus - b.bus);
  return {
    functions,
    hostBridges,
    find: (bdf) => found.get(normalizeBdf(bdf))?.dev ?? null,
    dir: (bdf) => found.get(normalizeBdf(bdf))?.dir ?? null,
    readAll: () => {
      for (const { portType, acs, bars } of functions) void [portType, acs, bars];
    },
  };
}

function once<T>(read: () => T): () => T {
  let known: { readonly value: T } | null = null;
  return () => {
    known ??= { value: read() };
    return known.value;
  };
}

// --- addresses ---

/** The last PCI function on a resolved path: the function whose directory contains the entry. */
export function functionOnPath(components: readonly string[]): Bdf | null {
  return components.findLast(isBdf) ?? null;
}

// --- which functions there are ---

function findFunctions(tree: SysfsTree): Map<Bdf, Found> {
  const found = new Map<Bdf, Found>();
  const add = (bdf: Bdf, dir: SysfsDir): void => {
    const address = parseBdf(bdf);
    if (address === null || found.has(bdf)) return;
    const config = once(() => readConfig(tree, dir));
    found.set(bdf, {
      bdf,
      address,
      dir,
      config,
      class: attributeOr(dir, 'class', 0xffffff, () => config()?.class) ?? 0,
      upstream: null,
      placed: false,
      gap: false,
      root: null,
      dev: null,
    });
  };

  const devices = tree.dir('sys/bus/pci/devices', { optional: true });
  for (const bdf of devices?.names() ?? []) {
    if (!isBdf(bdf)) continue;
    const dir = devices!.dir(bdf);
    if (dir !== null) add(bdf, dir);
  }
  for (const { dir } of [...found.values()]) {
    dir.real.forEach((component, index) => {
      if (!isBdf(component) || found.has(component)) return;
      const above = tree.dir(dir.real.slice(0, index + 1).join('/'));
      if (above !== null) add(component, above);
    });
  }
  const lostLinks = [...found.values()].every((f) => f.dir.real[1] !== 'devices');
  if (lostLinks) walkDevices(tree, add);
  if (found.size === 0) tree.note('/sys/bus/pci/devices', 'no PCI functions');
  return found;
}

/** A number that sysfs shows as an attribute of its own; without one, from the configuration space. Null: neither is there. */
function attributeOr(
  dir: SysfsDir,
  name: string,
  max: number,
  fromConfig: () => number | null | undefined,
): number | null {
  return dir.number(name, { max, optional: true }) ?? fromConfig() ?? dir.number(name, { max });
}

/** Searches sys/devices itself if bus/pci/devices lost its links: host bridges are at the top or on a platform bus. */
function walkDevices(tree: SysfsTree, add: (bdf: Bdf, dir: SysfsDir) => void): void {
  const walk = (dir: SysfsDir, depth: number, insidePci: boolean): void => {
    if (depth > 40) return;
    for (const name of dir.directoryNames()) {
      const isFunction = isBdf(name);
      const isPci = isFunction || parseRootBus(name) !== null;
      if (!isPci && (insidePci || depth > 4 || name === 'virtual' || name === 'system')) continue;
      const below = dir.dir(name);
      if (below === null) continue;
      if (isFunction) add(name, below);
      walk(below, depth + 1, isPci);
    }
  };
  const devices = tree.dir('sys/devices', { optional: true });
  if (devices !== null) walk(devices, 0, false);
}

/**
 * Each read of the configuration space goes to the device, four bytes at a time: a microsecond each over PCIe, many more in a
 * virtual machine. So on a live system it is read only when it is asked for, and no more of it than is needed to know the
 * function's kind and its ACS.
 */
function readConfig(tree: SysfsTree, dir: SysfsDir): PciConfig | null {
  const enough = (read: Buffer) => {
    const soFar = parsePciConfig(read);
    return soFar !== null && soFar.portType !== null && soFar.acs !== 'unknown';
  };
  const content = dir.content('config', 4096, tree.live ? { enough } : {});
  if (content === null) return null;
  const { bytes, size } = content;
  const config = parsePciConfig(bytes, tree.live ? size : null);
  if (config === null) {
    tree.note(
      `${dir.shown}/config`,
      bytes.length < 64 ? 'shorter than 64 bytes' : 'all ones: powered down or gone',
    );
  } else if (config.acs === 'unknown') {
    const why = config.length < 256 ? ' (the rest needs root)' : '';
    tree.note(`${dir.shown}/config`, `only ${config.length} bytes readable${why}: ACS unknown`);
  }
  return config;
}

// --- the hierarchy ---

function placeByPath(tree: SysfsTree, found: Map<Bdf, Found>): void {
  for (const f of found.values()) {
    const { real } = f.dir;
    if (real.at(-1) !== f.bdf) {
      tree.note(f.dir.shown, `leads to ${JSON.stringify(real.at(-1) ?? '')}, another device`);
      continue;
    }
    const above = real.at(-2) ?? '';
    const root = parseRootBus(above);
    if (root !== null) {
      f.root = root;
      f.placed = true;
    } else if (found.has(above)) {
      f.upstream = found.get(above)!;
      f.placed = true;
    }
  }
}

function placeByNesting(found: Map<Bdf, Found>): void {
  if ([...found.values()].every((f) => f.placed)) return;
  for (const above of found.values()) {
    for (const name of above.dir.directoryNames()) {
      const below = found.get(name);
      if (below === undefined || below.placed || below === above) continue;
      below.upstream = above;
      below.placed = true;
    }
  }
}

function placeByBusNumbers(tree: SysfsTree, found: Map<Bdf, Found>): void {
  if ([...found.values()].every((f) => f.placed)) return;
  const { bridges, silent } = busRanges(found);
  for (const f of found.values()) {
    if (f.placed) continue;
    const { domain, bus } = f.address;
    const nearest = nearestAbove(f, bridges.get(domain) ?? []);
    f.upstream = nearest?.f ?? null;
    f.gap = nearest === null ? !isWholeRootBus(f, found) : nearest.secondary !== bus;
    if (f.gap) tree.note(f.dir.shown, 'a bridge above it is missing');
    else if (nearest === null && bus !== 0 && silent.has(domain)) {
      tree.note(f.dir.shown, 'which bridge is above is not known; taken to be on a root bus');
    }
  }
}

const PCI_CLASS_BRIDGE_HOST = 0x0600;

/**
 * For a function without a bridge above it: is nothing missing above it? On a root bus the host bridge is 00.0, by which the
 * kernel recognises it. Where 00.0 was not read it may be missing, and with it what the kernel would say.
 */
function isWholeRootBus(f: Found, found: Map<Bdf, Found>): boolean {
  const { domain, bus } = f.address;
  const hostBridge = [...found.values()].some(
    ({ address }) => address.domain === domain && address.bus === bus && address.devfn === 0,
  );
  return hostBridge && isRootBus(f, found);
}

/**
 * Is it on a root bus, or is a bridge missing? Bus 0 is a root bus, and so is a bus with functions that only a root bus has. A
 * device number above 0 is no sign of one: virtual functions with ARI, and devices below a PCIe-to-PCI bridge, have such
 * numbers too.
 */
function isRootBus({ address: { domain, bus } }: Found, found: Map<Bdf, Found>): boolean {
  if (bus === 0) return true;
  return [...found.values()].some(({ address, class: of, config }) => {
    if (address.domain !== domain || address.bus !== bus) return false;
    const type = config()?.portType;
    if (type === 'root-port' || type === 'root-complex-endpoint') return true;
    return of >> 8 === PCI_CLASS_BRIDGE_HOST;
  });
}

/** A bridge with the buses that are below it. */
interface BusRange {
  readonly f: Found;
  readonly secondary: number;
  readonly subordinate: number;
}

/** The ranges by domain; `silent`: domains with a function that may be a bridge but does not show its buses. */
function busRanges(found: Map<Bdf, Found>): { bridges: Map<number, BusRange[]>; silent: Set<number> } {
  const bridges = new Map<number, BusRange[]>();
  const silent = new Set<number>();
  for (const f of found.values()) {
    const buses = f.config()?.buses ?? busesFromAttributes(f);
    const { domain } = f.address;
    if (buses !== null) bridges.set(domain, [...(bridges.get(domain) ?? []), { f, ...buses }]);
    else if (f.class >> 8 === PCI_CLASS_BRIDGE_PCI || f.config() === null) silent.add(domain);
  }
  return { bridges, silent };
}

function nearestAbove(f: Found, bridges: readonly BusRange[]): BusRange | null {
  const { bus } = f.address;
  let nearest: BusRange | null = null;
  for (const bridge of bridges) {
    if (bridge.f === f || bus < bridge.secondary || bus > bridge.subordinate) continue;
    if (nearest === null || bridge.secondary > nearest.secondary) nearest = bridge;
  }
  return nearest;
}

function busesFromAttributes(f: Found): PciConfig['buses'] {
  if (f.class >> 8 !== PCI_CLASS_BRIDGE_PCI) return null;
  const secondary = f.dir.number('secondary_bus_number', { min: 1, max: 255, optional: true });
  const subordinate = f.dir.number('subordinate_bus_number', { min: 1, max: 255, optional: true });
  if (secondary === null || subordinate === null || subordinate < secondary) return null;
  return { secondary, subordinate };
}

/** Bus numbers increase downwards. A link that contradicts this is damaged and could form a loop. */
function cutImpossible(tree: SysfsTree, found: Map<Bdf, Found>): void {
  for (const f of found.values()) {
    const above = f.upstream?.address;
    if (above === undefined || (above.domain === f.address.domain && above.bus < f.address.bus)) continue;
    tree.note(f.dir.shown, `cannot be below ${f.upstream!.bdf}; a bridge above it is missing`);
    f.upstream = null;
    f.gap = true;
  }
}

// --- one function ---

function toPciDev(
  f: Found,
  bridges: Map<string, Mutable<HostBridge>>,
  groups: IommuGroups,
  pcieKnown: () => boolean,
): PciDev {
  if (f.dev !== null) return f.dev;
  const upstream = f.upstream === null ? null : toPciDev(f.upstream, bridges, groups, pcieKnown);
  const { devfn } = f.address;
  const { config, dir } = f;
  const portType = once(() => config()?.portType ?? inferPortType(f, upstream, pcieKnown()));
  const bars = once(() => readBars(f));
  f.dev = printedWhole({
    bdf: f.bdf,
    id: bdfId(f.address),
    devfn,
    vendor: attributeOr(dir, 'vendor', 0xffff, () => config()?.vendor) ?? 0xffff,
    device: attributeOr(dir, 'device', 0xffff, () => config()?.device) ?? 0xffff,
    class: f.class,
    get portType() {
      return portType();
    },
    upstream,
    ...(f.gap ? { wayUp: 'unknown' as const } : {}),
    hostBridge: upstream?.hostBridge ?? hostBridgeOf(f, bridges),
    get acs() {
      return config()?.acs ?? ('unknown' satisfies AcsControl);
    },
    get bars() {
      return bars();
    },
    numaNode: nonNegative(dir.number('numa_node', { min: -1, max: 0xffff, optional: true })),
    iommuGroup: groups.of(f.bdf, dir),
    p2pmem: readP2pmem(dir),
  });
  return f.dev;
}

function hostBridgeOf(f: Found, bridges: Map<string, Mutable<HostBridge>>): HostBridge {
  const { domain, bus } = f.root ?? f.address;
  const key = `${domain}:${bus}`;
  let bridge = bridges.get(key);
  if (bridge === undefined) {
    bridge = { domain, bus, firstDevice: null };
    bridges.set(key, bridge);
  }
  return bridge;
}

/** For a function whose PCI Express capability was not readable: infers the type from the kind of function and its place. */
function inferPortType(f: Found, upstream: PciDev | null, pcieKnown: boolean): PciePortType {
  if (f.class === 0) return 'unknown';
  if (pcieKnown && !hasLinkSpeed(f.dir)) return 'conventional';
  const isBridge = f.class >> 8 === PCI_CLASS_BRIDGE_PCI;
  switch (upstream?.portType) {
    case undefined:
      return isBridge ? 'root-port' : 'root-complex-endpoint';
    case 'root-port':
    case 'downstream-port':
      return isBridge ? 'upstream-port' : 'endpoint';
    case 'upstream-port':
      return isBridge ? 'downstream-port' : 'endpoint';
    case 'conventional':
    case 'pcie-to-pci-bridge':
      return 'conventional';
    default:
      return 'unknown';
  }
}

/** sysfs shows link attributes only for PCI Express functions. */
function hasLinkSpeed(dir: SysfsDir): boolean {
  return dir.has('current_link_speed') || dir.has('max_link_speed');
}

/** `resource`: start, end and flags per line; the first six lines are the BARs. */
function readBars(f: Found): (PciBar | null)[] {
  const bars: (PciBar | null)[] = Array.from({ length: PCI_STD_NUM_BARS }, () => null);
  const lines = f.dir.text('resource')?.split('\n') ?? [];
  for (let index = 0; index < PCI_STD_NUM_BARS; index++) {
    const line = lines[index]?.trim();
    if (!line) continue;
    const [start, end, flags, more] = line.split(/\s+/).map(parseNumber);
    if (start == null || end == null || flags == null || more !== undefined || end < start) {
      f.dir.malformed('resource', `line ${index + 1} is not a resource`, line);
      continue;
    }
    const kind = (flags & IORESOURCE_MEM) !== 0 ? 'memory' : (flags & IORESOURCE_IO) !== 0 ? 'io' : null;
    if (kind === null || (flags & IORESOURCE_UNSET) !== 0) continue;
    const size = end - start + 1;
    const bus = f.config()?.barAddresses[index] ?? null;
    bars[index] = {
      index,
      kind,
      cpuAddress: start,
      busAddress: bus !== null && bus % size === 0 ? bus : start,
      size,
      prefetchable: (flags & IORESOURCE_PREFETCH) !== 0,
    };
  }
  return bars;
}

/** `p2pmem/`: null if the function provides no memory, which includes size 0. An unreadable attribute counts as nothing. */
export function readP2pmem(dir: SysfsDir): PciDev['p2pmem'] {
  const p2pmem = dir.dir('p2pmem', { optional: true });
  if (p2pmem === null) return null;
  const size = p2pmem.number('size');
  if (size === 0) return null;
  return {
    size: size ?? 0,
    available: p2pmem.number('available') ?? 0,
    published: p2pmem.flag('published') ?? false,
  };
}

function nonNegative(value: number | null): number | null {
  return value !== null && value >= 0 ? value : null;
}
