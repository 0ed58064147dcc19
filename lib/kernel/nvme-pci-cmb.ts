/**
 * Mirrors nvme_map_cmb() of drivers/nvme/host/pci.c (6.12) and the character device's mmap of RFC patch 15: the Controller
 * Memory Buffer, which is made available to all as peer memory.
 *
 *     CMBLOC, CMBSZ ──▶ BAR, offset, size ──▶ pciP2pdmaAddResource ──▶ publish, if it takes reads and writes
 *                                                      │
 *                                                      ├──▶ this drive's own submission queues (CMBSZ.SQS)
 *                                                      └──▶ whoever mmaps it
 */

import type { UnusableCmb } from '../backend/backend.js';
import { type Hardware, misaligned, type NvmeHardware } from '../backend/hardware.js';
import * as nvme from '../backend/nvme-spec.js';
import type { PciBar } from '../backend/topology.js';
import { ENODEV, errnoName } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { hexNumber } from '../base/words.js';
import type { Mm } from './memremap.js';
import type { NvmeParams } from './nvme-core.js';
import type { SqMemory } from './nvme-pci-queue.js';
import {
  type P2pmemMapping,
  pciAllocP2pmem,
  pciFreeP2pmem,
  pciMmapP2pmem,
  pciP2pdmaAddResource,
  pciP2pdmaRelease,
  pciP2pmemAvailable,
  pciP2pmemPublish,
  pciP2pmemSize,
  pciP2pmemVirtToBus,
  type RulingHost,
} from './pci-p2pdma.js';
import { CMB_ALIGN_SKIP, NOT_PUBLISHED, NOT_REGISTERED } from './releases/memory.js';
import { holds } from './releases/rule.js';
import { MODEL } from './releases/table.js';

/** The environment of the device, as the driver sees it. */
export interface NvmeEnvironment {
  readonly hardware: Hardware;
  readonly mm: Mm;
  /** Processor and kernel; if it names no kernel, the kernel that these files mirror. */
  readonly host: RulingHost;
  readonly params: NvmeParams;
  /** memremap_compat_align(): the granule of memory hot-plug. */
  readonly memremapAlign: number;
  /** What another kernel made of this CMB, which is captured: here the same is made of it. Null: the driver decides. */
  readonly captured?: { readonly size: number; readonly published: boolean } | null;
}

/** Only a CMB that supports the data of both reads and writes is published. */
function whyNotBothWays(cmbsz: number): UnusableCmb | null {
  const reads = (cmbsz & nvme.NVME_CMBSZ_RDS) !== 0;
  const writes = (cmbsz & nvme.NVME_CMBSZ_WDS) !== 0;
  if (reads && writes) return null;
  const what = reads ? 'no data of writes' : writes ? 'no data of reads' : 'no data';
  return { kind: 'no-data', text: `the controller allows ${what} in it` };
}

/** The CMB of one controller. */
export class NvmeCmb {
  readonly #hw: NvmeHardware;
  readonly #env: NvmeEnvironment;
  #useSqes = false;
  /** Size in bytes of the controller's CMB; 0: no CMB. */
  size = 0;
  /** True if the CMB is registered as peer memory. */
  mapped = false;
  /** Null, or why orchestrators may not choose it. */
  unusable: UnusableCmb | null = null;

  constructor(hw: NvmeHardware, env: NvmeEnvironment) {
    this.#hw = hw;
    this.#env = env;
  }

  /** nvme_map_cmb(). As in the kernel, a CMB that does not fit is skipped without a message; `unusable` gives the reason. */
  map(): void {
    if (this.mapped) {
      this.#enable();
      return;
    }
    const { regs, pdev } = this.#hw;
    const cmbs = (regs.read32(nvme.NVME_REG_CAP + 4) & nvme.NVME_CAP_HI_CMBS) !== 0;
    if (cmbs) regs.write32(nvme.NVME_REG_CMBMSC, nvme.NVME_CMBMSC_CRE);
    const cmbsz = regs.read32(nvme.NVME_REG_CMBSZ);
    if (cmbsz === 0) return;
    const place = this.#placeOf(cmbsz, regs.read32(nvme.NVME_REG_CMBLOC));
    if ('kind' in place) {
      this.unusable = place;
      return;
    }
    const why = this.#whyMisaligned(place.bar);
    const skipped = this.#whySkipped(why);
    if (skipped !== null) {
      this.unusable = skipped;
      return;
    }
    const { bar, offset } = place;
    const enable = () => this.#writeCmbmsc(bar.busAddress + offset);
    if (cmbs) this.#enable = enable;
    this.#enable();
    const { mm, host, params } = this.#env;
    const range = { bar: bar.index, offset, size: this.size };
    const error = pciP2pdmaAddResource(mm, host, pdev, range, this.#hw);
    if (error !== 0) {
      if (cmbs) this.#writeCmbmsc(0);
      const failed = `it could not be registered as peer memory (${errnoName(error)})`;
      this.unusable =
        why === null
          ? { kind: 'not-registered', text: failed }
          : { kind: 'misaligned', text: `${failed}: ${why}` };
      if (tracing()) trace('nvme-pci', 'cmb_failed', { controller: pdev.bdf, errno: errnoName(error) });
      return;
    }
    this.mapped = true;
    this.#useSqes = params.useCmbSqes && (cmbsz & nvme.NVME_CMBSZ_SQS) !== 0;
    this.unusable = this.#whyNotPublished(cmbsz);
    if (this.unusable === null) pciP2pmemPublish(pdev, true);
  }

  /** Why it is not even tried to register the CMB; null: it is. */
  #whySkipped(misalignment: string | null): UnusableCmb | null {
    const { host, captured } = this.#env;
    if (misalignment !== null && holds(CMB_ALIGN_SKIP, host.kernel ?? MODEL) !== 'no') {
      return { kind: 'misaligned', text: misalignment };
    }
    return captured?.size === 0 ? NOT_REGISTERED : null;
  }

