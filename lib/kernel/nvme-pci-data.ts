/**
 * Mirrors the data half of drivers/nvme/host/pci.c (6.12; RFC patch 9): mapping a request's memory for DMA and
 * passing its addresses to the drive as PRPs or as an SGL.
 *
 *     PRP   data in 4 KiB pages; only the first may start, only the last may end, inside a page
 *
 *           ≤ 2 pages     PRP1 = start, PRP2 = second page
 *           more          PRP1 = start, PRP2 ─▶ list: page 2, page 3, … (the last place of a full list
 *                                               links to the next list)
 *
 *     SGL   ranges of any length: one descriptor in the command, or, for several, one that points to a list
 *
 * P2P memory and host memory go through the same single dmaMapSgtable() call and may be mixed.
 */
import { PAGE_SIZE } from '../backend/hardware.js';
import type { KernelRelease } from '../backend/kernel-release.js';
import * as nvme from '../backend/nvme-spec.js';
import { EINVAL, EIO, ENOMEM, EREMOTEIO } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import type { Bio } from './bio.js';
import {
  type CoherentBlock,
  type Device,
  DMA_ATTR_P2PDMA,
  DMA_MAPPING_ERROR,
  type DmaDirection,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMapPhysSingle,
  dmaMapSgtable,
  dmaUnmapPhysSingle,
  dmaUnmapSgtable,
} from './dma-mapping.js';
import { type NvmeCommand, nvmeIsWrite, putLe64, putSglDesc } from './nvme-command.js';
import { bugRule } from './releases/bugs.js';
import { holds } from './releases/rule.js';
import { MODEL, refusesPeersWithEinval } from './releases/table.js';
import {
  type Scatterlist,
  SgTable,
  sgAllocTable,
  sgDmaIsP2pdma,
  sgDmaP2pdmaLen,
  sgFreeTable,
  sgNext,
  sgSetPage,
} from './scatterlist.js';

/** NVME_CTRL_PAGE_SIZE: the page size in CC.MPS, independent of the CPU's page size. */
const NVME_CTRL_PAGE_SIZE = 4096;
const NVME_SMALL_POOL_SIZE = 256;

/** Offset in the controller's page. The mask keeps low bits only, which is exact for addresses of any size. */
function ctrlPageOffset(address: number): number {
  return address & (NVME_CTRL_PAGE_SIZE - 1);
}

/** A piece of a DMA pool. */
interface PoolPiece {
  readonly view: DataView;
  readonly dma: number;
}

/** mm/dmapool.c: small pieces of coherent memory that are reused. */
class DmaPool {
  readonly #device: Device;
  /** Of each piece, in bytes. */
  readonly size: number;
  #free: PoolPiece[] = [];
  #blocks: CoherentBlock[] = [];

  constructor(device: Device, size: number) {
    this.#device = device;
    this.size = size;
  }

