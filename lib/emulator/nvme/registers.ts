/**
 * The controller's registers and their handshakes:
 *
 *     CC.EN 0→1 ───▶ CSTS.RDY 1     queues from AQA, ASQ, ACQ; invalid values: CSTS.CFS
 *     CC.EN 1→0 ───▶ CSTS.RDY 0     when nothing accesses memory any more
 *     CC.SHN    ───▶ CSTS.SHST      occurring, then complete, when everything is durable
 *     CMBMSC.CRE ──▶ CMBLOC, CMBSZ  show the CMB; with CMSE the controller decodes addresses from CBA on
 */

import { offsetInPage, PAGE_SIZE } from '../../backend/hardware.js';
import {
  cmbSizeUnit,
  NVME_CAP_HI_CMBS,
  NVME_CAP_HI_CSS_CSI,
  NVME_CAP_HI_CSS_NVM,
  NVME_CAP_LO_CQR,
  NVME_CAP_LO_TO_SHIFT,
  NVME_CC_AMS_SHIFT,
  NVME_CC_CSS_CSI,
  NVME_CC_CSS_SHIFT,
  NVME_CC_ENABLE,
  NVME_CC_IOCQES_SHIFT,
  NVME_CC_IOSQES_SHIFT,
  NVME_CC_MPS_SHIFT,
  NVME_CC_SHN_MASK,
  NVME_CMBLOC_CDPCILS,
  NVME_CMBLOC_CDPMLS,
  NVME_CMBLOC_OFST_SHIFT,
  NVME_CMBMSC_CMSE,
  NVME_CMBMSC_CRE,
  NVME_CMBSTS_CBAI,
  NVME_CMBSZ_CQS,
  NVME_CMBSZ_LISTS,
  NVME_CMBSZ_RDS,
  NVME_CMBSZ_SQS,
  NVME_CMBSZ_SZ_SHIFT,
  NVME_CMBSZ_SZU_SHIFT,
  NVME_CMBSZ_WDS,
  NVME_CSTS_CFS,
  NVME_CSTS_RDY,
  NVME_CSTS_SHST_CMPLT,
  NVME_CSTS_SHST_MASK,
  NVME_CSTS_SHST_OCCUR,
  NVME_REG_ACQ,
  NVME_REG_AQA,
  NVME_REG_ASQ,
  NVME_REG_CAP,
  NVME_REG_CC,
  NVME_REG_CMBLOC,
  NVME_REG_CMBMSC,
  NVME_REG_CMBSTS,
  NVME_REG_CMBSZ,
  NVME_REG_CSTS,
  NVME_REG_VS,
  NVME_VS_1_4,
} from '../../backend/nvme-spec.js';
import type { CmbDescription } from '../../machine/machine.js';

/** CAP.MQES + 1. */
export const MAX_QUEUE_ENTRIES = 4096;
/** CAP.TO: 10 s for a handshake, in units of 500 ms. */
const TIMEOUT = 20;
const ADMIN_ENTRIES_MIN = 2;
const CMB_FIELD_MAX = 2 ** 20;
const TWO_32 = 2 ** 32;

/** The controller behind the registers. */
export interface RegisterHost {
  enable(asq: number, asqEntries: number, acq: number, acqEntries: number): void;
  disable(done: () => void): void;
  shutdown(done: () => void): void;
  defer(fn: () => void): void;
}

export class NvmeRegisters {
  readonly #host: RegisterHost;
  readonly #cmb: CmbDescription | null;
  readonly #commandSets: number;
  readonly #cmbloc: number;
  readonly #cmbsz: number;
  #cc = 0;
  #csts = 0;
  #aqa = 0;
  #asqLo = 0;
  #asqHi = 0;
  #acqLo = 0;
  #acqHi = 0;
  #cmbmscLo = 0;
  #cmbmscHi = 0;
  #resetting = false;
  /** Counts enables and resets, so that an outdated handshake has no effect. */
  #generation = 0;
  /** True if CSTS.RDY is set, CSTS.CFS is clear and no shutdown was requested: commands are processed. */
  running = false;

