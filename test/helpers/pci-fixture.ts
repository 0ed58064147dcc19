/** PCI functions, memory and an IOMMU for the kernel tests: as small and as strict as possible. */
import { type IommuHardware, PAGE_SIZE } from '../../lib/backend/hardware.js';
import { type KernelRelease, parseRelease } from '../../lib/backend/kernel-release.js';
import type {
  AcsControl,
  Cpu,
  HostBridge,
  PciBar,
  PciDev,
  PciePortType,
  Topology,
} from '../../lib/backend/topology.js';
import { type Device, dmaDefaultParms } from '../../lib/kernel/dma-mapping.js';
import { Mm } from '../../lib/kernel/memremap.js';
import { type BarMapper, pciP2pdmaAddResource, pciP2pmemPublish } from '../../lib/kernel/pci-p2pdma.js';
import { FakeHostMemory } from './fake-host-memory.js';

export const INTEL: Cpu = { vendor: 'GenuineIntel', family: 6 };
export const ZEN: Cpu = { vendor: 'AuthenticAMD', family: 0x17 };
export const MiB = 1024 * 1024;

export interface FunctionOptions {
  bdf: string;
  type?: PciePortType;
  vendor?: number;
  device?: number;
  acs?: AcsControl;
  bars?: (PciBar | null)[];
  p2pmem?: PciDev['p2pmem'];
}

export type TestBridge = { -readonly [K in keyof HostBridge]: HostBridge[K] };

/** A machine to which functions are added one by one. */
export class TestMachine implements Topology {
  readonly cpu: Cpu;
  readonly kernel: KernelRelease | null;
  readonly iommu = 'none';
  readonly hostBridges: TestBridge[] = [];
  readonly functions: PciDev[] = [];
  readonly unknowns = [];

  constructor(cpu: Cpu = INTEL, kernel = '6.12.117') {
    this.cpu = cpu;
    this.kernel = parseRelease(kernel);
  }

  bridge(domain = 0, bus = 0): TestBridge {
    const bridge: TestBridge = { domain, bus, firstDevice: null };
    this.hostBridges.push(bridge);
    return bridge;
  }

  add(above: PciDev | TestBridge, options: FunctionOptions): PciDev {
    const match = /^([0-9a-f]+):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/.exec(options.bdf)!;
    const [domain, bus, dev, fn] = match.slice(1).map((digits) => Number.parseInt(digits, 16)) as [
      number,
      number,
      number,
      number,
    ];
    const devfn = dev * 8 + fn;
    const onRoot = 'firstDevice' in above;
    const pdev: PciDev = {
      bdf: options.bdf,
      id: domain * 65536 + bus * 256 + devfn,
      devfn,
      vendor: options.vendor ?? 0x1b36,
      device: options.device ?? 0x0010,
      class: 0x010802,
      portType: options.type ?? 'endpoint',
      upstream: onRoot ? null : above,
      hostBridge: onRoot ? above : above.hostBridge,
      acs: options.acs ?? 'none',
      bars: options.bars ?? [],
      numaNode: null,
      iommuGroup: null,
      p2pmem: options.p2pmem ?? null,
    };
    if (onRoot) above.firstDevice ??= pdev;
    this.functions.push(pdev);
    return pdev;
  }

  find(bdf: string): PciDev | null {
    const full = bdf.split(':').length === 2 ? `0000:${bdf}` : bdf;
    return this.functions.find((f) => f.bdf === full) ?? null;
  }
}

export function memoryBar(index: number, cpuAddress: number, size: number, busOffset = 0): PciBar {
  return { index, kind: 'memory', cpuAddress, busAddress: cpuAddress + busOffset, size, prefetchable: true };
}

/** The drawing in topology.ts: two drives below a switch, each with a 16 MiB BAR 2. */
export function switchMachine(
  options: { cpu?: Cpu; acs?: AcsControl; busOffset?: number; firstDevice?: number } = {},
) {
  const machine = new TestMachine(options.cpu);
  const bridge = machine.bridge();
  machine.add(bridge, { bdf: '0000:00:00.0', vendor: 0x8086, device: options.firstDevice ?? 0x29c0 });
  const root = machine.add(bridge, { bdf: '0000:00:01.0', type: 'root-port' });
  const up = machine.add(root, { bdf: '0000:01:00.0', type: 'upstream-port' });
  const acs = options.acs ?? 'none';
  const down0 = machine.add(up, { bdf: '0000:02:00.0', type: 'downstream-port', acs });
  const down1 = machine.add(up, { bdf: '0000:02:01.0', type: 'downstream-port', acs });
  const offset = options.busOffset ?? 0;
  const bars = (at: number) => [null, null, memoryBar(2, at, 16 * MiB, offset)];
  const a = machine.add(down0, { bdf: '0000:03:00.0', bars: bars(0x10_0000_0000) });
  const b = machine.add(down1, { bdf: '0000:04:00.0', bars: bars(0x10_0100_0000) });
  return { machine, bridge, root, up, down0, down1, a, b };
}

/** One page table, page by page; it throws on driver errors, and fails on demand. */
export class TestIommu implements IommuHardware {
  readonly pages = new Map<number, { phys: number; write: boolean }>();
  /** The number of further calls of map() that succeed. */
  mapsLeft = Number.POSITIVE_INFINITY;

  map(_dev: PciDev, iova: number, phys: number, length: number, write: boolean): void {
    if (this.mapsLeft-- <= 0) throw new Error('out of page tables');
    if (iova % PAGE_SIZE || phys % PAGE_SIZE || length % PAGE_SIZE || length <= 0)
      throw new Error('pages only');
    for (let at = 0; at < length; at += PAGE_SIZE) {
      if (this.pages.has(iova + at)) throw new Error('mapped already');
      this.pages.set(iova + at, { phys: phys + at, write });
    }
  }

  unmap(_dev: PciDev, iova: number, length: number): void {
    for (let at = 0; at < length; at += PAGE_SIZE) {
      if (!this.pages.delete(iova + at)) throw new Error('not mapped');
    }
  }

  translate(iova: number): number | null {
    const page = this.pages.get(iova - (iova % PAGE_SIZE));
    return page === undefined ? null : page.phys + (iova % PAGE_SIZE);
  }
}

export function testDevice(pdev: PciDev | null, iommu: IommuHardware | null = null): Device {
  return {
    name: pdev?.bdf ?? 'platform',
    pdev,
    dmaOps: null,
    dmaParms: { ...dmaDefaultParms(), maxSegmentSize: 0xffffffff },
    memory: new FakeHostMemory(),
    iommu,
    iommuDomain: null,
  };
}

/** BAR memory that counts what is mapped. */
export class TestBar implements BarMapper {
  mapped = 0;
  mapBar(_bar: number, _offset: number, length: number) {
    this.mapped++;
    const buffer = new ArrayBuffer(length);
    let gone = false;
    return {
      buffer,
      unmap: () => {
        if (gone) throw new Error('unmapped twice');
        gone = true;
        this.mapped--;
        structuredClone(buffer, { transfer: [buffer] });
      },
    };
  }
}

/** Registers BAR 2 of these functions as peer memory, as a driver's probe does. */
export function provide(machine: TestMachine, ...providers: PciDev[]): { mm: Mm; bar: TestBar } {
  const mm = new Mm(new FakeHostMemory());
  const bar = new TestBar();
  for (const pdev of providers) {
    const error = pciP2pdmaAddResource(mm, machine, pdev, { bar: 2 }, bar);
    if (error !== 0) throw new Error(`add_resource: ${error}`);
    pciP2pmemPublish(pdev, true);
  }
  return { mm, bar };
}
