/**
 * Mirrors the memory half of drivers/pci/p2pdma.c (6.12; mmap as in RFC patch 14): a function provides BAR memory,
 * others allocate from it or mmap it.
 *
 *     pciP2pdmaAddResource ─▶ pagemap (memremap) ─▶ pool ─┬─ pciAllocP2pmem      a driver's own use
 *                                                         └─ pciMmapP2pmem       an ArrayBuffer; its VMA and
 *                                                                                copies share one allocation
 *
 * A mapping's memory returns to the pool once: when the last VMA copy is closed *and* no I/O has it pinned.
 */
import type { Mapping } from '../backend/backend.js';
import type { NvmeHardware } from '../backend/hardware.js';
import type { PciBar, PciDev } from '../backend/topology.js';
import { EINVAL, ENODEV, ENOMEM } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { GenPool, pageAlign } from './genalloc.js';
import {
  type DevPagemap,
  getDevPagemap,
  type Mm,
  memremapPages,
  memunmapPages,
  putDevPagemap,
  registerVma,
  unregisterVma,
  type Vma,
} from './memremap.js';
import type { PciP2pdmaMapType, RulingHost } from './pci-p2pdma-distance.js';
import { type Scatterlist, sgInitTable, sgNext, sgSetPage } from './scatterlist.js';

/** Maps a BAR's memory as an ArrayBuffer; NvmeHardware implements it. */
export type BarMapper = Pick<NvmeHardware, 'mapBar'>;

/** One pci_p2pdma_add_resource(). */
interface P2pdmaResource {
  readonly pgmap: DevPagemap;
  readonly bar: PciBar;
  readonly io: BarMapper;
}

/** struct pci_p2pdma: the state of a provider. */
export interface PciP2pdma {
  readonly mm: Mm;
  /** The processor and kernel that determine the verdicts for its pairs. */
  readonly host: RulingHost;
  readonly pool: GenPool;
  readonly resources: P2pdmaResource[];
  /** Mappings whose memory has not returned to the pool yet. */
  readonly mappings: Set<SharedMapping>;
  /** Verdicts by client id (the kernel's xarray map_types). */
  readonly mapTypes: Map<number, PciP2pdmaMapType>;
  published: boolean;
}

/** Null: it was a provider and has been removed. */
const providers = new WeakMap<PciDev, PciP2pdma | null>();

/** The provider's state, or null if the function is not (or no longer) a provider. */
export function p2pdmaOf(pdev: PciDev): PciP2pdma | null {
  return providers.get(pdev) ?? null;
}

/** A part of a BAR. */
export interface BarRange {
  readonly bar: number;
  /** Default: 0. */
  readonly offset?: number;
  /** Default, and 0: the rest of the BAR. */
  readonly size?: number;
}

/**
 * pci_p2pdma_add_resource(): register a part of a BAR as peer memory. -EINVAL: not a memory BAR, outside the BAR, or
 * not aligned as memremap requires; -ENOMEM: already registered.
 */
export function pciP2pdmaAddResource(
  mm: Mm,
  host: RulingHost,
  pdev: PciDev,
  { bar: barIndex, offset = 0, size = 0 }: BarRange,
  io: BarMapper,
): number {
  const bar = pdev.bars[barIndex] ?? null;
  if (bar === null || bar.kind !== 'memory') return -EINVAL;
  if (!(offset >= 0) || !(size >= 0) || offset >= bar.size) return -EINVAL;
  const length = size === 0 ? bar.size - offset : size;
  if (offset + length > bar.size) return -EINVAL;

  const pgmap: DevPagemap = {
    type: 'MEMORY_DEVICE_PCI_P2PDMA',
    start: bar.cpuAddress + offset,
    length,
    provider: pdev,
    busOffset: bar.busAddress - bar.cpuAddress,
    refs: 0,
    dead: false,
  };
  const error = memremapPages(mm, pgmap);
  if (error < 0) return error;

  let p2pdma = p2pdmaOf(pdev);
  if (p2pdma === null) {
    p2pdma = {
      mm,
      host,
      pool: new GenPool(),
      resources: [],
      mappings: new Set(),
      mapTypes: new Map(),
      published: false,
    };
    providers.set(pdev, p2pdma);
  }
  p2pdma.resources.push({ pgmap, bar, io });
  p2pdma.pool.add(pgmap.start, length);
  if (tracing()) trace('pci-p2pdma', 'add_resource', { provider: pdev.bdf, bar: barIndex, offset, length });
  return 0;
}

/** pci_p2pmem_publish(): sets whether orchestrators may choose this memory. Does nothing for a function without peer memory. */
export function pciP2pmemPublish(pdev: PciDev, publish: boolean): void {
  const p2pdma = p2pdmaOf(pdev);
  if (p2pdma !== null) p2pdma.published = publish;
}