  /** dma_pool_alloc() */
  alloc(): PoolPiece | null {
    const piece = this.#free.pop();
    if (piece !== undefined) return piece;
    const block = dmaAllocCoherent(this.#device, PAGE_SIZE);
    if (block === null) return null;
    this.#blocks.push(block);
    for (let at = PAGE_SIZE - this.size; at >= 0; at -= this.size) {
      const view = new DataView(block.cpu.buffer, block.cpu.byteOffset + at, this.size);
      this.#free.push({ view, dma: block.dmaHandle + at });
    }
    return this.#free.pop() ?? null;
  }

  /** dma_pool_free() */
  free(piece: PoolPiece): void {
    this.#free.push(piece);
  }

  /** dma_pool_destroy() */
  destroy(): void {
    for (const block of this.#blocks) dmaFreeCoherent(this.#device, block);
    this.#blocks = [];
    this.#free = [];
  }
}

/** Writes the PRPs of one request into the command and into linked PRP lists. */
class PrpWriter {
  #cmd!: NvmeCommand;
  #pages = 0;
  #pool!: DmaPool;
  #lists: PoolPiece[] = [];
  #written = 0;
  #list: PoolPiece | null = null;
  /** The size of a list, and the position of the next entry in it; all lists of a request are of the same size. */
  #size = 0;
  #at = 0;

  /** `pages`: how many addresses will be put; the lists are appended to `lists`, in order. */
  begin(cmd: NvmeCommand, pages: number, pool: DmaPool, lists: PoolPiece[]): void {
    cmd.prp2 = 0;
    this.#cmd = cmd;
    this.#pages = pages;
    this.#pool = pool;
    this.#size = pool.size;
    this.#lists = lists;
    this.#written = 0;
    this.#list = null;
  }

  /** Returns false if there is no memory for another list. */
  put(address: number): boolean {
    const page = this.#written++;
    if (page === 0) {
      this.#cmd.dptr = address;
      return true;
    }
    if (page === 1 && this.#pages === 2) {
      this.#cmd.prp2 = address;
      return true;
    }
    if ((this.#list === null || this.#at === this.#size) && !this.#grow()) return false;
    putLe64(this.#list!.view, this.#at, address);
    this.#at += 8;
    return true;
  }

  #grow(): boolean {
    const next = this.#pool.alloc();
    if (next === null) return false;
    this.#lists.push(next);
    const full = this.#list;
    this.#list = next;
    if (full === null) {
      this.#cmd.prp2 = next.dma;
      this.#at = 0;
      return true;
    }
    const at = this.#at;
    // The last entry moves to the new list, and a link to the new list replaces it.
    next.view.setUint32(0, full.view.getUint32(at - 8, true), true);
    next.view.setUint32(4, full.view.getUint32(at - 4, true), true);
    putLe64(full.view, at - 8, next.dma);
    this.#at = 8;
    return true;
  }
}

/** The data part of struct nvme_iod: how the memory of one request is currently mapped. It is reused with its request. */
export class NvmeIod {
  readonly sgt = new SgTable();
  dir: DmaDirection = 'DMA_FROM_DEVICE';
  mapped: 'nothing' | 'single' | 'table' = 'nothing';
  singleAddress = 0;
  singleLength = 0;
  /** PRP lists or SGL segments, in order. */
  readonly lists: PoolPiece[] = [];
  smallLists = false;
  /** Its dma_vecs will not be freed. */
  leaks = false;
}

/** The DMA pools and settings of one device. */
export class NvmeDataMapper {
  readonly #device: Device;
  readonly #pagePool: DmaPool;
  readonly #smallPool: DmaPool;
  readonly #prps = new PrpWriter();
  /** The drive supports SGLs. */
  sglSupported = false;
  /** nvme.sgl_threshold; 0: never. */
  sglThreshold: number;
  /** The errno for a pair that must not do peer-to-peer. */
  readonly #refusal: number;
  /** This kernel has the bug `dma-vec-leak` (see releases/bugs.ts). */
  readonly #leaksVecs: boolean;

  /** `release` defaults to the kernel that this file mirrors. */
  constructor(device: Device, sglThreshold: number, release: KernelRelease | null = MODEL) {
    this.#device = device;
    this.#refusal = refusesPeersWithEinval(release) === true ? -EINVAL : -EREMOTEIO;
    this.#leaksVecs = holds(bugRule('dma-vec-leak'), release) === 'yes';
    this.sglThreshold = sglThreshold;
    this.#pagePool = new DmaPool(device, NVME_CTRL_PAGE_SIZE);
    this.#smallPool = new DmaPool(device, NVME_SMALL_POOL_SIZE);
  }

  /**
   * nvme_map_data(): map the bio's memory and write its addresses into the command. Returns 0 or -errno; -EREMOTEIO
   * (-EINVAL since Linux 6.17) means P2P memory that this device must not access. After an error nothing is mapped.
   */
  map(iod: NvmeIod, bio: Bio, cmd: NvmeCommand, qid: number): number {
    iod.dir = nvmeIsWrite(cmd.opcode) ? 'DMA_TO_DEVICE' : 'DMA_FROM_DEVICE';
    const sgls = this.sglSupported && this.sglThreshold > 0 && qid !== 0;
    if (bio.vecs.length === 1) {
      const vec = bio.vecs[0]!;
      if (vec.pgmap === null) {
        const simplePrp = ctrlPageOffset(vec.phys) + vec.length <= NVME_CTRL_PAGE_SIZE * 2;
        if (simplePrp || sgls) return this.#mapSimple(iod, vec.phys, vec.length, cmd, simplePrp);
      }
    }
    return this.#mapTable(iod, bio, cmd, sgls);
  }

  /** nvme_setup_prp_simple() and nvme_setup_sgl_simple(): a single range of host memory needs no table and no list. */
  #mapSimple(iod: NvmeIod, phys: number, length: number, cmd: NvmeCommand, prp: boolean): number {
    const address = dmaMapPhysSingle(this.#device, phys, length, iod.dir);
    if (address === DMA_MAPPING_ERROR) return -ENOMEM;
    iod.mapped = 'single';
    iod.singleAddress = address;
    iod.singleLength = length;
    if (prp) {
      const first = NVME_CTRL_PAGE_SIZE - ctrlPageOffset(address);
      cmd.dptr = address;
      cmd.prp2 = length > first ? address + first : 0;
    } else {
      setInlineSgl(cmd, address, length);
    }
    if (tracing()) {
      const form = prp ? 'prp' : 'sgl';
      const dma = [{ address, length, bus: false }];
      trace('nvme-pci', 'map_data', {
        device: this.#device.name,
        bytes: length,
        entries: 1,
        form,
        lists: 0,
        dma,
      });
    }
    return 0;
  }

  #mapTable(iod: NvmeIod, bio: Bio, cmd: NvmeCommand, sgls: boolean): number {
    const nents = blkRqMapSg(bio, iod.sgt);
    if (nents < 0) return nents;
    if (tracing()) trace('scatterlist', 'map_bio', { entries: nents, segments: memorySegments(iod.sgt) });
    const error = dmaMapSgtable(this.#device, iod.sgt, iod.dir, DMA_ATTR_P2PDMA);
    if (error !== 0) {
      sgFreeTable(iod.sgt);
      return error === -EREMOTEIO ? this.#refusal : error;
    }
    iod.mapped = 'table';
    // nvme_pci_use_sgls(): for a few large ranges, an SGL is shorter than a PRP list.
    const useSgl = sgls && bio.size / nents >= this.sglThreshold;
    const built = useSgl ? this.#setupSgls(iod, cmd) : this.#setupPrps(iod, bio.size, cmd);
    // Peer memory by its bus address has no IOVA, and with an IOMMU the driver keeps the addresses for the unmapping.
    iod.leaks =
      built === 0 && this.#leaksVecs && !useSgl && this.#device.iommu !== null && sgDmaIsP2pdma(iod.sgt.sgl);
    if (built !== 0) this.unmap(iod);
    else if (tracing()) {
      trace('nvme-pci', 'map_data', {
        device: this.#device.name,
        bytes: bio.size,
        entries: iod.sgt.nents,
        form: useSgl ? 'sgl' : 'prp',
        lists: iod.lists.length,
        dma: dmaSegments(iod.sgt),
      });
    }
    return built;
  }

  /** nvme_pci_setup_prps() */
  #setupPrps(iod: NvmeIod, size: number, cmd: NvmeCommand): number {
    let sg: Scatterlist | null = iod.sgt.sgl;
    let address = sg.dmaAddress;
    let here = sgDmaP2pdmaLen(sg);
    let left = size;
    const pages = Math.ceil((ctrlPageOffset(address) + size) / NVME_CTRL_PAGE_SIZE);
    const pool = pages - 1 <= NVME_SMALL_POOL_SIZE / 8 ? this.#smallPool : this.#pagePool;
    iod.smallLists = pool === this.#smallPool;
    const prps = this.#prps;
    prps.begin(cmd, pages, pool, iod.lists);
    let step = NVME_CTRL_PAGE_SIZE - ctrlPageOffset(address);
    for (;;) {
      if (!prps.put(address)) return -ENOMEM;
      const moved = Math.min(step, left);
      if (moved > here) return -EIO;
      left -= moved;
      if (left === 0) return 0;
      address += moved;
      here -= moved;
      if (here === 0) {
        sg = sgNext(sg);
        if (sg === null) return -EIO;
        address = sg.dmaAddress;
        here = sgDmaP2pdmaLen(sg);
      }
      // There is a gap inside the data. The virt boundary should have prevented such a bio from getting here.
      if (ctrlPageOffset(address) !== 0) return -EIO;
      step = NVME_CTRL_PAGE_SIZE;
    }
  }

  /** nvme_pci_setup_sgls() */
  #setupSgls(iod: NvmeIod, cmd: NvmeCommand): number {
    const entries = iod.sgt.nents;
    let sg: Scatterlist | null = iod.sgt.sgl;
    if (entries === 1) {
      setInlineSgl(cmd, sg.dmaAddress, sgDmaP2pdmaLen(sg));
      return 0;
    }
    const bytes = entries * nvme.NVME_SGL_DESC_BYTES;
    if (bytes > NVME_CTRL_PAGE_SIZE) return -EIO;
    iod.smallLists = bytes <= NVME_SMALL_POOL_SIZE;
    const list = (iod.smallLists ? this.#smallPool : this.#pagePool).alloc();
    if (list === null) return -ENOMEM;
    iod.lists.push(list);
    for (let at = 0; at < bytes && sg !== null; at += nvme.NVME_SGL_DESC_BYTES) {
      putSglDesc(list.view, at, sg.dmaAddress, sgDmaP2pdmaLen(sg), nvme.NVME_SGL_FMT_DATA_DESC << 4);
      sg = sgNext(sg);
    }
    cmd.flags |= nvme.NVME_CMD_SGL_METABUF;
    cmd.dptr = list.dma;
    cmd.sglLength = bytes;
    cmd.sglType = nvme.NVME_SGL_FMT_LAST_SEG_DESC << 4;
    return 0;
  }

  /** nvme_unmap_data() */
  unmap(iod: NvmeIod): void {
    if (iod.mapped === 'single') {
      dmaUnmapPhysSingle(this.#device, iod.singleAddress, iod.singleLength, iod.dir);
    } else if (iod.mapped === 'table') {
      dmaUnmapSgtable(this.#device, iod.sgt, iod.dir, DMA_ATTR_P2PDMA);
      if (iod.leaks && tracing()) {
        trace('nvme-pci', 'kernel_leak', {
          device: this.#device.name,
          what: 'dma_vec',
          bug: 'CVE-2026-64020',
        });
      }
      iod.leaks = false;
      const pool = iod.smallLists ? this.#smallPool : this.#pagePool;
      for (let list = iod.lists.pop(); list !== undefined; list = iod.lists.pop()) pool.free(list);
      sgFreeTable(iod.sgt);
    }
    iod.mapped = 'nothing';
  }

  /** nvme_release_prp_pools() */
  destroy(): void {
    this.#pagePool.destroy();
    this.#smallPool.destroy();
  }
}

function setInlineSgl(cmd: NvmeCommand, address: number, length: number): void {
  cmd.flags |= nvme.NVME_CMD_SGL_METABUF;
  cmd.dptr = address;
  cmd.sglLength = length;
  cmd.sglType = nvme.NVME_SGL_FMT_DATA_DESC << 4;
}

/**
 * blk_rq_map_sg(): build a scatterlist of the request's memory; adjacent ranges of the same kind are merged into one
 * entry. Returns the number of entries, or -EINVAL.
 */
export function blkRqMapSg(bio: Bio, sgt: SgTable): number {
  let entries = 1;
  for (let i = 1; i < bio.vecs.length; i++) if (!isNeighbour(bio, i)) entries++;
  const error = sgAllocTable(sgt, entries);
  if (error !== 0) return error;
  let sg: Scatterlist | null = sgt.sgl;
  for (let i = 0; i < bio.vecs.length && sg !== null; ) {
    const first = bio.vecs[i]!;
    let length = first.length;
    for (i++; i < bio.vecs.length && isNeighbour(bio, i); i++) length += bio.vecs[i]!.length;
    const refused = sgSetPage(sg, first.phys, length, first.pgmap);
    if (refused !== 0) return refused;
    sg = sgNext(sg);
  }
  return entries;
}

function isNeighbour(bio: Bio, i: number): boolean {
  const before = bio.vecs[i - 1]!;
  const vec = bio.vecs[i]!;
  return before.phys + before.length === vec.phys && before.pgmap === vec.pgmap;
}

/** A trace shows at most this many entries of a table. */
const SHOWN = 4;

function memorySegments({ sgl, origNents }: SgTable): object[] {
  const shown: object[] = [];
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < Math.min(origNents, SHOWN) && sg !== null; i++, sg = sgNext(sg)) {
    shown.push({ phys: sg.phys, length: sg.length, provider: sg.pgmap?.provider?.bdf ?? null });
  }
  return shown;
}

function dmaSegments({ sgl, nents }: SgTable): object[] {
  const shown: object[] = [];
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < Math.min(nents, SHOWN) && sg !== null; i++, sg = sgNext(sg)) {
    shown.push({ address: sg.dmaAddress, length: sgDmaP2pdmaLen(sg), bus: sgDmaIsP2pdma(sg) });
  }
  return shown;
}
