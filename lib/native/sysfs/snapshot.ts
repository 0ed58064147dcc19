/**
 * Turns a machine read from sysfs into JSON that the emulator can run: `p2pdma snapshot`. It describes the machine without
 * identifying it: no serial numbers unless requested, no host name, no file names.
 *
 * Real machines have details that a machine description rejects (a BAR whose size is not a power of two, a port type that does
 * not fit its place). Such a detail is left out, the function stays, and the description lists what is missing.
 */

import { MEMREMAP_COMPAT_ALIGN } from '../../backend/hardware.js';
import type { SnapshotOptions } from '../../backend/system-options.js';
import type { HostBridge, PciBar, PciDev } from '../../backend/topology.js';
import { P2pdmaError } from '../../base/errors.js';
import { list } from '../../base/words.js';
import type { Sysfs, SysfsController, SysfsNamespace } from './machine.js';
import { MIN_REGISTERS, SnapshotMemory } from './snapshot-memory.js';
import { describeStacks, type Stacks } from './snapshot-stacks.js';

/**
 * A plain, JSON-serialisable machine description, version 1.
 * @throws P2pdmaError ERR_MACHINE_INVALID: without PCI there is nothing to describe
 */
export function snapshotMachine(sysfs: Sysfs, options: SnapshotOptions = {}): unknown {
  const { topology, controllers } = sysfs;
  if (topology.functions.length === 0) {
    throw new P2pdmaError('ERR_MACHINE_INVALID', `no PCI function is visible below '${sysfs.root}'`, {
      path: sysfs.root,
      hint: 'A machine is described by its PCI functions. If it has any, look where /sys is complete; of a captured tree, capture /sys/bus/pci and /sys/devices too.',
    });
  }
  const lost = topology.functions.filter(({ wayUp }) => wayUp === 'unknown');
  if (lost.length > 0 && topology.peerMemory === 'unknown') {
    const which = list(lost.map(({ bdf }) => bdf));
    throw new P2pdmaError('ERR_MACHINE_INVALID', `what is above ${which} is not known`, {
      path: sysfs.root,
      hint: 'A description would have to make it up. Capture all PCI functions: /sys whole, or all of `sudo lspci -xxxx`.',
    });
  }
  const bridges = new Set<PciDev | null>(topology.functions.map((dev) => dev.upstream));
  const drives = new Map<PciDev, SysfsController>();
  const memory = new SnapshotMemory(topology);
  const left: string[] = [];
  for (const controller of controllers) {
    const { pdev } = controller;
    if (pdev !== null && !drives.has(pdev) && !bridges.has(pdev)) drives.set(pdev, controller);
    else
      left.push(`${controller.name} (${controller.pdev === null ? 'no PCI function' : controller.pdev.bdf})`);
  }
  for (const { bdf } of lost) left.push(`a bridge above ${bdf}, which was not there`);
  const unusable = unusableBars(topology.functions, drives);
  for (const [{ index, size }, { bdf, why }] of unusable) {
    left.push(`BAR ${index} of ${bdf} (${size} bytes, ${why})`);
  }
  const stacks = describeStacks(sysfs, [...drives.values()], left);
  const functions = topology.functions.map((dev) => describeFunction(dev));
  return {
    version: 1,
    name: options.name ?? 'snapshot',
    description: describe(sysfs, { assumed: memory.assumed, left: [...memory.lost, ...left] }),
    ...(sysfs.kernel.version === null ? {} : { kernel: sysfs.kernel.release }),
    cpu: { vendor: topology.cpu.vendor, family: topology.cpu.family },
    iommu: topology.iommu,
    ...(memory.granule === MEMREMAP_COMPAT_ALIGN ? {} : { memremapAlign: memory.granule }),
    ...(sysfs.kernel.useCmbSqes === null ? {} : { useCmbSqes: sysfs.kernel.useCmbSqes }),
    hostBridges: topology.hostBridges.map((bridge) => ({
      domain: bridge.domain,
      bus: bridge.bus,
      busOffset: busOffset(bridge, topology.functions),
    })),
    functions,
    ...(stacks.subsystems.length > 0 ? { subsystems: stacks.subsystems } : {}),
    ...(stacks.arrays.length > 0 ? { arrays: stacks.arrays } : {}),
  };

  function describeFunction(dev: PciDev): object {
    const bars = dev.bars.filter((bar) => bar !== null && !unusable.has(bar)) as PciBar[];
    const drive = drives.get(dev) ?? null;
    const { cmb, p2pmem } = memory.describe({ dev, drive, bars });
    const place = typeAndClass(dev, bridges.has(dev));
    if (place.type !== dev.portType)
      left.push(`the type of ${dev.bdf} (${dev.portType}, which is out of place)`);
    return {
      bdf: dev.bdf,
      ...place,
      upstream: dev.upstream?.bdf ?? null,
      vendor: dev.vendor,
      device: dev.device,
      acs: dev.acs,
      bars: bars.map(({ index, kind, cpuAddress, size, prefetchable }) => ({
        index,
        kind,
        address: cpuAddress,
        size,
        prefetchable,
      })),
      numaNode: dev.numaNode,
      iommuGroup: dev.iommuGroup,
      ...(drive === null ? {} : { nvme: describeDrive(drive, cmb, { options, left, stacks }) }),
      ...(p2pmem === null ? {} : { p2pmem }),
    };
  }
}