  /** `zoned`: it has the zoned command set too. */
  constructor(host: RegisterHost, cmb: CmbDescription | null, { zoned }: { readonly zoned: boolean }) {
    this.#host = host;
    this.#commandSets = NVME_CAP_HI_CSS_NVM | (zoned ? NVME_CAP_HI_CSS_CSI : 0);
    this.#cmb = cmb;
    this.#cmbloc = 0;
    this.#cmbsz = 0;
    if (cmb === null) return;
    const szu = sizeUnit(cmb);
    const unit = cmbSizeUnit(szu);
    this.#cmbloc =
      ((cmb.bar | NVME_CMBLOC_CDPMLS | NVME_CMBLOC_CDPCILS) +
        (cmb.offset / unit) * 2 ** NVME_CMBLOC_OFST_SHIFT) >>>
      0;
    const uses =
      (cmb.sqs ? NVME_CMBSZ_SQS : 0) |
      (cmb.cqs ? NVME_CMBSZ_CQS : 0) |
      (cmb.lists ? NVME_CMBSZ_LISTS : 0) |
      (cmb.rds ? NVME_CMBSZ_RDS : 0) |
      (cmb.wds ? NVME_CMBSZ_WDS : 0);
    this.#cmbsz =
      ((uses | (szu << NVME_CMBSZ_SZU_SHIFT)) + (cmb.size / unit) * 2 ** NVME_CMBSZ_SZ_SHIFT) >>> 0;
  }

  read(offset: number): number {
    switch (offset) {
      case NVME_REG_CAP:
        return ((MAX_QUEUE_ENTRIES - 1) | NVME_CAP_LO_CQR | (TIMEOUT << NVME_CAP_LO_TO_SHIFT)) >>> 0;
      case NVME_REG_CAP + 4:
        return this.#commandSets | (this.#cmb === null ? 0 : NVME_CAP_HI_CMBS);
      case NVME_REG_VS:
        return NVME_VS_1_4;
      case NVME_REG_CC:
        return this.#cc;
      case NVME_REG_CSTS:
        return this.#csts;
      case NVME_REG_AQA:
        return this.#aqa;
      case NVME_REG_ASQ:
        return this.#asqLo;
      case NVME_REG_ASQ + 4:
        return this.#asqHi;
      case NVME_REG_ACQ:
        return this.#acqLo;
      case NVME_REG_ACQ + 4:
        return this.#acqHi;
      case NVME_REG_CMBLOC:
        return this.#shown ? this.#cmbloc : 0;
      case NVME_REG_CMBSZ:
        return this.#shown ? this.#cmbsz : 0;
      case NVME_REG_CMBMSC:
        return this.#cmbmscLo;
      case NVME_REG_CMBMSC + 4:
        return this.#cmbmscHi;
      case NVME_REG_CMBSTS:
        return this.#claims && this.#cba + this.#cmb!.size > Number.MAX_SAFE_INTEGER ? NVME_CMBSTS_CBAI : 0;
      default:
        return 0;
    }
  }

  write(offset: number, value: number): void {
    switch (offset) {
      case NVME_REG_CC:
        this.#writeCc(value >>> 0);
        return;
      case NVME_REG_AQA:
        this.#aqa = (value & 0x0fff0fff) >>> 0;
        return;
      case NVME_REG_ASQ:
        this.#asqLo = (value & ~(PAGE_SIZE - 1)) >>> 0;
        return;
      case NVME_REG_ASQ + 4:
        this.#asqHi = value >>> 0;
        return;
      case NVME_REG_ACQ:
        this.#acqLo = (value & ~(PAGE_SIZE - 1)) >>> 0;
        return;
      case NVME_REG_ACQ + 4:
        this.#acqHi = value >>> 0;
        return;
      case NVME_REG_CMBMSC:
        if (this.#cmb !== null) {
          this.#cmbmscLo = (value & (~(PAGE_SIZE - 1) | NVME_CMBMSC_CRE | NVME_CMBMSC_CMSE)) >>> 0;
        }
        return;
      case NVME_REG_CMBMSC + 4:
        if (this.#cmb !== null) this.#cmbmscHi = value >>> 0;
        return;
      default:
        // Everything else is read-only, or (interrupt masks with MSI-X) without effect.
        return;
    }
  }

  /** Does the controller decode this address range as its CMB? */
  cmbDecodes(addr: number, length: number): boolean {
    if (!this.#claims) return false;
    const cba = this.#cba;
    return addr >= cba && addr + length <= cba + this.#cmb!.size;
  }

  /** Sets CSTS.CFS: a failure that only a reset can clear. */
  fail(): void {
    this.#csts |= NVME_CSTS_CFS;
    this.running = false;
  }

  get #shown(): boolean {
    return (this.#cmbmscLo & NVME_CMBMSC_CRE) !== 0;
  }

  get #claims(): boolean {
    return this.#cmb !== null && (this.#cmbmscLo & NVME_CMBMSC_CMSE) !== 0;
  }

  get #cba(): number {
    return this.#cmbmscHi * TWO_32 + (this.#cmbmscLo - offsetInPage(this.#cmbmscLo));
  }

