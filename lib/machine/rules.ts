import { parseBdf, rootBusName } from '../backend/names.js';
import { didYouMean } from '../base/nearest.js';
import { hexNumber } from '../base/words.js';
import { alignUp, isBridge, onRootBus, WINDOW_ALIGN } from './layout.js';
import {
  invalid,
  type Machine,
  type MachineDraft,
  type MachineFunction,
  type NamespaceDescription,
  namespaceName,
} from './schema.js';

/*
 * The rules that a schema cannot express: the parts of a machine must fit together as PCI and NVMe require. Each rule
 * throws ERR_MACHINE_INVALID for the first problem.
 */

type Link = Pick<MachineDraft['functions'][number], 'bdf' | 'type' | 'upstream' | 'class'>;
type Places = ReadonlyMap<string, string>;

/** Checks the addresses of functions and the hierarchy. It runs before any code walks the tree. */
export function checkLinks(draft: MachineDraft): void {
  if (!Number.isInteger(Math.log2(draft.memremapAlign))) {
    throw invalid(
      'memremapAlign',
      `${draft.memremapAlign} is not a power of two`,
      'It is 2 MiB, unless you know better.',
    );
  }
  const roots = new Set<string>();
  draft.hostBridges.forEach((bridge, i) => {
    const root = rootBusName(bridge);
    if (roots.has(root)) {
      throw invalid(`hostBridges[${i}]`, `root bus ${root} has a host bridge already`, 'Remove one.');
    }
    roots.add(root);
    if (bridge.busOffset % 4096 !== 0) {
      throw invalid(
        `hostBridges[${i}].busOffset`,
        'not a multiple of the page size 4096',
        'Use whole pages.',
      );
    }
  });

  const byBdf = new Map<string, Link>();
  draft.functions.forEach((fn, i) => {
    if (byBdf.has(fn.bdf)) {
      throw invalid(
        `functions[${i}].bdf`,
        `${fn.bdf} is described twice`,
        'Give each function its own address.',
      );
    }
    byBdf.set(fn.bdf, fn);
  });

  // Maps a secondary bus to the bridge above it.
  const buses = new Map<string, string>();
  draft.functions.forEach((fn, i) => {
    const where = `functions[${i}].upstream`;
    if (fn.upstream === null) {
      checkRoot(fn, where, draft.hostBridges);
      return;
    }
    const above = byBdf.get(fn.upstream);
    if (above === undefined) {
      throw invalid(
        where,
        `there is no function ${fn.upstream}`,
        `Describe the bridge above ${fn.bdf}, or use null.`,
      );
    }
    checkKind(fn, above, where);
    const address = parseBdf(fn.bdf)!;
    const bus = rootBusName(address);
    if (address.domain !== parseBdf(fn.upstream)!.domain) {
      throw invalid(
        where,
        `${fn.bdf} and ${fn.upstream} are in different PCI domains`,
        'Put them in one domain.',
      );
    }
    const owner = buses.get(bus);
    if (owner !== undefined && owner !== fn.upstream) {
      throw invalid(
        where,
        `${fn.bdf} is below ${fn.upstream}, but bus ${bus} is below ${owner}`,
        'Give each bridge a bus of its own, and put everything on that bus below it.',
      );
    }
    if (roots.has(bus)) {
      throw invalid(
        where,
        `bus ${bus} is a root bus, yet ${fn.bdf} is below ${fn.upstream}`,
        'Change its bus, or use null.',
      );
    }
    buses.set(bus, fn.upstream);
  });

  for (const [bdf, above] of walkUp(byBdf)) {
    const i = draft.functions.findIndex((fn) => fn.bdf === bdf);
    throw invalid(
      `functions[${i}].upstream`,
      `${bdf} is above itself (through ${above})`,
      'End the chain at a root bus: null.',
    );
  }
  draft.functions.forEach((fn, i) => {
    const indexes = new Set<number>();
    fn.bars.forEach((bar, j) => {
      if (indexes.has(bar.index)) {
        throw invalid(
          `functions[${i}].bars[${j}].index`,
          `${fn.bdf} has BAR ${bar.index} twice`,
          'Use each index once.',
        );
      }
      indexes.add(bar.index);
    });
  });
}

function checkRoot(fn: Link, where: string, bridges: MachineDraft['hostBridges']): void {
  if (fn.type === 'downstream-port') {
    throw invalid(where, `${fn.bdf} is a downstream port without a switch above`, 'Name its upstream port.');
  }
  if (!bridges.some((bridge) => onRootBus(fn.bdf, bridge))) {
    const bus = rootBusName(parseBdf(fn.bdf)!);
    throw invalid(
      where,
      `${fn.bdf} has no bridge above, but bus ${bus} is not a root bus`,
      `Name the bridge above it, or add a host bridge for bus ${bus}.`,
    );
  }
}

