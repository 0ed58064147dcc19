/**
 * The emulator's half of the scenarios: answers the questions of probe.c on an emulated machine, at the seam that the
 * streams use and, where they need none, at the kernel modules' own doors.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type Mapping, originOf } from '../../lib/backend/backend.js';
import { parseRelease } from '../../lib/backend/kernel-release.js';
import { EBADF } from '../../lib/base/errno.js';
import { P2pdmaError } from '../../lib/base/errors.js';
import { TRACE_CHANNEL, type TraceEvent } from '../../lib/base/trace.js';
import type { CharDevice, EmulatorBackend } from '../../lib/emulator/backend.js';
import { openEmulator } from '../../lib/emulator/boot.js';
import type { Drive } from '../../lib/emulator/running-machine.js';
import { EmulatorTarget } from '../../lib/emulator/target.js';
import {
  FOLL_LONGTERM,
  FOLL_WRITE,
  newPageRange,
  pinUserPages,
  unpinUserPages,
} from '../../lib/kernel/gup.js';
import type { NvmeNs } from '../../lib/kernel/nvme-core.js';
import { pciMmapP2pmem } from '../../lib/kernel/pci-p2pdma.js';
import { withheldFromPrograms } from '../../lib/kernel/releases/table.js';
import type { Machine } from '../../lib/machine/machine.js';
import { io } from '../helpers/emulated-io.js';
import { Died, type Outcome, type Respondent, runScenario, type Scenario, said } from './scenarios.js';

/** A piece of memory that is not there: probe.c does not ask the kernel then. */
class BadQuestion extends Error {}

interface Memory {
  readonly mapping: Mapping;
  readonly bytes: Uint8Array;
  readonly length: number;
}

class EmulatedProbe implements Respondent {
  readonly #backend: EmulatorBackend;
  readonly #memory = new Map<number, Memory>();
  readonly #handles = new Map<number, EmulatorTarget | CharDevice>();

  constructor(backend: EmulatorBackend) {
    this.#backend = backend;
  }

  async ask(question: string): Promise<string> {
    const [word = '', ...args] = question.split(' ');
    try {
      const answer = await this.#answer(word, args);
      return typeof answer === 'string' ? answer : answer < 0 ? `err ${-answer}` : `ok ${answer}`;
    } catch (error) {
      if (error instanceof P2pdmaError && error.errno !== undefined) return `err ${-error.errno}`;
      if (error instanceof BadQuestion) return 'bad question';
      throw error;
    }
  }

  async end(): Promise<void> {
    for (const handle of this.#handles.values()) if (handle instanceof EmulatorTarget) await handle.close();
    this.#backend.memory.unmapAll();
  }

  #answer(word: string, args: readonly string[]): number | string | Promise<number | string> {
    const n = args.map(Number);
    switch (word) {
      case 'open':
        return this.#open(n[0]!, args[1]!, args[2]!);
      case 'close':
        return this.#close(n[0]!);
      case 'map':
        return this.#map(n[0]!, args[1]!, { length: n[2]!, offset: n[3]!, shared: args[4] === 'shared' });
      case 'alloc':
        return this.#keep(n[0]!, this.#backend.memory.allocHost(n[1]!), n[1]!);
      case 'unmap':
        if (!this.#memory.has(n[0]!)) throw new BadQuestion();
        this.#memory.get(n[0]!)!.mapping.munmap();
        this.#memory.delete(n[0]!);
        return 0;
      case 'fill':
        return this.#fill(this.#view(n[0]!, n[1]!, n[2]!), n[2]!, n[3]!);
      case 'check':
        return this.#check(this.#view(n[0]!, n[1]!, n[2]!), n[2]!, n[3]!);
      case 'pread':
      case 'pwrite':
      case 'uring_read':
      case 'uring_write':
      case 'preadv':
      case 'pwritev': {
        const segments = word.endsWith('v') ? this.#views(n.slice(2)) : [this.#view(n[2]!, n[3]!, n[4]!)];
        const op = /read/.test(word) ? 'read' : 'write';
        return io(this.#target(n[0]!), op, n[1]!, ...segments).then(({ result }) => result);
      }
      case 'ioread':
      case 'iowrite':
      case 'uring_cmd_read':
      case 'uring_cmd_write':
        return this.#command(/read/.test(word) ? 2 : 1, n);
      case 'identify':
        return this.#identify(n[0]!, this.#view(n[1]!, n[2]!, 4096));
      case 'uring_register':
        return this.#register(this.#view(n[0]!, n[1]!, n[2]!));
      case 'available':
        return availableOf(this.#backend, args[0]!) ?? 'err 2';
      case 'remove':
        return this.#remove(args[0]!);
      default:
        throw new Error(`bad question: ${word}`);
    }
  }

  async #open(slot: number, door: string, flags: string): Promise<number> {
    const [name, what] = door.split(':');
    if (name === 'loop') this.#handles.set(slot, this.#stacked());
    else if (what === 'ctrl') this.#handles.set(slot, this.#backend.charDevice(name!));
    else {
      const nsid = what === 'disk2' ? 2 : 1;
      const target =
        this.#empty(name!, nsid) ??
        (await this.#backend.openTarget(`${name}n${nsid}`, {
          write: flags.startsWith('rw'),
          force: !flags.includes('excl'),
        }));
      this.#handles.set(slot, target);
    }
    return 0;
  }

