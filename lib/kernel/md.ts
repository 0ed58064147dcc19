/**
 * Mirrors drivers/md (raid0.c, raid1.c, raid10.c, md-linear.c; 6.12, 7.2), as far as the route of a transfer is
 * concerned: which member holds which bytes, and how a member's error is handled.
 *
 *     raid0     chunk 0 │ chunk 1 │ chunk 2 …  one member after the other
 *     raid1     every member has all           a write goes to each, a read to one
 *     raid10    each chunk on two neighbours (near=2), the pairs striped as raid0
 *
 * A mirror treats BLK_STS_INVAL from a member as an invalid request, not as a broken member: a write succeeds
 * although that member did not store its data. This happens when the data is in peer memory that the member cannot
 * reach.
 */
import type { KernelRelease } from '../backend/kernel-release.js';
import { EINVAL, EIO } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import {
  type Bio,
  type BlkQueueLimits,
  bioAlloc,
  bioChain,
  bioClone,
  bioEndClone,
  bioEndio,
  bioEndWith,
  bioSplit,
  type Gendisk,
  submitBio,
} from './bio.js';
import { blkStackLimits } from './blk-settings.js';
import { holds } from './releases/rule.js';
import { MD, MD_LEVELS } from './releases/table.js';

/** The levels that are emulated. Levels with parity can be described but are not emulated. */
export type MdLevel = 'linear' | 'raid0' | 'raid1' | 'raid10';

/** Number of copies of each chunk in raid10's default layout. */
const NEAR_COPIES = 2;

/** struct md_rdev */
interface Member {
  readonly disk: Gendisk;
  /** Number of its bytes that the array uses. */
  readonly size: number;
  faulty: boolean;
}

/** The location of one byte of the array. */
interface Place {
  readonly member: Member;
  readonly sector: number;
}

export interface MdOptions {
  readonly name: string;
  readonly level: MdLevel;
  /** Bytes. */
  readonly chunk: number;
  readonly members: readonly Gendisk[];
  readonly release: KernelRelease | null;
}

/** struct mddev with its gendisk. */
export class MdArray implements Gendisk {
  readonly name: string;
  readonly level: MdLevel;
  readonly limits: BlkQueueLimits;
  readonly capacity: number;
  readonly readOnly: boolean;
  /** An array stays when its members are removed: requests that need them fail with EIO. */
  readonly dead = false;
  readonly #chunk: number;
  readonly #members: readonly Member[];