  /** CC.CSS: the NVM command set, or all that there are. The driver selects all where there are several. */
  get #selected(): number {
    return (this.#commandSets & NVME_CAP_HI_CSS_CSI) === 0 ? 0 : NVME_CC_CSS_CSI >>> NVME_CC_CSS_SHIFT;
  }

  #writeCc(value: number): void {
    const was = this.#cc;
    this.#cc = value;
    if ((was & NVME_CC_ENABLE) !== 0 && (value & NVME_CC_ENABLE) === 0) this.#reset();
    else if ((was & NVME_CC_ENABLE) === 0 && (value & NVME_CC_ENABLE) !== 0 && !this.#resetting)
      this.#enable();
    if ((was & NVME_CC_SHN_MASK) === 0 && (value & NVME_CC_SHN_MASK) !== 0) this.#shutDown();
  }

  #enable(): void {
    const generation = ++this.#generation;
    this.#host.defer(() => {
      if (generation !== this.#generation) return;
      const asq = this.#asqHi * TWO_32 + this.#asqLo;
      const acq = this.#acqHi * TWO_32 + this.#acqLo;
      const asqEntries = (this.#aqa & 0xfff) + 1;
      const acqEntries = ((this.#aqa >>> 16) & 0xfff) + 1;
      const sane =
        asq !== 0 &&
        acq !== 0 &&
        asqEntries >= ADMIN_ENTRIES_MIN &&
        acqEntries >= ADMIN_ENTRIES_MIN &&
        ((this.#cc >>> NVME_CC_CSS_SHIFT) & 0x7) === this.#selected &&
        ((this.#cc >>> NVME_CC_MPS_SHIFT) & 0xf) === 0 &&
        ((this.#cc >>> NVME_CC_AMS_SHIFT) & 0x7) === 0 &&
        ((this.#cc >>> NVME_CC_IOSQES_SHIFT) & 0xf) === 6 &&
        ((this.#cc >>> NVME_CC_IOCQES_SHIFT) & 0xf) === 4;
      if (!sane) {
        this.fail();
        return;
      }
      this.#host.enable(asq, asqEntries, acq, acqEntries);
      this.#csts |= NVME_CSTS_RDY;
      this.running = (this.#csts & NVME_CSTS_SHST_MASK) === 0;
    });
  }

  #reset(): void {
    const generation = ++this.#generation;
    this.running = false;
    this.#resetting = true;
    this.#host.disable(() => {
      if (generation !== this.#generation) return;
      this.#resetting = false;
      this.#csts = 0;
      if ((this.#cc & NVME_CC_ENABLE) !== 0) this.#enable();
    });
  }

  #shutDown(): void {
    const generation = this.#generation;
    this.running = false;
    this.#csts = (this.#csts & ~NVME_CSTS_SHST_MASK) | NVME_CSTS_SHST_OCCUR;
    this.#host.shutdown(() => {
      if (generation !== this.#generation) return;
      this.#csts = (this.#csts & ~NVME_CSTS_SHST_MASK) | NVME_CSTS_SHST_CMPLT;
    });
  }
}

/** The smallest CMBSZ.SZU for which size and offset are multiples of the unit and fit in their 20 bits. */
function sizeUnit(cmb: CmbDescription): number {
  for (let szu = 0; szu <= 6; szu++) {
    const unit = cmbSizeUnit(szu);
    if (cmb.size / unit < CMB_FIELD_MAX && cmb.offset / unit < CMB_FIELD_MAX) {
      if (cmb.size % unit === 0 && cmb.offset % unit === 0) return szu;
    }
  }
  throw new RangeError(`a CMB of ${cmb.size} bytes at offset ${cmb.offset} cannot be told in CMBSZ`);
}