/**
 * pci_has_p2pmem(): has it published peer memory? For a function that no driver here has set up (of a real kernel, or
 * captured), the topology tells it.
 */
export function pciHasP2pmem(pdev: PciDev): boolean {
  const p2pdma = providers.get(pdev);
  if (p2pdma === undefined) return pdev.p2pmem?.published ?? false;
  return p2pdma?.published ?? false;
}

/** sysfs `p2pmem/size`, in bytes. */
export function pciP2pmemSize(pdev: PciDev): number {
  return p2pdmaOf(pdev)?.pool.size ?? 0;
}

/** sysfs `p2pmem/available`, in bytes. */
export function pciP2pmemAvailable(pdev: PciDev): number {
  return p2pdmaOf(pdev)?.pool.available ?? 0;
}

/**
 * pci_p2pdma_release(): remove the provider. Its cached verdicts are dropped and its user mappings are torn down; a
 * mapping that an I/O still has pinned is freed when that I/O ends.
 */
export function pciP2pdmaRelease(pdev: PciDev): void {
  const p2pdma = p2pdmaOf(pdev);
  if (p2pdma === null) return;
  providers.set(pdev, null);
  p2pdma.published = false;
  p2pdma.mapTypes.clear();
  for (const mapping of [...p2pdma.mappings]) mapping.tearDown();
  for (const { pgmap } of p2pdma.resources) memunmapPages(p2pdma.mm, pgmap);
  if (tracing()) trace('pci-p2pdma', 'release', { provider: pdev.bdf, stillPinned: p2pdma.mappings.size });
}

/** Peer memory that a driver holds. */
export interface P2pmem {
  readonly phys: number;
  /** Offset in the BAR, as NvmeHardware.mapBar() expects it. */
  readonly offset: number;
  readonly bar: number;
  /** In bytes, a multiple of the page size. */
  readonly length: number;
  readonly pgmap: DevPagemap;
}

function resourceOf(p2pdma: PciP2pdma, phys: number): P2pdmaResource | null {
  for (const resource of p2pdma.resources) {
    const { start, length } = resource.pgmap;
    if (phys >= start && phys < start + length) return resource;
  }
  return null;
}

function allocFrom(p2pdma: PciP2pdma, size: number): P2pmem | null {
  const phys = p2pdma.pool.alloc(size);
  if (phys === null) return null;
  const { pgmap, bar } = resourceOf(p2pdma, phys) as P2pdmaResource;
  if (getDevPagemap(p2pdma.mm, phys, null, true) !== pgmap) {
    p2pdma.pool.free(phys, size);
    return null;
  }
  return { phys, offset: phys - bar.cpuAddress, bar: bar.index, length: pageAlign(size), pgmap };
}

function freeTo(p2pdma: PciP2pdma, block: P2pmem): void {
  p2pdma.pool.free(block.phys, block.length);
  putDevPagemap(block.pgmap);
}

/** The allocations of drivers, each with the pool that it returns to, even if the provider has been removed. */
const allocations = new WeakMap<P2pmem, PciP2pdma>();

/** pci_alloc_p2pmem(): pages of the provider's memory, or null (not enough contiguous memory, or no provider). */
export function pciAllocP2pmem(pdev: PciDev, size: number): P2pmem | null {
  const p2pdma = p2pdmaOf(pdev);
  if (p2pdma === null) return null;
  const block = allocFrom(p2pdma, size);
  if (block !== null) allocations.set(block, p2pdma);
  return block;
}

/** pci_free_p2pmem(). A second call for the same block is a bug and throws. */
export function pciFreeP2pmem(pdev: PciDev, block: P2pmem): void {
  const p2pdma = allocations.get(block);
  if (p2pdma === undefined) throw new Error(`p2pmem of ${pdev.bdf}: not allocated, or freed twice`);
  allocations.delete(block);
  freeTo(p2pdma, block);
}

/**
 * pci_p2pmem_virt_to_bus(): the bus address of a byte of the provider's memory; 0 if the byte does not belong to the
 * provider.
 */
export function pciP2pmemVirtToBus(pdev: PciDev, phys: number): number {
  const p2pdma = p2pdmaOf(pdev);
  const resource = p2pdma === null ? null : resourceOf(p2pdma, phys);
  return resource === null ? 0 : phys + resource.pgmap.busOffset;
}

const sglBlocks = new WeakMap<Scatterlist, P2pmem>();

/** pci_p2pmem_alloc_sgl(): a list (of one entry) over peer memory; null if there is not enough contiguous memory. */
export function pciP2pmemAllocSgl(
  pdev: PciDev,
  length: number,
): { readonly sgl: Scatterlist; readonly nents: number } | null {
  const block = pciAllocP2pmem(pdev, length);
  if (block === null) return null;
  const sgl = sgInitTable(1);
  if (sgSetPage(sgl, block.phys, length, block.pgmap) < 0) {
    pciFreeP2pmem(pdev, block);
    return null;
  }
  sglBlocks.set(sgl, block);
  return { sgl, nents: 1 };
}