function checkKind(fn: Link, above: Link, where: string): void {
  if (!isBridge(above)) {
    throw invalid(
      where,
      `${above.bdf} is not a bridge (${above.type})`,
      `Put ${fn.bdf} below a port or bridge.`,
    );
  }
  if (fn.type === 'root-port' || fn.type === 'root-complex-endpoint') {
    throw invalid(
      where,
      `a ${fn.type} is on a root bus, not below ${above.bdf}`,
      'Use null, or another type.',
    );
  }
  if (fn.type === 'upstream-port' && above.type === 'upstream-port') {
    throw invalid(
      where,
      `an upstream port is below a root port or downstream port, not below ${above.bdf} (${above.type})`,
      'Put a downstream port in between.',
    );
  }
  if (fn.type === 'downstream-port' && above.type !== 'upstream-port' && above.type !== 'unknown') {
    throw invalid(
      where,
      `a downstream port is below an upstream port, not below ${above.bdf} (${above.type})`,
      'Describe the switch’s upstream port.',
    );
  }
}

/** Functions whose chain of bridges is a cycle, each with the bridge above it. */
function* walkUp(byBdf: ReadonlyMap<string, Link>): Generator<[string, string]> {
  const sound = new Set<string>();
  for (const start of byBdf.values()) {
    const chain: string[] = [];
    const seen = new Set<string>();
    let fn: Link | undefined = start;
    while (fn !== undefined && !sound.has(fn.bdf)) {
      if (seen.has(fn.bdf)) {
        yield [fn.bdf, fn.upstream ?? ''];
        return;
      }
      seen.add(fn.bdf);
      chain.push(fn.bdf);
      fn = fn.upstream === null ? undefined : byBdf.get(fn.upstream);
    }
    for (const bdf of chain) sound.add(bdf);
  }
}

/** Checks BARs, controllers and faults of a machine that is otherwise complete. */
export function checkPlaces(machine: Machine, places: Places): void {
  for (const fn of machine.functions) {
    const where = places.get(fn.bdf) ?? fn.bdf;
    for (const bar of fn.bars) checkBar(fn, bar, `${where}.bars (BAR ${bar.index})`);
    checkP2pmem(fn, where);
    checkNvme(fn, where);
  }
  checkOverlaps(machine, places);
  checkFaults(machine);
}

function checkBar(fn: MachineFunction, bar: MachineFunction['bars'][number], where: string): void {
  if (2 ** Math.round(Math.log2(bar.size)) !== bar.size) {
    throw invalid(
      where,
      `size ${bar.size} of ${fn.bdf} is not a power of two`,
      'Sizes of BARs are powers of two.',
    );
  }
  if (bar.address % bar.size !== 0) {
    throw invalid(
      where,
      `address ${hexNumber(bar.address)} of ${fn.bdf} is not a multiple of its size ${hexNumber(bar.size)}`,
      'Align it to its size, or leave the address out.',
    );
  }
}

function checkP2pmem(fn: MachineFunction, where: string): void {
  const mem = fn.p2pmem;
  if (mem === null) return;
  if (mem.available > mem.size) {
    throw invalid(
      `${where}.p2pmem.available`,
      `${mem.available} of ${mem.size} bytes`,
      'No more can be free than exists.',
    );
  }
  if (mem.bar === null) return;
  const bar = fn.bars.find((b) => b.index === mem.bar);
  if (bar === undefined || bar.kind !== 'memory' || bar.size < mem.size) {
    throw invalid(
      `${where}.p2pmem.bar`,
      `${fn.bdf} has no memory BAR ${mem.bar} of ${mem.size} bytes`,
      'Name another BAR.',
    );
  }
}