/** The maximum number of omitted details that are listed. */
const MOST_LEFT = 12;

function describe(
  { kernel, topology, controllers }: Sysfs,
  { assumed, left }: { readonly assumed: readonly string[]; readonly left: readonly string[] },
): string {
  const { enabled } = kernel.p2pdma;
  const config =
    enabled === null ? 'CONFIG_PCI_P2PDMA not known' : `CONFIG_PCI_P2PDMA=${enabled ? 'y' : 'n'}`;
  const cpu = topology.cpu.known === false ? ['the CPU is not known: taken for no AMD Zen'] : [];
  const metadata = describeMetadata(controllers.flatMap(({ namespaces }) => namespaces));
  const more = left.length > MOST_LEFT ? ` and ${left.length - MOST_LEFT} more` : '';
  const out = left.length === 0 ? [] : [`left out: ${left.slice(0, MOST_LEFT).join(', ')}${more}`];
  const captured = `Captured from Linux ${kernel.running ?? '(release unknown)'}, ${config}`;
  const other = kernel.release === kernel.running ? [] : [`described as with Linux ${kernel.release}`];
  return [captured, ...other, ...cpu, ...metadata, ...assumed, ...out].join('; ');
}

/** Namespace metadata that a description cannot represent: its size is not known, or not one that a description can have. */
function describeMetadata(namespaces: readonly SysfsNamespace[]): string[] {
  const beside = namespaces.filter((ns) => !isExtended(ns));
  const silent = beside.filter(({ metadataBytes }) => metadataBytes === null);
  const other = beside.filter(({ metadataBytes }) => metadataBytes !== describedMetadata(metadataBytes));
  return [
    ...(silent.length === 0
      ? []
      : [`metadata of ${list(silent.map(({ name }) => name))} not known: taken for none`]),
    ...other
      .filter(({ metadataBytes }) => metadataBytes !== null)
      .map(
        ({ name, metadataBytes }) => `${metadataBytes} bytes of metadata per block of ${name}: taken for 8`,
      ),
  ];
}

/** The kernel gives size 0 to a namespace whose metadata it cannot carry, which is that within the blocks. */
function isExtended({ size, metadataBytes }: SysfsNamespace): boolean {
  return size === 0 && metadataBytes !== 0;
}

/** The metadata sizes that a description can have; passthrough is refused for any size but 0. */
function describedMetadata(bytes: number | null): 0 | 8 {
  return bytes === null || bytes === 0 ? 0 : 8;
}

// --- functions ---

/** Its type if its place allows that type: the functions above and below count for more than config space. */
function typeAndClass(dev: PciDev, hasFunctionsBelow: boolean): { type: PciDev['portType']; class: number } {
  const type = typeInPlace(dev);
  const isPciBridge = dev.class >> 8 === PCI_CLASS_BRIDGE_PCI;
  if (!hasFunctionsBelow || portTypes.has(type)) return { type, class: dev.class };
  if (isPciBridge && (type === 'conventional' || type === 'unknown')) return { type, class: dev.class };
  return { type: 'unknown', class: PCI_CLASS_BRIDGE_PCI << 8 };
}

function typeInPlace({ portType, upstream }: PciDev): PciDev['portType'] {
  const above = upstream === null ? null : typeInPlace(upstream);
  switch (portType) {
    case 'root-port':
      return above === null ? portType : 'unknown';
    case 'root-complex-endpoint':
      return above === null ? portType : 'endpoint';
    case 'upstream-port':
      return above === 'upstream-port' ? 'unknown' : portType;
    case 'downstream-port':
      return above === 'upstream-port' || above === 'unknown' ? portType : 'unknown';
    default:
      return portType;
  }
}

const PCI_CLASS_BRIDGE_PCI = 0x0604;
const portTypes = new Set<PciDev['portType']>([
  'root-port',
  'upstream-port',
  'downstream-port',
  'pcie-to-pci-bridge',
]);

type Unusable = Map<PciBar, { bdf: string; why: string }>;

/** BARs that a description cannot contain, with the reason. */
function unusableBars(functions: readonly PciDev[], drives: ReadonlyMap<PciDev, SysfsController>): Unusable {
  const out: Unusable = new Map();
  const memory: PlacedBar[] = [];
  for (const { bar, dev } of barsOf(functions)) {
    const registers = drives.has(dev) && bar.index === 0 && bar.size < MIN_REGISTERS;
    const why = registers ? 'no room for registers' : whyInsane(bar);
    if (why !== null) out.set(bar, { bdf: dev.bdf, why });
    else if (bar.kind === 'memory') memory.push({ bar, dev });
  }
  memory.sort((a, b) => a.bar.cpuAddress - b.bar.cpuAddress);
  let before: PlacedBar | null = null;
  for (const here of memory) {
    const why = before === null ? null : whyClash(before, here);
    if (why === null) before = here;
    else out.set(here.bar, { bdf: here.dev.bdf, why });
  }
  return out;
}

