/**
 * What the parts of the emulated controller share: its queues, the command in hand, and the little of the
 * fabric that a bus master needs.
 *
 *     doorbell → SubmissionQueue ─fetch→ NvmeRequest ─execute→ (store, later) ─complete→ CompletionQueue → interrupt
 */
import type { DmaWindow, Fabric } from '../bus/fabric.js';
import type { NamespaceStore, StoreIo } from './store.js';

/** The fabric, as a bus master sees it. */
export type DmaFabric = Pick<Fabric, 'resolve' | 'account'>;

/** Setting `length` costs a call into the runtime, these lists are short. */
export function empty(list: unknown[]): void {
  while (list.length > 0) list.pop();
}

/** Returned in place of a status: the command completes later. */
export const PENDING = -1;

/**
 * Where a command that did not complete at once stands: `store` the medium works on it, `delayed` the latency
 * model holds it back, `event` an Asynchronous Event Request waits, `waiting` a queue deletion waits for
 * others, `stuck` a fault: it never completes.
 */
export type RequestState = 'executing' | 'store' | 'delayed' | 'event' | 'waiting' | 'stuck';

export class SubmissionQueue {
  readonly id: number;
  readonly addr: number;
  /** Entries. */
  readonly size: number;
  readonly cq: CompletionQueue;
  head = 0;
  tail = 0;
  /** A Delete I/O Submission Queue that waits until the medium is done with this queue's commands. */
  deleting: NvmeRequest | null = null;

  constructor(id: number, addr: number, size: number, cq: CompletionQueue) {
    this.id = id;
    this.addr = addr;
    this.size = size;
    this.cq = cq;
  }
}

export class CompletionQueue {
  readonly id: number;
  readonly addr: number;
  readonly size: number;
  readonly vector: number;
  readonly irqEnabled: boolean;
  /** As the host told by doorbell. */
  head = 0;
  tail = 0;
  phase = 1;
  /** Submission queues that complete here. */
  users = 0;
  /** Done, not yet posted; `first` is the next to post. */
  readonly done: NvmeRequest[] = [];
  first = 0;

  constructor(id: number, addr: number, size: number, vector: number, irqEnabled: boolean) {
    this.id = id;
    this.addr = addr;
    this.size = size;
    this.vector = vector;
    this.irqEnabled = irqEnabled;
  }

  /** Entries the controller may still write: one stays empty. */
  get room(): number {
    return (this.head - this.tail - 1 + this.size) % this.size;
  }
}

export interface RequestOwner {
  /** The medium is done with `req`. */
  stored(req: NvmeRequest, status: number): void;
}

/** One command, from fetch to completion. Kept in a pool: a busy controller makes no new ones. */
export class NvmeRequest implements StoreIo {
  readonly owner: RequestOwner;
  /** Its memory. */
  readonly windows: DmaWindow[] = [];
  sq: SubmissionQueue | null = null;
  cid = 0;
  opcode = 0;
  nsid = 0;
  store: NamespaceStore | null = null;
  /** First block, where there is one. */
  lba = 0;
  /** Bytes of data it moves. */
  bytes = 0;
  /** Force unit access: flush before completing. */
  fua = false;
  state: RequestState = 'executing';
  /** Nobody waits for it any more (reset, removal): forget it when the medium is done. */
  dropped = false;
  timer: { cancel(): void } | null = null;
  status = 0;
  result = 0;
  sqHead = 0;

  constructor(owner: RequestOwner) {
    this.owner = owner;
  }

  stored(status: number): void {
    this.owner.stored(this, status);
  }

  reset(): void {
    empty(this.windows);
    this.lba = 0;
    this.sq = null;
    this.store = null;
    this.bytes = 0;
    this.fua = false;
    this.state = 'executing';
    this.dropped = false;
    this.timer = null;
    this.status = 0;
    this.result = 0;
  }
}

/** Counters for the SMART log. */
export interface NvmeStatistics {
  bytesRead: number;
  bytesWritten: number;
  readCommands: number;
  writeCommands: number;
  mediaErrors: number;
  errorLogEntries: number;
}

/** One entry of the Error Information log. */
export interface NvmeErrorEntry {
  readonly count: number;
  readonly sqid: number;
  readonly cid: number;
  readonly status: number;
  readonly lba: number;
  readonly nsid: number;
}
