/**
 * From a machine description to a running machine:
 *
 *     Machine ─▶ hardware: fabric, host memory, IOMMU, NVMe controllers ─▶ kernel boots: finds functions, sets up
 *     their DMA, probes the NVMe driver ─▶ the Backend that the streams use
 */

import type { Clock, Hardware } from '../backend/hardware.js';
import type { PciDev } from '../backend/topology.js';
import { P2pdmaError } from '../base/errors.js';
import { trace, tracedAs, tracing } from '../base/trace.js';
import { iommuDmaOps, iommuSetupDmaOps, legacyIommuOps } from '../kernel/dma-iommu.js';
import type { Device } from '../kernel/dma-map-ops.js';
import { Mm } from '../kernel/memremap.js';
import { type NvmeParams, nvmeDefaultParams } from '../kernel/nvme-core.js';
import { NvmeDev } from '../kernel/nvme-pci.js';
import {
  pciHasP2pmem,
  pciP2pdmaAddResource,
  pciP2pmemAvailable,
  pciP2pmemPublish,
  pciP2pmemSize,
} from '../kernel/pci-p2pdma.js';
import { p2pdmaOf } from '../kernel/pci-p2pdma-pool.js';
import { disksOf, onEveryPath } from '../machine/disks.js';
import {
  type Machine,
  type MachineFunction,
  type MachineInput,
  type NamespaceDescription,
  parseMachine,
} from '../machine/machine.js';
import { EmulatorBackend } from './backend.js';
import { buildFabric, type Fabric } from './bus/fabric.js';
import { RealClock } from './clock.js';
import { NvmeController } from './nvme/controller.js';
import { ImageStore } from './nvme/image-store.js';
import { MemoryStore, type NamespaceStore } from './nvme/store.js';
import { emulated, exhaustPool, type RunningMachine, reserve } from './running-machine.js';

export interface EmulatorOptions {
  readonly machine: Machine | MachineInput;
  /** Default: the clock of this computer. */
  readonly clock?: Clock;
  /** Module parameters of the NVMe driver: timeouts, retries, queue depth, … */
  readonly params?: Partial<NvmeParams>;
  /** Makes the medium of a disk. Default: memory, or the file that the description names. */
  readonly medium?: (disk: string, namespace: NamespaceDescription) => NamespaceStore;
}

/**
 * Boot an emulated machine.
 * @throws P2pdmaError ERR_MACHINE_INVALID; ERR_BACKEND_UNAVAILABLE when a controller does not come up; ENOENT or a
 * similar errno for the file of a namespace
 */
export async function openEmulator(options: EmulatorOptions): Promise<EmulatorBackend> {
  const machine = parseMachine(options.machine);
  return await tracedAs(emulated(machine), () => boot(machine, options));
}

async function boot(machine: Machine, options: EmulatorOptions): Promise<EmulatorBackend> {
  const clock = options.clock ?? new RealClock();
  const fabric = buildFabric(machine);
  const controllers = await buildControllers(machine, fabric, clock, options.medium);
  const hardware: Hardware = {
    memory: fabric.memory,
    iommu: fabric.iommu,
    monitor: fabric,
    clock,
    nvme: controllers,
  };
  const { useCmbSqes } = machine;
  const params = {
    ...nvmeDefaultParams,
    ioTimeout: machine.ioTimeout * 1000,
    useCmbSqes,
    ...options.params,
  };
  try {
    return new EmulatorBackend(await bootKernel(machine, fabric, hardware, controllers, params));
  } catch (error) {
    await Promise.all(controllers.map((controller) => controller.close()));
    throw error;
  }
}

async function buildControllers(
  machine: Machine,
  fabric: Fabric,
  clock: Clock,
  medium: EmulatorOptions['medium'],
): Promise<NvmeController[]> {
  const controllers: NvmeController[] = [];
  const media = new Map<string, NamespaceStore>();
  const faults = machine.faults.flatMap((fault) => onEveryPath(machine, fault));
  const disks = disksOf(machine);
  for (const { bdf, nvme } of machine.functions) {
    if (nvme === null) continue;
    const stores = new Map<number, NamespaceStore>();
    for (const ns of nvme.namespaces) {
      // A namespace that several controllers share has only one store.
      const disk = disks.find((one) => one.namespace.nsid === ns.nsid && one.controllers.includes(nvme.name));
      const store = media.get(disk!.name) ?? medium?.(disk!.name, ns) ?? (await openStore(ns));
      media.set(disk!.name, store);
      stores.set(ns.nsid, store);
    }
    controllers.push(
      new NvmeController({
        pdev: fabric.topology.find(bdf)!,
        description: nvme,
        fabric,
        clock,
        stores,
        latency: machine.latency,
        faults,
      }),
    );
  }
  return controllers;
}