interface PlacedBar {
  readonly bar: PciBar;
  readonly dev: PciDev;
}

function barsOf(functions: readonly PciDev[]): PlacedBar[] {
  return functions.flatMap((dev) => dev.bars.filter((bar) => bar !== null).map((bar) => ({ bar, dev })));
}

function whyInsane({ size, cpuAddress, kind }: PciBar): string | null {
  if (!Number.isInteger(Math.log2(size)) || size < 4) return 'not a size that a BAR has';
  if (cpuAddress % size !== 0) return 'not at a multiple of its size';
  if (kind === 'memory' && cpuAddress === 0) return 'at no address';
  return kind === 'memory' && cpuAddress + size > 2 ** 52 ? 'beyond 52 bits' : null;
}

/** Bridges forward windows of whole MiBs. */
const WINDOW = 2 ** 20;

function whyClash(low: PlacedBar, high: PlacedBar): string | null {
  const end = low.bar.cpuAddress + low.bar.size;
  if (high.bar.cpuAddress < end) return `where a BAR of ${low.dev.bdf} is`;
  const shared = Math.ceil(end / WINDOW) * WINDOW > high.bar.cpuAddress;
  const apart = low.dev.upstream !== high.dev.upstream && low.dev.hostBridge === high.dev.hostBridge;
  return shared && apart ? `in a MiB of ${low.dev.bdf}, which is below another bridge` : null;
}

/** The offset that the root complex adds to addresses, according to the BARs below it, which must agree. */
function busOffset(bridge: HostBridge, functions: readonly PciDev[]): number {
  const offsets = new Set<number>();
  for (const dev of functions) {
    if (dev.hostBridge !== bridge) continue;
    for (const bar of dev.bars) if (bar?.kind === 'memory') offsets.add(bar.busAddress - bar.cpuAddress);
  }
  const [offset = 0] = offsets;
  return offsets.size === 1 && offset % 4096 === 0 ? offset : 0;
}

// --- drives ---

const PAGE_SIZE = 4096;

/** A controller whose name is not known is named by its address. */
const NAME = /^nvme\d{1,4}$/;

function describeDrive(
  drive: SysfsController,
  cmb: object | null,
  {
    options,
    left,
    stacks,
  }: { readonly options: SnapshotOptions; readonly left: string[]; readonly stacks: Stacks },
): object {
  const hardware = drive.namespaces.map((ns) => ns.maxHwTransfer).filter((bytes) => bytes !== null);
  const mdts = Math.min(...hardware);
  return {
    ...(NAME.test(drive.name) ? { name: drive.name } : {}),
    ...(drive.model === null ? {} : { model: drive.model.slice(0, 40) }),
    ...(options.withSerials && drive.serial !== null ? { serial: drive.serial.slice(0, 20) } : {}),
    ...(mdts >= PAGE_SIZE && Number.isFinite(mdts) ? { mdts: 2 ** Math.floor(Math.log2(mdts)) } : {}),
    cmb,
    namespaces: drive.namespaces.flatMap((ns, index, all) => {
      const first = all.findIndex((other) => other.nsid === ns.nsid) === index;
      const described = first ? describeNamespace(ns, stacks.partitions.get(ns.name) ?? []) : [];
      if (described.length > 0 && ns.zoned !== null && !isZone(ns.zoned.zoneSize)) {
        left.push(`the zones of ${ns.name} (${ns.zoned.zoneSize ?? 'an unknown number of'} bytes)`);
      }
      if (described.length === 0) left.push(`namespace ${ns.name} of ${drive.name} (${ns.size} bytes)`);
      return described;
    }),
  };
}

function describeNamespace(ns: SysfsNamespace, partitions: readonly object[]): object[] {
  const { nsid, size, logicalBlockSize, readOnly } = ns;
  const metadata = describedMetadata(ns.metadataBytes);
  const blockSize = logicalBlockSize <= 512 ? 512 : 4096;
  const whole = size - (size % blockSize);
  if (nsid > 0xfffffffe || whole > 2 ** 52 - 1) return [];
  if (isExtended(ns))
    return [{ nsid, size: 0, blockSize, readOnly, extendedLba: { metadata: ns.metadataBytes } }];
  if (whole === 0) return [];
  const parts = partitions.length > 0 ? { partitions } : {};
  const zoneSize = ns.zoned?.zoneSize ?? null;
  const zones = isZone(zoneSize) ? { zoned: { zoneSize } } : {};
  return [{ nsid, size: whole, blockSize, metadata, readOnly, ...zones, ...parts }];
}

/** A zone size that a description can have, as every zoned disk of Linux has. */
function isZone(bytes: number | null): bytes is number {
  return bytes !== null && bytes >= PAGE_SIZE && Number.isInteger(Math.log2(bytes));
}