function checkNvme(fn: MachineFunction, where: string): void {
  const nvme = fn.nvme;
  if (nvme === null) return;
  if (isBridge(fn)) throw invalid(`${where}.nvme`, `${fn.bdf} is a bridge`, 'Move it to an endpoint.');
  const registers = fn.bars.find((bar) => bar.index === 0);
  const need = 0x1000 + (nvme.queues + 1) * 8;
  if (registers === undefined || registers.kind !== 'memory' || registers.size < need) {
    throw invalid(
      `${where}.bars`,
      `BAR 0 of ${fn.bdf} has no room for the registers of ${nvme.queues} queue pairs (${need} bytes)`,
      'Make it a memory BAR that is large enough, or leave it out.',
    );
  }
  if (!Number.isInteger(Math.log2(nvme.mdts / 4096))) {
    throw invalid(`${where}.nvme.mdts`, `${nvme.mdts} is not a power of two times 4096`, 'Use 4096, 8192, …');
  }
  const cmb = nvme.cmb;
  if (cmb !== null) {
    const at = `${where}.nvme.cmb`;
    const bar = fn.bars.find((b) => b.index === cmb.bar);
    if (cmb.bar === 0 && cmb.offset < need) {
      throw invalid(
        `${at}.offset`,
        `the registers of ${fn.bdf} are there`,
        `Use BAR 2, or an offset from ${need}.`,
      );
    }
    if (cmb.size % 4096 !== 0 || cmb.offset % 4096 !== 0) {
      throw invalid(
        at,
        `size ${cmb.size} or offset ${cmb.offset} is not a multiple of 4096`,
        'Use whole pages.',
      );
    }
    if (bar === undefined || bar.kind !== 'memory' || cmb.offset + cmb.size > bar.size) {
      throw invalid(
        at,
        `${hexNumber(cmb.offset)}–${hexNumber(cmb.offset + cmb.size)} is not inside BAR ${cmb.bar} of ${fn.bdf} (${bar === undefined ? 'absent' : `${bar.kind}, ${hexNumber(bar.size)}`})`,
        'Enlarge the BAR or shrink the CMB.',
      );
    }
  }
  const ids = new Set<number>();
  nvme.namespaces.forEach((ns, i) => {
    const at = `${where}.nvme.namespaces[${i}]`;
    if (ids.has(ns.nsid))
      throw invalid(`${at}.nsid`, `${nvme.name} has namespace ${ns.nsid} twice`, 'Number them differently.');
    ids.add(ns.nsid);
    if (ns.size % ns.blockSize !== 0) {
      throw invalid(
        `${at}.size`,
        `${ns.size} is not a multiple of the block size ${ns.blockSize}`,
        'Use whole blocks.',
      );
    }
    if ((ns.store === 'file') !== (ns.file !== null)) {
      throw invalid(
        at,
        `store is '${ns.store}' ${ns.file === null ? 'without' : 'with'} a file`,
        "Name a file if, and only if, store is 'file'.",
      );
    }
    checkEmpty(ns, at);
    checkZones(ns, at);
  });
}

/** Size 0 is what the kernel makes of metadata within the blocks. */
function checkEmpty(
  { size, extendedLba, metadata, zoned, file, partitions }: NamespaceDescription,
  at: string,
) {
  if (extendedLba === null) {
    if (size > 0) return;
    throw invalid(
      `${at}.size`,
      'it is 0, and the namespace has no extendedLba',
      'Give it at least one block; or, if the kernel shows size 0 because of metadata within the blocks, add "extendedLba": {}.',
    );
  }
  if (size > 0) {
    throw invalid(
      `${at}.size`,
      `it is ${size}, but the kernel gives a namespace with extendedLba size 0`,
      'Use 0, or describe metadata beside the blocks: "metadata": 8.',
    );
  }
  const has = {
    metadata: metadata > 0,
    zoned: zoned !== null,
    file: file !== null,
    partitions: partitions.length > 0,
  };
  for (const [key, there] of Object.entries(has)) {
    if (there) throw invalid(`${at}.${key}`, 'a namespace of size 0 cannot have it', 'Leave it out.');
  }
}

function checkZones({ zoned, blockSize, file, partitions }: NamespaceDescription, at: string): void {
  if (zoned === null) return;
  const { zoneSize } = zoned;
  if (!Number.isInteger(Math.log2(zoneSize)) || zoneSize < blockSize) {
    throw invalid(
      `${at}.zoned.zoneSize`,
      `${zoneSize} is not a power of two that holds a block of ${blockSize} bytes`,
      'Linux takes no other zones: use a size such as "64MiB".',
    );
  }
  if (file !== null) {
    throw invalid(
      `${at}.zoned`,
      "store is 'file', and a file keeps no write pointers",
      "Use the store 'memory', whose zones are empty at the start.",
    );
  }
  if (partitions.length > 0) {
    throw invalid(
      `${at}.partitions`,
      'the namespace is zoned',
      'Linux makes no partitions of it: leave them out.',
    );
  }
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly fn: MachineFunction;
  readonly bar: number;
}

