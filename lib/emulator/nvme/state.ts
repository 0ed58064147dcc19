/**
 * State shared by the parts of the emulated controller: its queues, its commands, and the part of the fabric that a bus
 * master needs.
 *
 *     doorbell → SubmissionQueue ─fetch→ NvmeRequest ─execute→ (store, later) ─complete→ CompletionQueue → interrupt
 */
import type { DmaWindow, Fabric } from '../bus/fabric.js';
import type { NamespaceStore, StoreIo } from './store.js';

/** The fabric, as a bus master sees it. */
export type DmaFabric = Pick<Fabric, 'resolve' | 'account'>;

/** Setting `length` would cost a call into the runtime, and these lists are short. */
export function empty(list: unknown[]): void {
  while (list.length > 0) list.pop();
}

/** Returned in place of a status: the command completes later. */
export const PENDING = -1;

/**
 * The state of a command that did not complete at once. `store`: the medium works on it. `delayed`: the latency model
 * delays it. `event`: it is an Asynchronous Event Request that waits. `waiting`: it is a queue deletion that waits for
 * other commands. `stuck`: because of a fault, it never completes.
 */
export type RequestState = 'executing' | 'store' | 'delayed' | 'event' | 'waiting' | 'stuck';

export class SubmissionQueue {
  readonly id: number;
  readonly addr: number;
  /** The number of entries. */
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
  /** The head that the host wrote to the doorbell. */
  head = 0;
  tail = 0;
  phase = 1;
  /** The number of submission queues that complete here. */
  users = 0;
  /** Requests that are done but not yet posted; `first` is the index of the next one to post. */
  readonly done: NvmeRequest[] = [];
  first = 0;

  constructor(id: number, addr: number, size: number, vector: number, irqEnabled: boolean) {
    this.id = id;
    this.addr = addr;
    this.size = size;
    this.vector = vector;
    this.irqEnabled = irqEnabled;
  }

  /** The number of entries that the controller may still write. One entry always stays empty. */
  get room(): number {
    return (this.head - this.tail - 1 + this.size) % this.size;
  }
}

export interface RequestOwner {
  /** The medium has finished `req`. */
  stored(req: NvmeRequest, status: number): void;
}

/** One command, from fetch to completion. Requests are pooled, so that a busy controller allocates no new ones. */
export class NvmeRequest implements StoreIo {
  readonly owner: RequestOwner;
  /** The memory of the command. */
  readonly windows: DmaWindow[] = [];
  sq: SubmissionQueue | null = null;
  cid = 0;
  opcode = 0;
  nsid = 0;
  store: NamespaceStore | null = null;
  /** The first block, if the command has one. */
  lba = 0;
  /** The number of data bytes that it moves. */
  bytes = 0;
  /** Force unit access: flush before completing. */
  fua = false;
  state: RequestState = 'executing';
  /** Nobody waits for it any more (after a reset or removal). It is discarded when the medium has finished. */
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
