import {
  NVME_AER_ERROR,
  NVME_AER_NOTICE,
  NVME_AER_NOTICE_NS_CHANGED,
  NVME_LOG_CHANGED_NS,
  NVME_LOG_ERROR,
} from '../../backend/nvme-spec.js';
import type { NvmeRequest } from './state.js';

/**
 * The number of events that are kept while no Asynchronous Event Request is outstanding. Further events are lost, as
 * the specification allows.
 */
const EVENTS_KEPT = 8;

/**
 * Asynchronous events. After an event was reported, its type is masked until the host has read the associated log page.
 */
export class AsyncEvents {
  readonly #complete: (req: NvmeRequest) => void;
  readonly #waiting: NvmeRequest[] = [];
  readonly #events: number[] = [];
  readonly #silent = new Set<number>();
  readonly changedNamespaces = new Set<number>();

  /** @param complete posts the completion of a request whose result is set */
  constructor(complete: (req: NvmeRequest) => void) {
    this.#complete = complete;
  }

  /** The number of outstanding Asynchronous Event Requests. */
  get waiting(): number {
    return this.#waiting.length;
  }

  reset(): void {
    this.#waiting.length = 0;
    this.#events.length = 0;
    this.#silent.clear();
    this.changedNamespaces.clear();
  }

  request(req: NvmeRequest): void {
    this.#waiting.push(req);
    this.#deliver();
  }

  /** Removes a request that is being aborted. */
  withdraw(req: NvmeRequest): void {
    const i = this.#waiting.indexOf(req);
    if (i >= 0) this.#waiting.splice(i, 1);
  }

  error(info: number): void {
    this.#post(NVME_AER_ERROR | (info << 8) | (NVME_LOG_ERROR << 16));
  }

  namespaceChanged(nsid: number): void {
    this.changedNamespaces.add(nsid);
    this.#post(NVME_AER_NOTICE | (NVME_AER_NOTICE_NS_CHANGED << 8) | (NVME_LOG_CHANGED_NS << 16));
  }

  /** The host has read log page `log`. */
  logRead(log: number): void {
    if (log === NVME_LOG_ERROR) this.#silent.delete(NVME_AER_ERROR);
    if (log === NVME_LOG_CHANGED_NS) {
      this.#silent.delete(NVME_AER_NOTICE);
      this.changedNamespaces.clear();
    }
    this.#deliver();
  }

  #post(event: number): void {
    if (this.#events.length >= EVENTS_KEPT || this.#events.includes(event)) return;
    this.#events.push(event);
    this.#deliver();
  }

  #deliver(): void {
    while (this.#waiting.length > 0) {
      const i = this.#events.findIndex((event) => !this.#silent.has(event & 0x7));
      if (i < 0) return;
      const event = this.#events.splice(i, 1)[0]!;
      this.#silent.add(event & 0x7);
      const req = this.#waiting.shift()!;
      req.result = event;
      this.#complete(req);
    }
  }
}