function openStore(ns: NamespaceDescription): Promise<NamespaceStore> | NamespaceStore {
  const { size, blockSize, metadata: metadataBytes, extendedLba, zoned, readOnly, file } = ns;
  const format = { blockSize, metadataBytes, readOnly };
  // How large it really is, nobody can know: the kernel shows none of its blocks.
  if (extendedLba !== null) {
    return new MemoryStore(blockSize, {
      ...format,
      metadataBytes: extendedLba.metadata ?? 8,
      extendedLba: true,
    });
  }
  if (file === null || ns.store === 'memory')
    return new MemoryStore(size, { ...format, zoneSize: zoned?.zoneSize ?? null });
  return ImageStore.open(file, { size, ...format });
}

async function bootKernel(
  machine: Machine,
  fabric: Fabric,
  hardware: Hardware,
  controllers: readonly NvmeController[],
  params: NvmeParams,
): Promise<RunningMachine> {
  const { topology } = fabric;
  const mm = new Mm(hardware.memory, { compatAlign: machine.memremapAlign });
  const p2pmem = (pdev: PciDev) =>
    p2pdmaOf(pdev) === null
      ? null
      : {
          size: pciP2pmemSize(pdev),
          available: pciP2pmemAvailable(pdev),
          published: pciHasP2pmem(pdev),
        };
  topology.p2pmem = p2pmem;
  const running: RunningMachine = {
    machine,
    clock: hardware.clock,
    fabric,
    hardware,
    mm,
    notRegistered: [],
    drives: controllers.map((controller) => ({
      hardware: controller,
      driver: new NvmeDev(
        controller.name,
        controller,
        newDevice(controller.pdev, machine, hardware, topology.functions),
        {
          hardware,
          mm,
          host: topology,
          params,
          memremapAlign: machine.memremapAlign,
          captured: capturedCmb(machine, controller.pdev),
        },
      ),
    })),
    reserved: [],
  };
  for (const { driver, hardware: controller } of running.drives) {
    try {
      await driver.probe();
    } catch (cause) {
      throw new P2pdmaError(
        'ERR_BACKEND_UNAVAILABLE',
        `${controller.name} (${controller.pdev.bdf}) does not come up: ${(cause as Error).message}`,
        { cause, hint: 'Check the faults and the IOMMU mode of the machine description.' },
      );
    }
  }
  addCapturedMemory(running);
  for (const fault of machine.faults) exhaustPool(running, fault);
  if (tracing()) trace('boot', 'up', { controllers: controllers.length });
  return running;
}

/** pci_dma_configure(): selects how DMA addresses are created for a function. */
function newDevice(pdev: PciDev, machine: Machine, hardware: Hardware, functions: readonly PciDev[]): Device {
  const device: Device = {
    name: pdev.bdf,
    pdev,
    dmaOps: null,
    dmaParms: { maxSegmentSize: 0xffffffff, segmentBoundaryMask: 0xffffffff },
    memory: hardware.memory,
    iommu: hardware.iommu,
    iommuDomain: null,
  };
  if (machine.iommu === 'translating') iommuSetupDmaOps(device, { ops: iommuDmaOps, functions });
  if (machine.iommu === 'unsupported') iommuSetupDmaOps(device, { ops: legacyIommuOps, functions });
  return device;
}

/** What the kernel of a captured machine made of a CMB that is described too. */
function capturedCmb({ functions }: Machine, pdev: PciDev): MachineFunction['p2pmem'] {
  return functions.find(({ bdf, nvme }) => bdf === pdev.bdf && (nvme?.cmb ?? null) !== null)?.p2pmem ?? null;
}

/** Adds the providers of a captured machine that are not NVMe controllers; another driver registered their memory. */
function addCapturedMemory(running: RunningMachine): void {
  const { machine, fabric, mm } = running;
  for (const { bdf, p2pmem, nvme } of machine.functions) {
    if (p2pmem === null || p2pmem.size === 0 || p2pmem.bar === null || (nvme?.cmb ?? null) !== null) continue;
    const pdev = fabric.topology.find(bdf)!;
    const memory = fabric.barMemory(pdev, p2pmem.bar);
    if (memory === null) {
      running.notRegistered.push(bdf);
      continue;
    }
    const io = { mapBar: (_bar: number, offset: number, length: number) => memory.mapBar(offset, length) };
    const error = pciP2pdmaAddResource(mm, fabric.topology, pdev, { bar: p2pmem.bar, size: p2pmem.size }, io);
    if (error !== 0) {
      running.notRegistered.push(bdf);
      continue;
    }
    pciP2pmemPublish(pdev, p2pmem.published);
    reserve(running, pdev, p2pmem.available);
  }
}