  #whyNotPublished(cmbsz: number): UnusableCmb | null {
    const { captured } = this.#env;
    if (captured?.published) return null;
    const why = whyNotBothWays(cmbsz);
    return captured?.published === false ? (why ?? NOT_PUBLISHED) : why;
  }

  /** The location of the CMB according to the registers; also sets `size`. */
  #placeOf(cmbsz: number, cmbloc: number): { bar: PciBar; offset: number } | UnusableCmb {
    const unit = nvme.cmbSizeUnit((cmbsz >>> nvme.NVME_CMBSZ_SZU_SHIFT) & nvme.NVME_CMBSZ_SZU_MASK);
    const offset = unit * (cmbloc >>> nvme.NVME_CMBLOC_OFST_SHIFT);
    const bir = cmbloc & nvme.NVME_CMBLOC_BIR_MASK;
    const bar = this.#hw.pdev.bars[bir] ?? null;
    this.size = unit * (cmbsz >>> nvme.NVME_CMBSZ_SZ_SHIFT);
    if (bar === null || offset > bar.size) {
      return { kind: 'outside-bar', text: `its offset ${hexNumber(offset)} lies outside BAR ${bir}` };
    }
    // Behind some bridges the BAR is smaller than the controller's CMB.
    this.size = Math.min(this.size, bar.size - offset, this.#env.captured?.size || Number.POSITIVE_INFINITY);
    return { bar, offset };
  }

  /** How the CMB is misaligned for memory hot-plug; null: it is aligned. Some kernels skip it then, others try anyway. */
  #whyMisaligned({ cpuAddress }: PciBar): string | null {
    const align = this.#env.memremapAlign;
    const wrong = misaligned({ size: this.size, start: cpuAddress }, align);
    if (wrong === null) return null;
    const what = wrong === 'size' ? `size ${this.size}` : `start ${hexNumber(cpuAddress)}`;
    return `its ${what} is not a multiple of ${align} bytes, the granule of memory hot-plug`;
  }

  /** Write the bus address of the CMB to the controller; this must be repeated after a reset. */
  #enable: () => void = () => {};

  #writeCmbmsc(address: number): void {
    const { regs } = this.#hw;
    const flags = address === 0 ? 0 : nvme.NVME_CMBMSC_CRE | nvme.NVME_CMBMSC_CMSE;
    // Write the high half first, because the low half enables the range.
    regs.write32(nvme.NVME_REG_CMBMSC + 4, Math.floor(address / 2 ** 32));
    regs.write32(nvme.NVME_REG_CMBMSC, ((address >>> 0) | flags) >>> 0);
  }

  /** The CMB part of nvme_alloc_sq_cmds(): null if submission queues are not placed in the CMB, or if it is full. */
  allocSq(bytes: number): SqMemory | null {
    if (!this.mapped || !this.#useSqes) return null;
    const { pdev } = this.#hw;
    const block = pciAllocP2pmem(pdev, bytes);
    if (block === null) return null;
    const mapped = this.#hw.mapBar(block.bar, block.offset, block.length);
    return {
      view: new DataView(mapped.buffer, 0, bytes),
      bus: pciP2pmemVirtToBus(pdev, block.phys),
      inCmb: true,
      free() {
        mapped.unmap();
        pciFreeP2pmem(pdev, block);
      },
    };
  }

  /**
   * RFC patch 15: mmap of the controller's character device. Allocates from the CMB; the caller cannot choose the
   * position, so the offset is ignored. (A released kernel returns ENODEV and has `p2pmem/allocate` instead.)
   */
  mmap(length: number, shared: boolean): P2pmemMapping | number {
    if (!this.mapped) return -ENODEV;
    return pciMmapP2pmem(this.#env.mm, this.#hw.pdev, { length, offset: 0, shared });
  }

  /** nvme_release_cmb(). @returns the number of bytes that are still in use */
  release(): number {
    if (!this.mapped) return 0;
    this.mapped = false;
    const { pdev } = this.#hw;
    const held = pciP2pmemSize(pdev) - pciP2pmemAvailable(pdev);
    pciP2pdmaRelease(pdev);
    return held;
  }
}
