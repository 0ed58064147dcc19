/**
 * What a driver sees of a machine: registers, physical memory, an IOMMU, interrupts. The kernel modules are written against
 * these interfaces; the emulator implements them. Nothing above kernel/ uses them.
 *
 * Addresses are JS numbers (exact up to 2^53): `phys` is a CPU physical address, `bus` the address in a TLP. All callbacks run
 * on the event loop, never inside the call that caused them.
 */
import { PAGE_SIZE, type PathBytes } from './backend.js';
import type { PciDev } from './topology.js';

export { PAGE_SIZE };

/** offset_in_page(): the mask keeps low bits only, so it is exact for addresses of any size, and ten times faster than `%`. */
export function offsetInPage(address: number): number {
  return address & (PAGE_SIZE - 1);
}

/**
 * memremap_compat_align(): by default, hot-plugged memory starts and ends at multiples of this value. It is one subsection of the
 * memory map, the kernel's value on x86, arm64 and riscv.
 */
export const MEMREMAP_COMPAT_ALIGN = 2 * 1024 * 1024;

/** What of device memory is not a multiple of the granule of memory hot-plug; null: it can be hot-plugged. */
export function misaligned(
  { size, start }: { readonly size: number; readonly start: number },
  align: number = MEMREMAP_COMPAT_ALIGN,
): 'size' | 'start' | null {
  return size % align !== 0 ? 'size' : start % align !== 0 ? 'start' : null;
}

/**
 * A BAR's registers, little-endian. 64-bit registers are accessed as two halves, as NVMe allows. Reads of a removed device
 * return all ones.
 */
export interface Mmio {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
}

/** Host DRAM. */
export interface HostMemory {
  /** Zeroed, page-aligned pages; `bytes` views them. */
  allocPages(bytes: number): { readonly phys: number; readonly bytes: Uint8Array };
  freePages(phys: number): void;
  /**
   * Give a view of ordinary JS memory a physical address for as long as it is pinned, so that a device can reach it. Pins of
   * one ArrayBuffer nest, and offsets inside it are kept (byteOffset & 4095 is the page offset). Access after the last unpin
   * faults, as it should.
   */
  pin(view: Uint8Array): number;
  unpin(phys: number): void;
  /** Numbers of pages that are pinned or allocated now. */
  readonly pages: { readonly pinned: number; readonly allocated: number };
}

/** The translation hardware. One domain per device. */
export interface IommuHardware {
  /** iova, phys and length are multiples of the page size. */
  map(dev: PciDev, iova: number, phys: number, length: number, write: boolean): void;
  unmap(dev: PciDev, iova: number, length: number): void;
}

/** A protocol analyser on the bus: shows which route the data of one NVMe command took. */
export interface BusMonitor {
  /** Add to `into` the bytes that command `cid` of this function's queue `qid` moved, and forget them. */
  take(dev: PciDev, qid: number, cid: number, into: PathBytes): void;
}

/** One NVMe controller as its driver sees it. */
export interface NvmeHardware {
  readonly pdev: PciDev;
  /** BAR 0. */
  readonly regs: Mmio;
  /** False after the device was removed (surprise removal or sysfs). */
  readonly present: boolean;
  /** MSI-X: `handler` runs once per wake-up, however many completions there are. */
  onInterrupt(vector: number, handler: () => void): void;
  /** Called when the device disappears. */
  onRemove(handler: () => void): void;
  /**
   * The CMB's memory, for its mmap: a new ArrayBuffer of `length` bytes that *is* the device memory at `offset` of BAR `bar`
   * until it is unmapped (then it is detached). Contents are preserved in both directions.
   */
  mapBar(bar: number, offset: number, length: number): { readonly buffer: ArrayBuffer; unmap(): void };
}

/** The source of time, injected so that tests can run years in a millisecond. Times are in ms. */
export interface Clock {
  now(): number;
  /** Run `fn` in a later turn, after all that runs in this one. The event loop need not turn in between. */
  defer(fn: () => void): void;
  setTimer(fn: () => void, ms: number): { cancel(): void };
}

/** Everything a booting kernel finds. */
export interface Hardware {
  readonly memory: HostMemory;
  readonly iommu: IommuHardware | null;
  readonly monitor: BusMonitor;
  readonly clock: Clock;
  readonly nvme: readonly NvmeHardware[];
}
