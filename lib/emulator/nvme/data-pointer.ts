/**
 * Data pointers: resolves the PRPs or the SGL of a command to the memory they describe.
 *
 *     PRP1 ─▶ [  off│▓▓▓▓]          first page, from an offset
 *     PRP2 ─▶ [▓▓▓▓▓▓▓▓▓▓]          second page, if that is all …
 *     PRP2 ─▶ list: e0 e1 … e510 ╮  … or a list of pages; where a list page is full and more
 *                     ╭──────────╯  are to come, its last entry points to the next list page
 *                     ▶ e0 e1 …
 *
 *     SGL:  data block, or (last) segment ─▶ descriptors, the last of which may be the next segment
 *
 * Adjacent addresses are merged before the lookup in the fabric, so that a transfer costs one lookup per contiguous
 * range instead of one per page.
 */

import { offsetInPage, PAGE_SIZE } from '../../backend/hardware.js';
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
/** The number of descriptors that are fetched from a segment at once. */
const SGL_FETCH = PAGE_SIZE / NVME_SGL_DESC_BYTES;
/** Descriptor types with sub-type 0, the only sub-type that is supported here. */
const SGL_DATA = NVME_SGL_FMT_DATA_DESC << 4;
const SGL_SEGMENT = NVME_SGL_FMT_SEG_DESC << 4;
const SGL_LAST_SEGMENT = NVME_SGL_FMT_LAST_SEG_DESC << 4;
/** Not a valid descriptor type: no byte has this value. */
const SGL_NONE = -1;
/** A longer chain of segments cannot be valid: each segment holds at least one descriptor. */
const SGL_MAX_SEGMENTS = 1024;

/** What the controller memory buffer may be used for (CMBSZ), and which addresses it decodes now (CMBMSC). */
export interface CmbRules {
  readonly lists: boolean;
  readonly rds: boolean;
  readonly wds: boolean;
  /** Is the bus address range inside the CMB as configured by CMBMSC? */
  decodes(addr: number, length: number): boolean;
}

/** The objects are reused, so that a long SGL creates no garbage. */
class SglDescriptor {
  addr = 0;
  bytes = 0;
  /** Type and sub-type. */
  type = SGL_NONE;

  read(view: DataView, at: number): void {
    this.addr = address(view, at);
    this.bytes = view.getUint32(at + 8, true);
    this.type = view.getUint8(at + 15);
  }

  copy(from: SglDescriptor): void {
    this.addr = from.addr;
    this.bytes = from.bytes;
    this.type = from.type;
  }
}

export class DataPointerWalker {
  readonly #pdev: PciDev;
  readonly #fabric: DmaFabric;
  readonly #sgls: boolean;
  readonly #cmb: CmbRules;
  readonly #list = new Uint8Array(PAGE_SIZE);
  readonly #listView = new DataView(this.#list.buffer);
  readonly #listWindows: DmaWindow[] = [];
  /** The current descriptor, its segment, and the next segment. */
  readonly #descriptor = new SglDescriptor();
  readonly #segment = new SglDescriptor();
  readonly #next = new SglDescriptor();
  #direction: 'read' | 'write' = 'read';
  #out: DmaWindow[] = [];
  /** The bytes of the command that no entry has covered yet. */
  #left = 0;
  #runAddr = 0;
  #runLength = 0;

  constructor(pdev: PciDev, fabric: DmaFabric, sgls: boolean, cmb: CmbRules) {
    this.#pdev = pdev;
    this.#fabric = fabric;
    this.#sgls = sgls;
    this.#cmb = cmb;
  }

