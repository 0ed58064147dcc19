/**
 * A machine read out of sysfs, as JSON that the emulator can run: `p2pdma snapshot`. It says what the machine is,
 * not whose: no serial numbers unless asked for, no host name, no file names.
 *
 * Real machines have things that a machine description refuses (a BAR whose size is no power of two, a port type
 * that does not fit its place): such a detail is left out, and the function stays.
 */
import type { SnapshotOptions } from '../backend.js';
import type { HostBridge, PciBar, PciDev } from '../topology.js';
import type { Sysfs, SysfsController, SysfsNamespace } from './sysfs.js';

/** A plain, JSON-serialisable machine description, version 1. */
export function snapshotMachine(sysfs: Sysfs, options: SnapshotOptions = {}): unknown {
  const { topology, controllers } = sysfs;
  const bridges = new Set<PciDev | null>(topology.functions.map((dev) => dev.upstream));
  const drives = new Map<PciDev, SysfsController>();
  for (const controller of controllers) {
    if (controller.pdev !== null && !drives.has(controller.pdev)) drives.set(controller.pdev, controller);
  }
  const unusable = overlapping(topology.functions);
  return {
    version: 1,
    name: options.name ?? 'snapshot',
    description: describe(sysfs),
    ...(sysfs.kernel.version === null ? {} : { kernel: sysfs.kernel.release }),
    cpu: { vendor: topology.cpu.vendor, family: topology.cpu.family },
    iommu: topology.iommu,
    hostBridges: topology.hostBridges.map((bridge) => ({
      domain: bridge.domain,
      bus: bridge.bus,
      busOffset: busOffset(bridge, topology.functions),
    })),
    functions: topology.functions.map((dev) => {
      const bars = dev.bars.filter((bar) => bar !== null && isSane(bar) && !unusable.has(bar)) as PciBar[];
      const drive = drives.get(dev) ?? null;
      return {
        bdf: dev.bdf,
        ...typeAndClass(dev, bridges.has(dev)),
        upstream: dev.upstream?.bdf ?? null,
        vendor: dev.vendor,
        device: dev.device,
        acs: dev.acs,
        bars: bars
          .filter((bar) => drive === null || bar.index > 0 || bar.size >= MIN_REGISTERS)
          .map(({ index, kind, cpuAddress, size, prefetchable }) => ({
            index,
            kind,
            address: cpuAddress,
            size,
            prefetchable,
          })),
        numaNode: dev.numaNode,
        iommuGroup: dev.iommuGroup,
        ...(drive === null || bridges.has(dev) ? {} : { nvme: describeDrive(drive, bars, options) }),
        ...(dev.p2pmem === null || dev.p2pmem.size === 0 ? {} : { p2pmem: describeP2pmem(dev.p2pmem) }),
      };
    }),
  };
}

function describe({ kernel, controllers }: Sysfs): string {
  const { enabled } = kernel.p2pdma;
  const config =
    enabled === null ? 'CONFIG_PCI_P2PDMA not known' : `CONFIG_PCI_P2PDMA=${enabled ? 'y' : 'n'}`;
  const fabrics = controllers.filter((controller) => controller.pdev === null).length;
  const left = fabrics === 0 ? '' : `; left out: ${fabrics} controllers without a PCI function`;
  return `Captured from Linux ${kernel.release ?? '(release unknown)'}, ${config}${left}`;
}

// --- functions ---

/** Its type where the place allows it: what is above and below counts for more than what config space said. */
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

function isSane({ size, cpuAddress, kind }: PciBar): boolean {
  const fits = Number.isInteger(Math.log2(size)) && cpuAddress % size === 0 && size >= 4;
  return fits && (kind === 'io' || (cpuAddress > 0 && cpuAddress + size <= 2 ** 52));
}

/** Memory BARs at an address that another has already. */
function overlapping(functions: readonly PciDev[]): Set<PciBar> {
  const bars = functions.flatMap(
    (dev) => dev.bars.filter((bar) => bar?.kind === 'memory' && isSane(bar)) as PciBar[],
  );
  bars.sort((a, b) => a.cpuAddress - b.cpuAddress);
  const out = new Set<PciBar>();
  let end = 0;
  for (const bar of bars) {
    if (bar.cpuAddress < end) out.add(bar);
    else end = bar.cpuAddress + bar.size;
  }
  return out;
}

/** What the root complex adds, as the BARs below it show; they must agree. */
function busOffset(bridge: HostBridge, functions: readonly PciDev[]): number {
  const offsets = new Set<number>();
  for (const dev of functions) {
    if (dev.hostBridge !== bridge) continue;
    for (const bar of dev.bars) if (bar?.kind === 'memory') offsets.add(bar.busAddress - bar.cpuAddress);
  }
  const [offset = 0] = offsets;
  return offsets.size === 1 && offset % 4096 === 0 ? offset : 0;
}

function describeP2pmem({ size, available, published }: NonNullable<PciDev['p2pmem']>): object {
  return { size, available: Math.min(size, available), published };
}

// --- drives ---

/** BAR 0 holds the registers and doorbells of the 16 queue pairs that a description has by default. */
const MIN_REGISTERS = 0x2000;
const PAGE_SIZE = 4096;

function describeDrive(drive: SysfsController, bars: readonly PciBar[], options: SnapshotOptions): object {
  const hardware = drive.namespaces.map((ns) => ns.maxHwTransfer).filter((bytes) => bytes !== null);
  const mdts = Math.min(...hardware);
  return {
    name: drive.name,
    ...(drive.model === null ? {} : { model: drive.model.slice(0, 40) }),
    ...(options.withSerials && drive.serial !== null ? { serial: drive.serial.slice(0, 20) } : {}),
    ...(mdts >= PAGE_SIZE && Number.isFinite(mdts) ? { mdts: 2 ** Math.floor(Math.log2(mdts)) } : {}),
    cmb: describeCmb(drive, bars),
    namespaces: drive.namespaces.flatMap((ns, index, all) => {
      const first = all.findIndex((other) => other.nsid === ns.nsid) === index;
      return first ? describeNamespace(ns) : [];
    }),
  };
}

/** Null where the registers are unknown or lie: then the function's p2pmem, if any, stands for it. */
function describeCmb({ cmbRegisters }: SysfsController, bars: readonly PciBar[]): object | null {
  if (cmbRegisters === null) return null;
  const { bar: index, offset, size: registered, ...flags } = cmbRegisters;
  const bar = bars.find((candidate) => candidate.index === index && candidate.kind === 'memory');
  if (bar === undefined || (index === 0 && offset < MIN_REGISTERS)) return null;
  const size = Math.min(registered, bar.size - offset);
  return size >= PAGE_SIZE ? { size, bar: index, offset, ...flags } : null;
}

function describeNamespace({ nsid, size, logicalBlockSize, readOnly }: SysfsNamespace): object[] {
  const blockSize = logicalBlockSize <= 512 ? 512 : 4096;
  const whole = size - (size % blockSize);
  if (whole === 0 || nsid > 0xfffffffe || whole > 2 ** 52 - 1) return [];
  return [{ nsid, size: whole, blockSize, readOnly }];
}