  constructor({ name, level, chunk, members, release }: MdOptions) {
    this.name = name;
    this.level = level;
    this.#chunk = chunk;
    this.readOnly = members.some((disk) => disk.readOnly);
    const pciP2pdma = MD_LEVELS.includes(level) && holds(MD, release) === 'yes';
    this.limits = blkStackLimits(
      members.map((disk) => disk.limits),
      { pciP2pdma },
    );
    const unit = level === 'raid0' || level === 'raid10' ? chunk : this.limits.logicalBlockSize;
    const whole = members.map((disk) => disk.capacity - (disk.capacity % unit));
    const least = Math.min(...whole);
    this.#members = members.map((disk, i) => ({
      disk,
      size: level === 'linear' ? whole[i]! : least,
      faulty: false,
    }));
    this.capacity = capacityOf(level, chunk, this.#members);
  }

  /** Names of the members on which a write has failed: they get no further requests. */
  get faulty(): readonly string[] {
    return this.#members.filter(({ faulty }) => faulty).map(({ disk }) => disk.name);
  }

  /** md_submit_bio() and the personality's make_request(). */
  submitBio(bio: Bio): void {
    if (bio.opf === 'flush') {
      this.#flush(bio);
      return;
    }
    for (let left = bio.size; left > 0; ) {
      const at = bio.sector + bio.splitBytes;
      const bytes = Math.min(left, this.#room(at));
      const part = bioSplit(bio, bytes);
      bioChain(part, bio);
      this.#send(part, this.#placesOf(at));
      left -= bytes;
    }
    bioEndio(bio);
  }

  /** md_flush_request(): flush the cache of every member. */
  #flush(bio: Bio): void {
    for (const { disk, faulty } of this.#members) {
      if (faulty) continue;
      const flush = bioAlloc(disk, 'flush');
      bioChain(flush, bio);
      submitBio(flush);
    }
    bioEndio(bio);
  }

  /** Number of bytes from `at` on that are stored contiguously on one member. */
  #room(at: number): number {
    switch (this.level) {
      case 'raid0':
      case 'raid10':
        return this.#chunk - (at % this.#chunk);
      case 'linear':
        return this.#inRow(at).left;
      case 'raid1':
        return Number.POSITIVE_INFINITY;
      default:
        return this.level satisfies never;
    }
  }

  #placesOf(at: number): Place[] {
    const members = this.#members;
    const inChunk = at % this.#chunk;
    const chunk = (at - inChunk) / this.#chunk;
    const striped = (slot: number): Place => ({
      member: members[slot % members.length]!,
      sector: Math.floor(slot / members.length) * this.#chunk + inChunk,
    });
    switch (this.level) {
      case 'raid0':
        return [striped(chunk)];
      case 'raid10':
        return Array.from({ length: NEAR_COPIES }, (_, copy) => striped(chunk * NEAR_COPIES + copy));
      case 'raid1':
        return members.map((member) => ({ member, sector: at }));
      case 'linear':
        return [this.#inRow(at)];
      default:
        return this.level satisfies never;
    }
  }

  /** which_dev() of md-linear.c */
  #inRow(at: number): Place & { left: number } {
    let start = 0;
    for (const member of this.#members) {
      if (at < start + member.size) return { member, sector: at - start, left: start + member.size - at };
      start += member.size;
    }
    throw new Error(`${this.name}: ${at} is beyond its end`);
  }

  #send(bio: Bio, places: readonly Place[]): void {
    const mirrored = this.level === 'raid1' || this.level === 'raid10';
    if (!mirrored) {
      const { member, sector } = places[0]!;
      bio.queue = member.disk;
      bio.sector = sector;
      submitBio(bio);
      return;
    }
    const good = places.filter(({ member }) => !member.faulty);
    if (good.length === 0) bioEndWith(bio, -EIO);
    else if (bio.opf === 'read') this.#readOne(bio, good, 0);
    else this.#writeAll(bio, good);
  }

  /** raid1_write_request(), raid1_end_write_request() */
  #writeAll(bio: Bio, places: readonly Place[]): void {
    let left = places.length;
    let done = false;
    for (const { member, sector } of places) {
      const clone = bioClone(bio, member.disk);
      clone.sector = sector;
      const endIo = (ended: Bio) => {
        const { status } = ended;
        bioEndClone(ended, bio);
        if (status === 0 || status === -EINVAL) done = true;
        else this.#fail(member, status);
        if (--left > 0) return;
        if (done) bioEndio(bio);
        else bioEndWith(bio, -EIO);
      };
      clone.endIo = endIo;
      submitBio(clone);
    }
  }

  /** md_error(): the member is marked faulty, unless it is the last one. */
  #fail(member: Member, status: number): void {
    if (!this.#members.some((other) => other !== member && !other.faulty)) return;
    member.faulty = true;
    if (tracing()) trace('md', 'member_failed', { array: this.name, member: member.disk.name, status });
  }

  /** raid1_read_request(), raid1_end_read_request(): after an error, the read is sent to the next member. */
  #readOne(bio: Bio, places: readonly Place[], index: number): void {
    const { member, sector } = places[index]!;
    const clone = bioClone(bio, member.disk);
    clone.sector = sector;
    const endIo = (ended: Bio) => {
      const { status } = ended;
      bioEndClone(ended, bio);
      if (status === 0) bioEndio(bio);
      else if (status !== -EINVAL && index + 1 < places.length) this.#readOne(bio, places, index + 1);
      else bioEndWith(bio, -EIO);
    };
    clone.endIo = endIo;
    submitBio(clone);
  }
}

function capacityOf(level: MdLevel, chunk: number, members: readonly Member[]): number {
  const [{ size }] = members as [Member];
  switch (level) {
    case 'linear':
      return members.reduce((sum, member) => sum + member.size, 0);
    case 'raid0':
      return size * members.length;
    case 'raid1':
      return size;
    case 'raid10':
      return Math.floor(((size / chunk) * members.length) / NEAR_COPIES) * chunk;
    default:
      return level satisfies never;
  }
}