  /** A namespace of size 0: the kernel opens it, and the library does not. Null: it has a size. */
  #empty(name: string, nsid: number): EmulatorTarget | null {
    const drive = this.#backend.running.drives.find(({ driver }) => driver.ctrl.name === name);
    const ns = drive?.driver.ctrl.namespaces.find((one) => one.nsid === nsid);
    return ns?.capacity === 0 && !ns.dead ? this.#targetOn(drive!, ns, null) : null;
  }

  /** A block device whose queue does not have the peer-to-peer feature, which nobody passes on. */
  #stacked(): EmulatorTarget {
    const drive = this.#backend.running.drives.at(-1)!;
    const below = drive.driver.ctrl.namespaces[0]!;
    const ns: typeof below = Object.create(below, {
      limits: { value: { ...below.limits, pciP2pdma: false } },
    });
    return this.#targetOn(drive, ns, 'a loop device');
  }

  /** A disk of the emulated kernel, opened below the library. */
  #targetOn({ driver }: Drive, disk: NvmeNs, noP2pReason: string | null): EmulatorTarget {
    const { mm, clock } = this.#backend.running;
    const name = noP2pReason === null ? disk.name : 'loop0';
    return new EmulatorTarget({
      ...{ name, path: `/dev/${name}`, disk, client: driver.hw.pdev, mm, clock },
      ...{ origin: originOf(this.#backend), write: true, noP2pReason, file: null, onClose: async () => {} },
    });
  }

  async #close(slot: number): Promise<number> {
    const handle = this.#handles.get(slot);
    this.#handles.delete(slot);
    if (handle instanceof EmulatorTarget) await handle.close();
    return 0;
  }

  #map(slot: number, door: string, request: { length: number; offset: number; shared: boolean }): number {
    const { memory, running, controllers } = this.#backend;
    const [name, what] = door.split(':');
    if (what === 'ctrl') {
      return this.#keep(slot, this.#backend.charDevice(name!).mmap(request), request.length);
    }
    const pdev = controllers.find((controller) => controller.name === name)?.pdev ?? null;
    // Before 6.2 there is no file to map it by.
    if (pdev === null || withheldFromPrograms(parseRelease(running.machine.kernel)) !== null) return -19;
    const mapping = pciMmapP2pmem(running.mm, pdev, request);
    if (typeof mapping === 'number') return mapping;
    return this.#keep(
      slot,
      memory.track(mapping, () => mapping.munmap()),
      request.length,
    );
  }

  #keep(slot: number, mapping: Mapping, length: number): number {
    this.#memory.set(slot, { mapping, bytes: new Uint8Array(mapping.buffer), length });
    return 0;
  }

  #view(slot: number, offset: number, length: number): Uint8Array {
    const memory = this.#memory.get(slot);
    if (memory === undefined || offset + length > memory.length) throw new BadQuestion();
    // Memory that is gone: all that is left of a view is that it was one.
    if (memory.bytes.length === 0) return memory.bytes;
    return memory.bytes.subarray(offset, offset + length);
  }

  /** Up to the first that is not there. */
  #views(pieces: readonly number[]): Uint8Array[] {
    const views: Uint8Array[] = [];
    for (let i = 0; i < pieces.length; i += 3) {
      if (!this.#memory.has(pieces[i]!)) break;
      views.push(this.#view(pieces[i]!, pieces[i + 1]!, pieces[i + 2]!));
    }
    return views;
  }

  #target(slot: number): EmulatorTarget {
    const handle = this.#handles.get(slot);
    if (handle instanceof EmulatorTarget) return handle;
    throw new P2pdmaError('EBADF', 'not open', { errno: -EBADF });
  }

  #fill(view: Uint8Array, length: number, seed: number): number {
    if (view.length !== length) throw new Died();
    for (let i = 0; i < length; i++) view[i] = pattern(seed, i);
    return 0;
  }

  #check(view: Uint8Array, length: number, seed: number): number | string {
    if (view.length !== length) throw new Died();
    for (let i = 0; i < length; i++) if (view[i] !== pattern(seed, i)) return `differs ${i}`;
    return 0;
  }

  async #command(opcode: number, n: readonly number[]): Promise<number | string> {
    const [handle = 0, nsid = 0, slba = 0, blocks = 0, slot = 0, offset = 0, length = 0] = n;
    const data = this.#view(slot, offset, length);
    const { status } = await this.#target(handle).passthrough({
      ...{ opcode, nsid, cdw10: slba % 2 ** 32, cdw11: Math.floor(slba / 2 ** 32), cdw12: blocks - 1, data },
    });
    return status === 0 ? 0 : `status ${status}`;
  }

  async #identify(slot: number, data: Uint8Array): Promise<number | string> {
    const device = this.#handles.get(slot);
    if (device === undefined || device instanceof EmulatorTarget) return -EBADF;
    const { status } = await device.ioctl({ admin: true, opcode: 6, cdw10: 1, data });
    return status === 0 ? 0 : `status ${status}`;
  }

  #register(view: Uint8Array): number {
    const range = newPageRange();
    const { mm } = this.#backend.running;
    const pinned = pinUserPages(mm, view, FOLL_WRITE | FOLL_LONGTERM, range);
    if (pinned < 0) return pinned;
    unpinUserPages(mm, range);
    return 0;
  }

  async #remove(name: string): Promise<number> {
    this.#backend.remove(name);
    for (let turn = 0; turn < 100; turn++) {
      if (!this.#backend.controllers.some((controller) => controller.name === name)) return 0;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    throw new Error(`${name} does not go`);
  }
}

