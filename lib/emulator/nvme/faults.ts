/**
 * Injected faults of one controller: media errors, commands that never complete, and surprise removal of the
 * controller. (Lost peer writes happen in the fabric, an exhausted pool in the kernel's allocator.)
 */
import type { Bdf } from '../../backend/topology.js';
import { type Fault, namespaceName } from '../../machine/machine.js';

interface MediaError {
  readonly namespace: string;
  readonly lba: number;
  readonly op: 'read' | 'write' | null;
}

export class ControllerFaults {
  readonly #controller: string;
  readonly #bdf: Bdf;
  readonly #media: MediaError[] = [];
  readonly #stuck = new Set<number>();
  #commands = 0;
  #removeAfter = Number.POSITIVE_INFINITY;

  constructor(controller: string, bdf: Bdf, faults: readonly Fault[] = []) {
    this.#controller = controller;
    this.#bdf = bdf;
    for (const fault of faults) this.add(fault);
  }

  /** Adds the fault if it concerns this controller; other faults of the machine are ignored. It may be called at any time. */
  add(fault: Fault): void {
    switch (fault.kind) {
      case 'media-error':
        if (fault.namespace.startsWith(`${this.#controller}n`)) this.#media.push(fault);
        return;
      case 'remove':
        if (this.#isMe(fault.controller)) this.#removeAfter = Math.min(this.#removeAfter, fault.afterBytes);
        return;
      case 'no-completion':
        if (this.#isMe(fault.controller)) this.#stuck.add(this.#commands + fault.nth);
        return;
      case 'drop-peer-writes':
      case 'pool-exhausted':
        return;
      default:
        fault satisfies never;
    }
  }

  /** Removes all faults. */
  clear(): void {
    this.#media.length = 0;
    this.#stuck.clear();
    this.#removeAfter = Number.POSITIVE_INFINITY;
  }

  /** Counts one I/O command. Returns true if the command never completes. */
  swallows(): boolean {
    this.#commands++;
    return this.#stuck.size > 0 && this.#stuck.delete(this.#commands);
  }

  /** Does a read or write of these blocks hit a bad one? */
  hitsMedia(nsid: number, slba: number, blocks: number, op: 'read' | 'write'): boolean {
    if (this.#media.length === 0) return false;
    const name = namespaceName(this.#controller, nsid);
    return this.#media.some(
      (bad) => bad.namespace === name && (bad.op ?? op) === op && bad.lba >= slba && bad.lba < slba + blocks,
    );
  }

  /** Has the controller moved so many bytes that it disappears now? */
  vanishesAt(bytesMoved: number): boolean {
    return bytesMoved >= this.#removeAfter;
  }

  #isMe(controller: string): boolean {
    return controller === this.#controller || controller === this.#bdf;
  }
}
