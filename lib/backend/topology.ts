/**
 * PCI as the P2PDMA rules see it: functions, the bridges above them, host bridges, the CPU.
 *
 * Both backends give the same shape: the emulator from a machine description, the native
 * backend from sysfs. A topology is plain data plus links; it never does I/O.
 *
 *        HostBridge  (domain 0000, root bus 00)
 *            │  firstDevice = 00:00.0, which the kernel's host bridge allow-list names
 *        00:01.0  root-port            ← upstream: null (it sits on a root bus)
 *            │
 *        01:00.0  upstream-port
 *          ┌─┴────────┐
 *      02:00.0     02:01.0  downstream-port
 *          │           │
 *      03:00.0     04:00.0  endpoint   ← upstream: 02:00.0 / 02:01.0
 */

import type { KernelRelease } from './kernel-release.js';

/** A PCI address, `dddd:bb:dd.f`, lower-case hex: `'0000:03:00.0'`. @inline */
export type Bdf = string;

/** PCIe device/port type (PCIe Base Spec, PCI Express Capabilities register), as far as it is relevant here. @inline */
export type PciePortType =
  | 'endpoint'
  | 'root-complex-endpoint'
  | 'root-port'
  | 'upstream-port'
  | 'downstream-port'
  | 'pcie-to-pci-bridge'
  | 'conventional'
  | 'unknown';

/**
 * The ACS Control register of a function (PCIe extended capability 0x000d).
 * `'none'`: it has no ACS capability. `'unknown'`: its extended configuration space could not be read (an unprivileged reader
 * of sysfs sees 64 bytes), which is not the same as clear.
 * @inline
 */
export type AcsControl = number | 'none' | 'unknown';

/** ACS P2P Request Redirect (PCI_ACS_RR). */
export const PCI_ACS_RR = 0x04;
/** ACS P2P Completion Redirect (PCI_ACS_CR). */
export const PCI_ACS_CR = 0x08;
/** ACS P2P Egress Control (PCI_ACS_EC). */
export const PCI_ACS_EC = 0x20;

/** One memory or I/O BAR. Addresses and sizes in bytes. @inline */
export interface PciBar {
  /** BAR number, 0 to 5. */
  readonly index: number;
  /** Which address space it is in. */
  readonly kind: 'memory' | 'io';
  /** The address the CPU uses (what `resource` in sysfs shows). */
  readonly cpuAddress: number;
  /** The address used in TLPs on the bus. It differs from the CPU's address if the host bridge translates. */
  readonly busAddress: number;
  /** In bytes. */
  readonly size: number;
  /** Reads have no side effects (PCI Local Bus, Base Address Registers). */
  readonly prefetchable: boolean;
}

/** The root of one PCI hierarchy. */
export interface HostBridge {
  /** PCI domain (segment). */
  readonly domain: number;
  /** The number of its root bus. */
  readonly bus: number;
  /** The first device on the root bus, by which the kernel recognises the host bridge. */
  readonly firstDevice: PciDev | null;
}

/** One PCI function (the kernel's struct pci_dev). */
export interface PciDev {
  /** Its address. */
  readonly bdf: Bdf;
  /** `domain << 16 | bus << 8 | devfn`: the key of the kernel's map-type cache. */
  readonly id: number;
  /** `device << 3 | function`. */
  readonly devfn: number;
  /** PCI vendor ID; 0xffff: not known. */
  readonly vendor: number;
  /** PCI device ID; 0xffff: not known. */
  readonly device: number;
  /** 24-bit class code: 0x010802 is an NVMe controller, 0x060400 a PCI bridge, 0: not known. */
  readonly class: number;
  /** Its PCIe device/port type, as far as it is relevant for a request that passes through it. */
  readonly portType: PciePortType;
  /** The bridge directly above (pci_upstream_bridge()), or null on a root bus. */
  readonly upstream: PciDev | null;
  /** `'unknown'`: a bridge between this function and `upstream` (or its root bus) was not seen, so they prove nothing. */
  readonly wayUp?: 'unknown';
  /** The host bridge above it. */
  readonly hostBridge: HostBridge;
  /**
   * Its Access Control Services, which decide what it sends upstream instead of directly to a peer: the ACS Control register
   * (PCIe extended capability 0x000d). `'none'`: it has no such capability. `'unknown'`: it could not be read (an unprivileged
   * reader of sysfs sees 64 bytes of configuration space), which is not the same as clear.
   */
  readonly acs: AcsControl;
  /**
   * Indexed by BAR number; null: there is no such BAR. `cpuAddress` is the address that the CPU uses (`resource` in sysfs).
   * `busAddress` is the address used on the bus, which differs if the host bridge translates. `size` is in bytes.
   * `prefetchable`: reads have no side effects.
   */
  readonly bars: readonly (PciBar | null)[];
  /** The NUMA node it is attached to, or null. */
  readonly numaNode: number | null;
  /** Its IOMMU group. Functions of one group are not isolated from each other; null: no IOMMU, or not known. */
  readonly iommuGroup: number | null;
  /**
   * What this topology knows about the function's peer memory; null: it has none.
   * `published` means that orchestrators may choose it (a CMB that allows both reads and writes of data).
   */
  readonly p2pmem: { readonly size: number; readonly available: number; readonly published: boolean } | null;
}

/**
 * What the kernel's host bridge allow-list checks about the processor (drivers/pci/p2pdma.c cpu_supports_p2pdma()).
 * @inline
 */
export interface Cpu {
  /** CPUID vendor: `'AuthenticAMD'`, `'GenuineIntel'`, …; null if unknown. */
  readonly vendor: string | null;
  /** Display family: 0x17 is the first Zen; null if unknown. */
  readonly family: number | null;
  /** False: it could not be read (a captured tree without /proc/cpuinfo), so null fields prove nothing. */
  readonly known?: false;
}

/**
 * How DMA addresses are generated: `none` (dma-direct), `translating` (dma-iommu), `unsupported` (other dma_map_ops). @inline
 */
export type IommuMode = 'none' | 'translating' | 'unsupported' | 'unknown';

/** All PCI functions of a machine, and the facts that decide which of them can reach each other. */
export interface Topology {
  /** The processor, as far as the kernel's host bridge allow-list checks it (cpu_supports_p2pdma()). */
  readonly cpu: Cpu;
  /**
   * The kernel whose rules apply; null: not known. `text` is its release as uname gives it (`'6.8.0-52-generic'`), `version`
   * its numbers. `series`: it has no patch level and is taken as the newest of its series. `candidate` is 3 for an `-rc3`.
   * `vendor` is whose kernel it is, according to its suffix; null: kernel.org’s, or that of an unknown vendor.
   */
  readonly kernel: KernelRelease | null;
  /**
   * Whether there is an IOMMU between drives and memory: none (dma-direct), a translating one (dma-iommu), or DMA operations of
   * another kind, which do not map peer memory.
   */
  readonly iommu: IommuMode;
  /** `'unknown'`: a `p2pmem` or CMB that is null may still exist, because the files that were read do not show them. */
  readonly peerMemory?: 'unknown';
  /** One for each root bus. */
  readonly hostBridges: readonly HostBridge[];
  /** In BDF order. */
  readonly functions: readonly PciDev[];
  /** A function by BDF; a missing domain means 0000 (`'03:00.0'`). */
  find(bdf: Bdf): PciDev | null;
  /** Attributes that could not be read: the file name and the reason. Empty in the emulator. */
  readonly unknowns: readonly { readonly file: string; readonly why: string }[];
}
