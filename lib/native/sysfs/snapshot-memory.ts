/**
 * Peer memory in a snapshot: a CMB according to its registers, and beside it what the kernel made of it, which may be less
 * than the driver of the emulator would make of it.
 *
 *     registers, no p2pmem/       ──▶ cmb, p2pmem of size 0: the kernel registered nothing
 *     registers and p2pmem/       ──▶ cmb, p2pmem: the size that was registered, and whether it was published
 *     no registers, but p2pmem/   ──▶ p2pmem in the BAR that it fits: the parser makes the CMB of a drive of it
 *
 * What a description cannot contain is in `lost`, and what it assumes is in `assumed`.
 */

import { MEMREMAP_COMPAT_ALIGN } from '../../backend/hardware.js';
import type { PciBar, PciDev, Topology } from '../../backend/topology.js';
import type { SysfsController } from './machine.js';

/** BAR 0 holds the registers, and the doorbells of the 16 queue pairs that a description has by default. */
export const MIN_REGISTERS = 0x2000;
const PAGE_SIZE = 4096;

interface DescribedCmb {
  readonly size: number;
  readonly bar: number;
  readonly offset: number;
}

interface DescribedP2pmem extends NonNullable<PciDev['p2pmem']> {
  readonly bar?: number;
}

/** A function, the drive that it is (if any), and those of its BARs that the description has. */
interface Owner {
  readonly dev: PciDev;
  readonly drive: SysfsController | null;
  readonly bars: readonly PciBar[];
}

export class SnapshotMemory {
  readonly lost: string[] = [];
  readonly assumed: string[] = [];
  /** The granule of memory hot-plug: not larger than what the kernel registered shows. */
  granule = MEMREMAP_COMPAT_ALIGN;
  readonly #known: boolean;

  constructor({ peerMemory, functions }: Topology) {
    // What was read cannot show peer memory: none is no evidence.
    this.#known = peerMemory !== 'unknown';
    if (this.#known) return;
    const sizes = functions.some(({ bars }) => bars.some((bar) => bar !== null)) ? '' : ' and sizes of BARs';
    this.lost.push(`peer memory${sizes} (not shown by what was read)`);
  }

  describe(owner: Owner): { readonly cmb: DescribedCmb | null; readonly p2pmem: DescribedP2pmem | null } {
    const cmb = owner.drive === null ? null : this.#cmb(owner.drive, owner.bars);
    const { p2pmem } = owner.dev;
    if (p2pmem === null) return { cmb, p2pmem: this.#unregistered(owner, cmb) };
    if (p2pmem.size === 0) {
      this.lost.push(`the p2pmem of ${nameOf(owner)} (its size could not be read)`);
      return { cmb, p2pmem: null };
    }
    if (cmb !== null) return { cmb, p2pmem: this.#inCmb(owner, p2pmem, cmb) };
    // Where the registers are wrong, the CMB is lost, and with it its p2pmem.
    const lost = (owner.drive?.cmbRegisters ?? null) !== null;
    return { cmb, p2pmem: lost ? null : this.#inSomeBar(owner, p2pmem) };
  }

  /** Null if the registers are unknown or wrong. */
  #cmb({ name, cmbRegisters }: SysfsController, bars: readonly PciBar[]): DescribedCmb | null {
    if (cmbRegisters === null) return null;
    const { bar: index, offset, size: registered, ...flags } = cmbRegisters;
    const bar = bars.find((candidate) => candidate.index === index && candidate.kind === 'memory');
    const fits = bar !== undefined && (index > 0 || offset >= MIN_REGISTERS);
    const size = fits ? Math.min(registered, bar.size - offset) : 0;
    if (size >= PAGE_SIZE) return { size, bar: index, offset, ...flags };
    this.lost.push(
      `the CMB of ${name} (${registered} bytes at ${offset} in BAR ${index}, where there is no room)`,
    );
    return null;
  }

  #unregistered(owner: Owner, cmb: DescribedCmb | null): DescribedP2pmem | null {
    const { drive } = owner;
    if (drive !== null && drive.cmb !== null && drive.cmbRegisters === null) {
      this.lost.push(`what may be a CMB of ${drive.name} (${drive.cmb.size} bytes)`);
    }
    return cmb !== null && this.#known ? { size: 0, available: 0, published: false } : null;
  }

  #inCmb(
    owner: Owner,
    p2pmem: NonNullable<PciDev['p2pmem']>,
    { size: room, bar, offset }: DescribedCmb,
  ): DescribedP2pmem {
    const { available, published } = p2pmem;
    const size = wholePages(Math.min(p2pmem.size, room));
    if (size < p2pmem.size) {
      const beyond = `${p2pmem.size - size} of the ${p2pmem.size} bytes of the p2pmem of ${nameOf(owner)}`;
      this.lost.push(`${beyond} (${p2pmem.size > room ? 'beyond its CMB' : 'not whole pages'})`);
    }
    // The driver's own queues are in it as well, and how many there were is not known.
    if (available < size / 2) {
      this.lost.push(`what held ${size - available} of the ${size} bytes of the p2pmem of ${nameOf(owner)}`);
    }
    const start = owner.bars.find(({ index }) => index === bar)!.cpuAddress;
    this.#shows([size, start, offset]);
    return { size, available: Math.min(size, available), published };
  }

  #inSomeBar(owner: Owner, p2pmem: NonNullable<PciDev['p2pmem']>): DescribedP2pmem | null {
    const { size, available, published } = p2pmem;
    const roomy = owner.bars.filter(
      (bar) => bar.kind === 'memory' && bar.size >= size && (owner.drive === null || bar.index > 0),
    );
    const exact = roomy.filter((bar) => bar.size === size);
    const bar = exact[0] ?? roomy.find(({ index }) => index > 0) ?? roomy[0];
    if (bar === undefined || wholePages(size) !== size) {
      const why = bar === undefined ? 'for which no BAR has room' : 'not whole pages';
      this.lost.push(`the p2pmem of ${nameOf(owner)} (${size} bytes, ${why})`);
      return null;
    }
    const what = owner.drive === null ? 'place of the p2pmem' : 'CMB registers';
    if (owner.drive !== null || exact.length !== 1) {
      const taken = `${size} bytes at the start of BAR ${bar.index}`;
      this.assumed.push(`the ${what} of ${nameOf(owner)} not known: taken for ${taken}`);
    }
    this.#shows([size, bar.cpuAddress]);
    return { size, available: Math.min(size, available), published, bar: bar.index };
  }

  /** Memory with these sizes and places was registered. */
  #shows(multiples: readonly number[]): void {
    while (multiples.some((multiple) => multiple % this.granule !== 0)) this.granule /= 2;
  }
}

function nameOf({ dev, drive }: Owner): string {
  return drive?.name ?? dev.bdf;
}

function wholePages(size: number): number {
  return size - (size % PAGE_SIZE);
}