/** pci_p2pmem_free_sgl() */
export function pciP2pmemFreeSgl(pdev: PciDev, sgl: Scatterlist): void {
  for (let sg: Scatterlist | null = sgl; sg !== null; sg = sgNext(sg)) {
    const block = sglBlocks.get(sg);
    if (block === undefined) throw new Error(`p2pmem list of ${pdev.bdf}: not allocated, or freed twice`);
    sglBlocks.delete(sg);
    pciFreeP2pmem(pdev, block);
  }
}

/** One allocation that VMA copies share. */
class SharedMapping {
  readonly provider: PciDev;
  readonly vma: Vma;
  readonly #p2pdma: PciP2pdma;
  readonly #block: P2pmem;
  readonly #unmapBar: () => void;
  #users = 0;
  #gone = false;

  constructor(provider: PciDev, p2pdma: PciP2pdma, block: P2pmem) {
    const { io } = resourceOf(p2pdma, block.phys) as P2pdmaResource;
    const mapped = io.mapBar(block.bar, block.offset, block.length);
    this.provider = provider;
    this.#p2pdma = p2pdma;
    this.#block = block;
    const unmap = () => mapped.unmap();
    this.#unmapBar = unmap;
    this.vma = { buffer: mapped.buffer, phys: block.phys, length: block.length, pgmap: block.pgmap };
    registerVma(this.vma);
    p2pdma.mappings.add(this);
  }

  /** vm_operations_struct.open */
  open(): P2pmemMapping {
    this.#users++;
    return new P2pmemMapping(this);
  }

  /** vm_operations_struct.close */
  close(): void {
    if (--this.#users === 0) this.tearDown();
  }

  /** Prevent new I/O from now on; the memory itself is freed with the last pin. */
  tearDown(): void {
    if (this.#gone) return;
    this.#gone = true;
    unregisterVma(this.vma.buffer);
    const free = () => this.#free();
    if ((this.vma.pins ?? 0) > 0) this.vma.onUnpinned = free;
    else free();
  }

  #free(): void {
    this.#unmapBar();
    this.#p2pdma.mappings.delete(this);
    freeTo(this.#p2pdma, this.#block);
    if (tracing()) {
      trace('pci-p2pdma', 'free_p2pmem', { provider: this.provider.bdf, bytes: this.#block.length });
    }
  }
}

/** A mmapped piece of a provider's memory: one of possibly several VMAs over it. */
export class P2pmemMapping implements Mapping {
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  readonly provider: PciDev;
  readonly #shared: SharedMapping;
  #open = true;

  constructor(shared: SharedMapping) {
    this.#shared = shared;
    this.buffer = shared.vma.buffer;
    this.bytes = shared.vma.length;
    this.provider = shared.provider;
  }

  /** What fork() does to a VMA: a copy that shares the allocation and is closed on its own. */
  copy(): P2pmemMapping {
    if (!this.#open) throw new Error('this mapping is closed');
    return this.#shared.open();
  }

  /** The memory returns to the pool with the last copy; if an I/O still has it pinned, as soon as that I/O ends. */
  munmap(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#shared.close();
  }
}

/** mmap() of `p2pmem/allocate`. */
export interface MmapRequest {
  /** In bytes; rounded up to whole pages. */
  readonly length: number;
  readonly offset: number;
  /** MAP_SHARED. */
  readonly shared: boolean;
}

/**
 * pci_mmap_p2pmem() (6.x: p2pmem_alloc_mmap()): allocate and map. -EINVAL: a private mapping, an offset, or no
 * length; -ENODEV: no provider; -ENOMEM: not enough contiguous memory. As in the kernel, it does not check whether
 * the memory is published.
 */
export function pciMmapP2pmem(mm: Mm, pdev: PciDev, request: MmapRequest): P2pmemMapping | number {
  const result = mmapP2pmem(mm, pdev, request);
  if (tracing()) {
    const failed = typeof result === 'number';
    trace('pci-p2pdma', 'mmap_p2pmem', {
      provider: pdev.bdf,
      bytes: failed ? request.length : result.bytes,
      result: failed ? result : 0,
    });
  }
  return result;
}

function mmapP2pmem(mm: Mm, pdev: PciDev, request: MmapRequest): P2pmemMapping | number {
  if (!request.shared || request.offset !== 0 || !(request.length > 0)) return -EINVAL;
  const p2pdma = p2pdmaOf(pdev);
  if (p2pdma === null || p2pdma.mm !== mm) return -ENODEV;
  const block = allocFrom(p2pdma, request.length);
  if (block === null) return -ENOMEM;
  return new SharedMapping(pdev, p2pdma, block).open();
}