/** Any function of both will do: only whether data is the pattern is compared. */
function pattern(seed: number, position: number): number {
  let x = Math.imul((position >>> 2) + 1, 0x9e3779b1) ^ Math.imul(seed, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  return ((x ^ (x >>> 13)) >>> (8 * (position & 3))) & 0xff;
}

function availableOf(backend: EmulatorBackend, name: string): number | null {
  return backend.controllers.find((controller) => controller.name === name)?.pdev?.p2pmem?.available ?? null;
}

/** A warning on the trace, in the spelling of the scenarios. */
function words(backend: EmulatorBackend, warning: Record<string, unknown>): string[] {
  const name = (bdf: unknown) =>
    backend.controllers.find(({ pdev }) => pdev?.bdf === bdf)?.name ?? String(bdf);
  const [client, provider] = [name(warning.client), name(warning.provider)];
  const ports = warning.acs as string[];
  return [
    ...(ports.length > 0 ? [said.redirected(client, provider, ports.join(';'))] : []),
    ...(warning.mapType === 'PCI_P2PDMA_MAP_NOT_SUPPORTED' ? [said.unreachable(client, provider)] : []),
  ];
}

/** Boot the machine once and run its scenarios in their order. */
export async function emulate(
  machine: Machine,
  scenarios: readonly Scenario[],
): Promise<Record<string, Outcome>> {
  const backend = await openEmulator({ machine });
  const names = backend.controllers.map(({ name }) => name);
  let heard: string[] = [];
  const listen = (message: unknown) => {
    const { layer, event, ...warning } = message as TraceEvent;
    if (layer === 'pci-p2pdma' && event === 'warn') heard.push(...words(backend, warning));
  };
  subscribe(TRACE_CHANNEL, listen);
  try {
    const outcomes: Record<string, Outcome> = {};
    for (const scenario of scenarios) {
      outcomes[scenario.name] = await runScenario(scenario, {
        respondent: async () => new EmulatedProbe(backend),
        available: async () => Object.fromEntries(names.map((name) => [name, availableOf(backend, name)])),
        said: async () => heard.splice(0),
      });
    }
    return outcomes;
  } finally {
    unsubscribe(TRACE_CHANNEL, listen);
    heard = [];
    await backend.close();
  }
}