  /**
   * Fills `out` with the memory of the command at `sqe[at]`, `length` bytes in total.
   * @param direction what the controller does to that memory: `'write'` for an NVMe Read
   * @returns an NVMe status
   */
  walk(sqe: DataView, at: number, length: number, direction: 'read' | 'write', out: DmaWindow[]): number {
    const psdt = sqe.getUint8(at + NVME_SQE_FLAGS) & NVME_CMD_SGL_ALL;
    this.#direction = direction;
    this.#out = out;
    this.#runLength = 0;
    empty(out);
    if (length === 0) return NVME_SC_SUCCESS;
    if (psdt === NVME_CMD_SGL_ALL || (psdt !== 0 && !this.#sgls)) return NVME_SC_INVALID_FIELD;
    try {
      const status = psdt === 0 ? this.#walkPrps(sqe, at, length) : this.#walkSgl(sqe, at, length);
      if (status !== NVME_SC_SUCCESS) return status;
      this.#flush();
      return this.#cmbStatus();
    } catch (error) {
      return this.#faulted(error);
    }
  }

  /** walk() for an admin command. Admin commands do not support SGLs. */
  walkAdmin(
    sqe: DataView,
    at: number,
    length: number,
    direction: 'read' | 'write',
    out: DmaWindow[],
  ): number {
    empty(out);
    if (length === 0) return NVME_SC_SUCCESS;
    if ((sqe.getUint8(at + NVME_SQE_FLAGS) & NVME_CMD_SGL_ALL) !== 0) return NVME_SC_INVALID_FIELD;
    return this.walk(sqe, at, length, direction, out);
  }

  /**
   * Resolves the metadata pointer of the command at `sqe[at]`, which faults if the pointer was not set.
   * @returns an NVMe status
   */
  metadata(sqe: DataView, at: number, length: number, direction: 'read' | 'write'): number {
    try {
      this.#fabric.resolve(this.#pdev, address(sqe, at + NVME_SQE_MPTR), length, direction, []);
    } catch (error) {
      return this.#faulted(error);
    }
    return NVME_SC_INVALID_FIELD;
  }

  /**
   * Copies `length` bytes from a bus address to the beginning of `into`, which is in the controller.
   * @returns the path that they took
   * @throws PciFault
   */
  fetch(addr: number, length: number, into: Uint8Array): DmaWindow['path'] {
    const windows = this.#listWindows;
    empty(windows);
    this.#fabric.resolve(this.#pdev, addr, length, 'read', windows);
    let done = 0;
    for (let i = 0; i < windows.length; i++) {
      into.set(windows[i]!.bytes, done);
      done += windows[i]!.bytes.length;
    }
    const path = windows[0]!.path;
    if (path === 'internal') this.#mustDecode(addr, length, 'read');
    return path;
  }

  /** A fault during the transfer is a Data Transfer Error; any other error is a bug in the emulator. */
  #faulted(error: unknown): number {
    if (!(error instanceof PciFault)) throw error;
    if (tracing()) {
      trace('nvme-controller', 'dma-fault', { bdf: this.#pdev.bdf, message: error.message, fault: error });
    }
    return NVME_SC_DATA_XFER_ERROR;
  }

  #walkPrps(sqe: DataView, at: number, length: number): number {
    const prp1 = address(sqe, at + NVME_SQE_PRP1);
    const offset = offsetInPage(prp1);
    if (offset % 4 !== 0) return NVME_SC_PRP_INVALID_OFFSET;
    const first = Math.min(length, PAGE_SIZE - offset);
    this.#add(prp1, first);
    this.#left = length - first;
    if (this.#left === 0) return NVME_SC_SUCCESS;

    const prp2 = address(sqe, at + NVME_SQE_PRP2);
    if (this.#left > PAGE_SIZE) return this.#walkPrpLists(prp2);
    if (prp2 === 0 || offsetInPage(prp2) !== 0) return NVME_SC_PRP_INVALID_OFFSET;
    this.#add(prp2, this.#left);
    return NVME_SC_SUCCESS;
  }

  #walkPrpLists(first: number): number {
    for (let list = first; ; ) {
      const listOffset = offsetInPage(list);
      if (list === 0 || listOffset % PRP_BYTES !== 0) return NVME_SC_PRP_INVALID_OFFSET;
      const pages = Math.ceil(this.#left / PAGE_SIZE);
      const slots = (PAGE_SIZE - listOffset) / PRP_BYTES;
      const chained = pages > slots;
      const fetched = this.#fetchList(list, (chained ? slots : pages) * PRP_BYTES);
      if (fetched !== NVME_SC_SUCCESS) return fetched;
      const entries = chained ? slots - 1 : pages;
      const added = this.#addPages(entries);
      if (added !== NVME_SC_SUCCESS || !chained) return added;
      list = address(this.#listView, entries * PRP_BYTES);
    }
  }

  /** Adds the pages of the first `entries` entries of the fetched list page. */
  #addPages(entries: number): number {
    let left = this.#left;
    for (let i = 0; i < entries; i++) {
      const page = address(this.#listView, i * PRP_BYTES);
      if (page === 0 || offsetInPage(page) !== 0) return NVME_SC_PRP_INVALID_OFFSET;
      const n = Math.min(left, PAGE_SIZE);
      this.#add(page, n);
      left -= n;
    }
    this.#left = left;
    return NVME_SC_SUCCESS;
  }

  #walkSgl(sqe: DataView, at: number, length: number): number {
    const inline = this.#descriptor;
    inline.read(sqe, at + NVME_SQE_SGL);
    switch (inline.type) {
      case SGL_DATA:
        if (inline.bytes < length) return NVME_SC_SGL_INVALID_DATA;
        this.#add(inline.addr, length);
        return NVME_SC_SUCCESS;
      case SGL_SEGMENT:
      case SGL_LAST_SEGMENT:
        this.#left = length;
        this.#segment.copy(inline);
        return this.#walkSegments();
      default:
        return NVME_SC_SGL_INVALID_TYPE;
    }
  }

  #walkSegments(): number {
    const segment = this.#segment;
    for (let i = 0; i < SGL_MAX_SEGMENTS; i++) {
      this.#next.type = SGL_NONE;
      const status = this.#walkSegment(segment);
      if (status !== NVME_SC_SUCCESS || this.#left === 0) return status;
      if (segment.type === SGL_LAST_SEGMENT) return NVME_SC_SGL_INVALID_DATA;
      if (this.#next.type === SGL_NONE) return NVME_SC_SGL_INVALID_LAST;
      segment.copy(this.#next);
    }
    return NVME_SC_SGL_INVALID_COUNT;
  }

  /** Processes the descriptors of one segment. `#next` is then the next segment, if the last descriptor points to one. */
  #walkSegment({ addr, bytes, type }: SglDescriptor): number {
    if (bytes === 0 || bytes % NVME_SGL_DESC_BYTES !== 0) return NVME_SC_SGL_INVALID_LAST;
    const last = type === SGL_LAST_SEGMENT;
    const count = bytes / NVME_SGL_DESC_BYTES;
    for (let base = 0; base < count && (this.#left > 0 || !last); base += SGL_FETCH) {
      const n = Math.min(SGL_FETCH, count - base);
      const fetched = this.#fetchList(addr + base * NVME_SGL_DESC_BYTES, n * NVME_SGL_DESC_BYTES);
      if (fetched !== NVME_SC_SUCCESS) return fetched;
      for (let i = 0; i < n; i++) {
        // Only the last descriptor may point to the next segment, and not in the last segment.
        const status = this.#takeDescriptor(i * NVME_SGL_DESC_BYTES, !last && base + i === count - 1);
        if (status !== NVME_SC_SUCCESS) return status;
      }
    }
    return NVME_SC_SUCCESS;
  }

  #takeDescriptor(at: number, mayLeadOn: boolean): number {
    const descriptor = this.#descriptor;
    descriptor.read(this.#listView, at);
    switch (descriptor.type) {
      case SGL_DATA: {
        const take = Math.min(descriptor.bytes, this.#left);
        if (take > 0) this.#add(descriptor.addr, take);
        this.#left -= take;
        return NVME_SC_SUCCESS;
      }
      case SGL_SEGMENT:
      case SGL_LAST_SEGMENT:
        if (!mayLeadOn) return NVME_SC_SGL_INVALID_LAST;
        this.#next.copy(descriptor);
        return NVME_SC_SUCCESS;
      default:
        return NVME_SC_SGL_INVALID_TYPE;
    }
  }

  #fetchList(addr: number, length: number): number {
    if (this.fetch(addr, length, this.#list) === 'internal' && !this.#cmb.lists)
      return NVME_SC_CMB_INVALID_USE;
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

  /**
   * A TLP to an address in the controller's own BAR that CMBMSC does not claim leaves the controller, and no other
   * function claims it.
   */
  #mustDecode(addr: number, length: number, direction: 'read' | 'write'): void {
    if (this.#cmb.decodes(addr, length)) return;
    const why = 'in its own BAR, but CMBMSC does not put the CMB there';
    throw new PciFault('unsupported-request', this.#pdev, addr, direction, why);
  }

  /** Either all data is in the controller's own CMB or none, and only in a direction that CMBSZ supports. */
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
