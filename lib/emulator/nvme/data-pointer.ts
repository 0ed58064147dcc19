/**
 * Data pointers: from a command's PRPs or SGL to the memory they name.
 *
 *     PRP1 ─▶ [  off│▓▓▓▓]          first page, from an offset
 *     PRP2 ─▶ [▓▓▓▓▓▓▓▓▓▓]          second page, if that is all …
 *     PRP2 ─▶ list: e0 e1 … e510 ╮  … or a list of pages; where a list page is full and more
 *                     ╭──────────╯  are to come, its last entry points to the next list page
 *                     ▶ e0 e1 …
 *
 *     SGL:  data block, or (last) segment ─▶ descriptors, the last of which may be the next segment
 *
 * Neighbouring addresses are joined before the fabric is asked, so that a transfer costs one lookup per
 * contiguous run and not one per page.
 */

import { PAGE_SIZE } from '../../backend/hardware.js';
import {
  NVME_CMD_SGL_ALL,
  NVME_SC_CMB_INVALID_USE,
  NVME_SC_DATA_XFER_ERROR,
  NVME_SC_INVALID_FIELD,
  NVME_SC_PRP_INVALID_OFFSET,
  NVME_SC_SGL_INVALID_COUNT,
  NVME_SC_SGL_INVALID_DATA,
  NVME_SC_SGL_INVALID_LAST,
  NVME_SC_SGL_INVALID_TYPE,
  NVME_SC_SUCCESS,
  NVME_SGL_DESC_BYTES,
  NVME_SGL_FMT_DATA_DESC,
  NVME_SGL_FMT_LAST_SEG_DESC,
  NVME_SGL_FMT_SEG_DESC,
  NVME_SQE_FLAGS,
  NVME_SQE_MPTR,
  NVME_SQE_PRP1,
  NVME_SQE_PRP2,
  NVME_SQE_SGL,
} from '../../backend/nvme-spec.js';
import type { PciDev } from '../../backend/topology.js';
import { trace, tracing } from '../../base/trace.js';
import { type DmaWindow, PciFault } from '../bus/fabric.js';
import { type DmaFabric, empty } from './state.js';

const TWO_32 = 2 ** 32;
const PRP_BYTES = 8;
/** Descriptors fetched from a segment at once. */
const SGL_FETCH = PAGE_SIZE / NVME_SGL_DESC_BYTES;
/** A segment chain longer than this cannot be honest: each segment holds at least one descriptor. */
const SGL_MAX_SEGMENTS = 1024;

/** What the controller's memory buffer may be used for (CMBSZ), and whether it answers now (CMBMSC). */
export interface CmbRules {
  readonly lists: boolean;
  readonly rds: boolean;
  readonly wds: boolean;
  /** Is the bus address range inside the CMB as CMBMSC set it up? */
  decodes(addr: number, length: number): boolean;
}

export class DataPointerWalker {
  readonly #pdev: PciDev;
  readonly #fabric: DmaFabric;
  readonly #sgls: boolean;
  readonly #cmb: CmbRules;
  readonly #list = new Uint8Array(PAGE_SIZE);
  readonly #listView = new DataView(this.#list.buffer);
  readonly #listWindows: DmaWindow[] = [];
  #direction: 'read' | 'write' = 'read';
  #out: DmaWindow[] = [];
  #runAddr = 0;
  #runLength = 0;

  constructor(pdev: PciDev, fabric: DmaFabric, sgls: boolean, cmb: CmbRules) {
    this.#pdev = pdev;
    this.#fabric = fabric;
    this.#sgls = sgls;
    this.#cmb = cmb;
  }

