import { misaligned } from '../../backend/hardware.js';
import { type KernelRelease, parseRelease } from '../../backend/kernel-release.js';
import { bdfId, normalizeBdf, parseBdf } from '../../backend/names.js';
import type {
  AcsControl,
  Bdf,
  Cpu,
  HostBridge,
  IommuMode,
  PciBar,
  PciDev,
  PciePortType,
  Topology,
} from '../../backend/topology.js';
import type { Machine, MachineFunction } from '../../machine/schema.js';

export type P2pmem = NonNullable<PciDev['p2pmem']>;

/** A host bridge and how it routes TLPs. */
export class EmulatedHostBridge implements HostBridge {
  readonly domain: number;
  readonly bus: number;
  /** The bus address minus the CPU address, for everything below. */
  readonly busOffset: number;
  /** Does the root complex forward TLPs between functions? */
  readonly peerRouting: boolean;
  firstDevice: PciDev | null = null;

  constructor(description: Machine['hostBridges'][number]) {
    this.domain = description.domain;
    this.bus = description.bus;
    this.busOffset = description.busOffset;
    this.peerRouting = description.peerRouting;
  }
}

class EmulatedPciDev implements PciDev {
  readonly bdf: Bdf;
  readonly id: number;
  readonly devfn: number;
  readonly vendor: number;
  readonly device: number;
  readonly class: number;
  readonly portType: PciePortType;
  readonly upstream: PciDev | null;
  readonly hostBridge: EmulatedHostBridge;
  readonly acs: AcsControl;
  readonly bars: readonly (PciBar | null)[];
  readonly numaNode: number | null;
  readonly iommuGroup: number | null;
  readonly #topology: EmulatedTopology;

  constructor(
    topology: EmulatedTopology,
    fn: MachineFunction,
    upstream: PciDev | null,
    hostBridge: EmulatedHostBridge,
  ) {
    this.#topology = topology;
    this.bdf = fn.bdf;
    const address = parseBdf(fn.bdf)!;
    this.id = bdfId(address);
    this.devfn = address.devfn;
    this.vendor = fn.vendor;
    this.device = fn.device;
    this.class = fn.class;
    this.portType = fn.type;
    this.upstream = upstream;
    this.hostBridge = hostBridge;
    this.acs = fn.acs;
    this.bars = bars(fn, hostBridge.busOffset);
    this.numaNode = fn.numaNode;
    this.iommuGroup = fn.iommuGroup;
  }

  get p2pmem(): P2pmem | null {
    return this.#topology.p2pmem(this);
  }
}

function bars(fn: MachineFunction, busOffset: number): (PciBar | null)[] {
  const list: (PciBar | null)[] = [null, null, null, null, null, null];
  for (const { index, kind, address, size, prefetchable } of fn.bars) {
    list[index] = { index, kind, cpuAddress: address, busAddress: address + busOffset, size, prefetchable };
  }
  return list;
}

/** The topology that a machine description describes. */
export class EmulatedTopology implements Topology {
  readonly cpu: Cpu;
  readonly kernel: KernelRelease | null;
  readonly iommu: IommuMode;
  readonly hostBridges: readonly EmulatedHostBridge[];
  readonly functions: readonly PciDev[];
  readonly unknowns: Topology['unknowns'] = [];
  /**
   * Returns the peer memory of a function; it is called each time. At first the description determines the result; a
   * kernel that boots on the machine replaces this function with one that returns its own pools.
   */
  p2pmem: (pdev: PciDev) => P2pmem | null;
  readonly #byBdf = new Map<Bdf, PciDev>();

  constructor(machine: Machine) {
    this.cpu = machine.cpu;
    this.kernel = parseRelease(machine.kernel);
    this.iommu = machine.iommu;
    this.hostBridges = machine.hostBridges.map((description) => new EmulatedHostBridge(description));
    const described = new Map(machine.functions.map((fn) => [fn.bdf, fn]));
    const build = (fn: MachineFunction): PciDev => {
      const done = this.#byBdf.get(fn.bdf);
      if (done !== undefined) return done;
      const upstream = fn.upstream === null ? null : build(described.get(fn.upstream)!);
      const hostBridge = (upstream?.hostBridge ?? this.#rootBus(fn)) as EmulatedHostBridge;
      const pdev = new EmulatedPciDev(this, fn, upstream, hostBridge);
      this.#byBdf.set(fn.bdf, pdev);
      return pdev;
    };
    this.functions = machine.functions.map(build);
    for (const pdev of this.functions) {
      if (pdev.upstream === null) (pdev.hostBridge as EmulatedHostBridge).firstDevice ??= pdev;
    }
    const p2pmem = (pdev: PciDev) => {
      const fn = described.get(pdev.bdf);
      return fn === undefined ? null : describedP2pmem(fn, machine.memremapAlign);
    };
    this.p2pmem = p2pmem;
  }

  find(bdf: Bdf): PciDev | null {
    return this.#byBdf.get(normalizeBdf(bdf)) ?? null;
  }

  #rootBus(fn: MachineFunction): EmulatedHostBridge {
    const { domain, bus } = parseBdf(fn.bdf)!;
    return this.hostBridges.find((bridge) => bridge.domain === domain && bridge.bus === bus)!;
  }
}

/** The p2pmem that a kernel would register: the captured p2pmem, or else a CMB that meets the alignment rule. */
function describedP2pmem(fn: MachineFunction, align: number): P2pmem | null {
  if (fn.p2pmem !== null) {
    const { size, available, published } = fn.p2pmem;
    return size === 0 ? null : { size, available, published };
  }
  const cmb = fn.nvme?.cmb ?? null;
  if (cmb === null) return null;
  const bar = fn.bars.find((b) => b.index === cmb.bar);
  if (bar === undefined || misaligned({ size: cmb.size, start: bar.address }, align) !== null) return null;
  return { size: cmb.size, available: cmb.size, published: cmb.rds && cmb.wds };
}