/** No two BARs share an address; no two bridges of one bus share a MiB. */
function checkOverlaps(machine: Machine, places: Places): void {
  const cpu: Range[] = [];
  const bus = new Map<Machine['hostBridges'][number], Range[]>();
  const byBdf = new Map(machine.functions.map((fn) => [fn.bdf, fn]));
  for (const fn of machine.functions) {
    const bridge = hostBridgeOf(machine, fn, byBdf);
    for (const bar of fn.bars) {
      if (bar.kind !== 'memory') continue;
      const start = bar.address + bridge.busOffset;
      if (start < 0 || start + bar.size > 2 ** 52 || bar.address + bar.size > 2 ** 52) {
        throw invalid(
          `${places.get(fn.bdf)}.bars (BAR ${bar.index})`,
          `${fn.bdf}’s BAR is outside the 52-bit address space (CPU ${hexNumber(bar.address)}, bus ${hexNumber(start)})`,
          'Change its address, or the busOffset of its host bridge.',
        );
      }
      cpu.push({ start: bar.address, end: bar.address + bar.size, fn, bar: bar.index });
      const list = bus.get(bridge) ?? [];
      list.push({ start, end: start + bar.size, fn, bar: bar.index });
      bus.set(bridge, list);
    }
  }
  refuseOverlap(cpu, places);
  for (const ranges of bus.values()) refuseSharedWindow(ranges, places);
}

function refuseOverlap(ranges: Range[], places: Places): void {
  ranges.sort((a, b) => a.start - b.start);
  for (let i = 1; i < ranges.length; i++) {
    const a = ranges[i - 1]!;
    const b = ranges[i]!;
    if (b.start >= a.end) continue;
    throw invalid(
      `${places.get(b.fn.bdf)}.bars (BAR ${b.bar})`,
      `${hexNumber(b.start)}–${hexNumber(b.end)} of ${b.fn.bdf} overlaps BAR ${a.bar} of ${a.fn.bdf} (${hexNumber(a.start)}–${hexNumber(a.end)})`,
      'Move one of them, or leave the address out and one is assigned.',
    );
  }
}

/**
 * Bridges forward whole MiBs, so two BARs in one MiB must be on the same bus. For neighbours on different buses, the
 * last MiB of the lower one must not be the first MiB of the other.
 */
function refuseSharedWindow(ranges: Range[], places: Places): void {
  ranges.sort((a, b) => a.start - b.start);
  for (let i = 1; i < ranges.length; i++) {
    const a = ranges[i - 1]!;
    const b = ranges[i]!;
    if (alignUp(a.end, WINDOW_ALIGN) <= b.start || a.fn.upstream === b.fn.upstream) continue;
    throw invalid(
      `${places.get(b.fn.bdf)}.bars (BAR ${b.bar})`,
      `${b.fn.bdf} and ${a.fn.bdf} are below different bridges, but share the MiB at ${hexNumber(alignUp(a.end, WINDOW_ALIGN) - WINDOW_ALIGN)}`,
      'Bridge windows are whole MiBs: move one of them.',
    );
  }
}

function hostBridgeOf(machine: Machine, fn: MachineFunction, byBdf: ReadonlyMap<string, MachineFunction>) {
  let top = fn;
  while (top.upstream !== null) top = byBdf.get(top.upstream)!;
  return machine.hostBridges.find((bridge) => onRootBus(top.bdf, bridge))!;
}

function checkFaults(machine: Machine): void {
  const controllers = new Map<string, MachineFunction>();
  const namespaces = new Set<string>();
  const functions = new Set<string>();
  for (const fn of machine.functions) {
    functions.add(fn.bdf);
    if (fn.nvme === null) continue;
    controllers.set(fn.nvme.name, fn);
    controllers.set(fn.bdf, fn);
    for (const ns of fn.nvme.namespaces) namespaces.add(namespaceName(fn.nvme.name, ns.nsid));
  }
  machine.faults.forEach((fault, i) => {
    const where = `faults[${i}]`;
    if (fault.kind === 'media-error') {
      if (!namespaces.has(fault.namespace))
        throw unknown(`${where}.namespace`, 'namespace', fault.namespace, namespaces);
    } else if (fault.kind === 'drop-peer-writes') {
      if (!functions.has(fault.function))
        throw unknown(`${where}.function`, 'function', fault.function, functions);
    } else {
      const fn = controllers.get(fault.controller);
      if (fn === undefined)
        throw unknown(`${where}.controller`, 'controller', fault.controller, controllers.keys());
      if (fault.kind === 'pool-exhausted' && fn.nvme?.cmb === null && fn.p2pmem === null) {
        throw invalid(
          `${where}.controller`,
          `${fault.controller} has no CMB`,
          'Name a controller that has one.',
        );
      }
    }
  });
}

export function unknown(where: string, what: string, name: string, known: Iterable<string>) {
  const names = [...known];
  const list =
    names.length === 0
      ? 'There is none.'
      : `There are: ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', …' : ''}.`;
  return invalid(where, `no ${what} '${name}'`, `${didYouMean(name, names)} ${list}`.trimStart());
}