  /**
   * Fill `out` with the memory of the command at `sqe[at]`, `length` bytes in all.
   * @param direction what the controller does to that memory: `'write'` for an NVMe Read
   * @param admin admin commands take no SGLs
   * @returns an NVMe status
   */
  walk(
    sqe: DataView,
    at: number,
    length: number,
    direction: 'read' | 'write',
    admin: boolean,
    out: DmaWindow[],
  ): number {
    this.#direction = direction;
    this.#out = out;
    this.#runLength = 0;
    empty(out);
    if (length === 0) return NVME_SC_SUCCESS;
    try {
      const psdt = sqe.getUint8(at + NVME_SQE_FLAGS) & NVME_CMD_SGL_ALL;
      let status: number;
      if (psdt === 0) status = this.#walkPrps(sqe, at, length);
      else if (psdt === NVME_CMD_SGL_ALL || admin || !this.#sgls) return NVME_SC_INVALID_FIELD;
      else status = this.#walkSgl(sqe, at, length);
      if (status !== NVME_SC_SUCCESS) return status;
      this.#flush();
      return this.#cmbStatus();
    } catch (error) {
      return this.#faulted(error);
    }
  }

  /** Where the metadata pointer of the command at `sqe[at]` leads: to a fault, if it was not set. @returns an NVMe status */
  metadata(sqe: DataView, at: number, length: number, direction: 'read' | 'write'): number {
    try {
      this.#fabric.resolve(this.#pdev, address(sqe, at + NVME_SQE_MPTR), length, direction, []);
    } catch (error) {
      return this.#faulted(error);
    }
    return NVME_SC_INVALID_FIELD;
  }

  /**
   * Copy `into.length` bytes from a bus address into the controller.
   * @returns the way they came
   * @throws PciFault
   */
  fetch(addr: number, into: Uint8Array): DmaWindow['path'] {
    const windows = this.#listWindows;
    empty(windows);
    this.#fabric.resolve(this.#pdev, addr, into.length, 'read', windows);
    let done = 0;
    for (let i = 0; i < windows.length; i++) {
      into.set(windows[i]!.bytes, done);
      done += windows[i]!.bytes.length;
    }
    const path = windows[0]!.path;
    if (path === 'internal') this.#mustDecode(addr, into.length, 'read');
    return path;
  }

  /** A fault on the way is a Data Transfer Error; anything else is a bug of ours. */
  #faulted(error: unknown): number {
    if (!(error instanceof PciFault)) throw error;
    if (tracing()) {
      trace('nvme-controller', 'dma-fault', { bdf: this.#pdev.bdf, message: error.message, fault: error });
    }
    return NVME_SC_DATA_XFER_ERROR;
  }

  #walkPrps(sqe: DataView, at: number, length: number): number {
    const prp1 = address(sqe, at + NVME_SQE_PRP1);
    const offset = prp1 % PAGE_SIZE;
    if (offset % 4 !== 0) return NVME_SC_PRP_INVALID_OFFSET;
    const first = Math.min(length, PAGE_SIZE - offset);
    this.#add(prp1, first);
    let left = length - first;
    if (left === 0) return NVME_SC_SUCCESS;

    let prp2 = address(sqe, at + NVME_SQE_PRP2);
    if (left <= PAGE_SIZE) {
      if (prp2 === 0 || prp2 % PAGE_SIZE !== 0) return NVME_SC_PRP_INVALID_OFFSET;
      this.#add(prp2, left);
      return NVME_SC_SUCCESS;
    }
    for (;;) {
      const listOffset = prp2 % PAGE_SIZE;
      if (prp2 === 0 || listOffset % PRP_BYTES !== 0) return NVME_SC_PRP_INVALID_OFFSET;
      const pages = Math.ceil(left / PAGE_SIZE);
      const slots = (PAGE_SIZE - listOffset) / PRP_BYTES;
      const chained = pages > slots;
      const fetched = chained ? slots : pages;
      const status = this.#fetchList(prp2, fetched * PRP_BYTES);
      if (status !== NVME_SC_SUCCESS) return status;
      const entries = chained ? slots - 1 : pages;
      for (let i = 0; i < entries; i++) {
        const page = address(this.#listView, i * PRP_BYTES);
        if (page === 0 || page % PAGE_SIZE !== 0) return NVME_SC_PRP_INVALID_OFFSET;
        const n = Math.min(left, PAGE_SIZE);
        this.#add(page, n);
        left -= n;
      }
      if (!chained) return NVME_SC_SUCCESS;
      prp2 = address(this.#listView, entries * PRP_BYTES);
    }
  }

  #walkSgl(sqe: DataView, at: number, length: number): number {
    const type = sqe.getUint8(at + NVME_SQE_SGL + 15);
    let addr = address(sqe, at + NVME_SQE_SGL);
    let bytes = sqe.getUint32(at + NVME_SQE_SGL + 8, true);
    if ((type & 0xf) !== 0) return NVME_SC_SGL_INVALID_TYPE;
    if (type >> 4 === NVME_SGL_FMT_DATA_DESC) {
      if (bytes < length) return NVME_SC_SGL_INVALID_DATA;
      this.#add(addr, length);
      return NVME_SC_SUCCESS;
    }
    if (type >> 4 !== NVME_SGL_FMT_SEG_DESC && type >> 4 !== NVME_SGL_FMT_LAST_SEG_DESC) {
      return NVME_SC_SGL_INVALID_TYPE;
    }

    let last = type >> 4 === NVME_SGL_FMT_LAST_SEG_DESC;
    let left = length;
    for (let segment = 0; segment < SGL_MAX_SEGMENTS; segment++) {
      if (bytes === 0 || bytes % NVME_SGL_DESC_BYTES !== 0) return NVME_SC_SGL_INVALID_LAST;
      let next: { addr: number; bytes: number; last: boolean } | null = null;
      const count = bytes / NVME_SGL_DESC_BYTES;
      for (let base = 0; base < count && (left > 0 || !last); base += SGL_FETCH) {
        const n = Math.min(SGL_FETCH, count - base);
        const status = this.#fetchList(addr + base * NVME_SGL_DESC_BYTES, n * NVME_SGL_DESC_BYTES);
        if (status !== NVME_SC_SUCCESS) return status;
        for (let i = 0; i < n; i++) {
          const d = i * NVME_SGL_DESC_BYTES;
          const kind = this.#listView.getUint8(d + 15);
          const descAddr = address(this.#listView, d);
          const descBytes = this.#listView.getUint32(d + 8, true);
          if ((kind & 0xf) !== 0) return NVME_SC_SGL_INVALID_TYPE;
          if (kind >> 4 === NVME_SGL_FMT_DATA_DESC) {
            const take = Math.min(descBytes, left);
            if (take > 0) this.#add(descAddr, take);
            left -= take;
          } else if (kind >> 4 === NVME_SGL_FMT_SEG_DESC || kind >> 4 === NVME_SGL_FMT_LAST_SEG_DESC) {
            // Only the last descriptor of a segment that is not the last one leads on.
            if (last || base + i !== count - 1) return NVME_SC_SGL_INVALID_LAST;
            next = { addr: descAddr, bytes: descBytes, last: kind >> 4 === NVME_SGL_FMT_LAST_SEG_DESC };
          } else {
            return NVME_SC_SGL_INVALID_TYPE;
          }
        }
      }
      if (left === 0) return NVME_SC_SUCCESS;
      if (last) return NVME_SC_SGL_INVALID_DATA;
      if (next === null) return NVME_SC_SGL_INVALID_LAST;
      addr = next.addr;
      bytes = next.bytes;
      last = next.last;
    }
    return NVME_SC_SGL_INVALID_COUNT;
  }

  #fetchList(addr: number, length: number): number {
    const into = length === PAGE_SIZE ? this.#list : this.#list.subarray(0, length);
    if (this.fetch(addr, into) === 'internal' && !this.#cmb.lists) return NVME_SC_CMB_INVALID_USE;
    return NVME_SC_SUCCESS;
  }

  #add(addr: number, length: number): void {
    if (this.#runLength > 0) {
      if (addr === this.#runAddr + this.#runLength) {
        this.#runLength += length;
        return;
      }
      this.#flush();
    }
    this.#runAddr = addr;
    this.#runLength = length;
  }

  #flush(): void {
    const before = this.#out.length;
    this.#fabric.resolve(this.#pdev, this.#runAddr, this.#runLength, this.#direction, this.#out);
    if (this.#out[before]!.path === 'internal') {
      this.#mustDecode(this.#runAddr, this.#runLength, this.#direction);
    }
    this.#runLength = 0;
  }

  /** An address in its own BAR that CMBMSC did not claim leaves the controller, and nobody outside takes it. */
  #mustDecode(addr: number, length: number, direction: 'read' | 'write'): void {
    if (this.#cmb.decodes(addr, length)) return;
    const why = 'in its own BAR, but CMBMSC does not put the CMB there';
    throw new PciFault('unsupported-request', this.#pdev, addr, direction, why);
  }

  /** All data in the own CMB, or none; and only in the direction CMBSZ offers. */
  #cmbStatus(): number {
    const out = this.#out;
    let internal = 0;
    for (let i = 0; i < out.length; i++) if (out[i]!.path === 'internal') internal++;
    if (internal === 0) return NVME_SC_SUCCESS;
    if (internal !== out.length) return NVME_SC_CMB_INVALID_USE;
    const offered = this.#direction === 'write' ? this.#cmb.rds : this.#cmb.wds;
    return offered ? NVME_SC_SUCCESS : NVME_SC_CMB_INVALID_USE;
  }
}

function address(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * TWO_32;
}
