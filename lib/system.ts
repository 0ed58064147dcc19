import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Readable } from 'node:stream';
import {
  type Backend,
  type Controller,
  type LeakReport,
  type Mapping,
  type Origin,
  originOf,
  type Place,
} from './backend/backend.js';
import type { Evidence } from './backend/evidence.js';
import {
  type DiagnoseOptions,
  describeOptions,
  explainOptions,
  type SnapshotOptions,
  type SystemOptions,
  snapshotOptions,
  systemOptions,
} from './backend/system-options.js';
import type { Topology } from './backend/topology.js';
import {
  assertEach,
  assertName,
  assertWhole,
  optionError,
  wrongArgument,
  wrongOption,
} from './base/arguments.js';
import type { P2pdmaError } from './base/errors.js';
import type { Sentence } from './base/sentence.js';
import { TRACE_CHANNEL } from './base/trace.js';
import { copy } from './copy/copy.js';
import type { CopyPlan } from './copy/plan.js';
import type { CopyOptions, PipelineDestination, PipelineSource } from './copy/request.js';
import {
  type ClientVerdict,
  type Explanation,
  explain,
  explainAll,
  type Hop,
  type Unreachable,
} from './explain/explain.js';
import { withProposed } from './explain/proposed.js';
import { assertRelease } from './kernel/releases/rule.js';
import { PRESET_NAMES } from './machine/preset-table.js';
import type { Metrics } from './streams/metrics.js';
import {
  givenOptions,
  objectOptions,
  parseOptions,
  type ReadStreamOptions,
  type TargetOptions,
  targetOptions,
  type WriteStreamOptions,
} from './streams/options.js';
import { isPath, type OpenContext, pathSource, toPath, writeFlags } from './streams/paths.js';
import { P2pReadStream } from './streams/read-stream.js';
import type { Receipt } from './streams/receipt.js';
import { chooseRoute, findFunction } from './streams/route.js';
import { StreamContext } from './streams/session.js';
import { Target } from './streams/target.js';
import { P2pWriteStream } from './streams/write-stream.js';

export type { ClientVerdict, Explanation, Hop, PipelineDestination, PipelineSource, Unreachable };

/** The route, known beforehand: what the receipt will say about it. */
export interface RouteChoice extends Origin, Pick<Receipt, 'transport' | 'provider' | 'reason' | 'unproven'> {
  /** For each of them, the PCI function that does its DMA; null: none does. */
  readonly clients: readonly (string | null)[];
}

/** A piece of CMB (or host) memory of the caller's own, to use with Target's reads and writes. */
export interface Allocation {
  /** A plain Buffer over the memory. */
  readonly buffer: Buffer;
  /** PCI address of the provider; null: host memory. */
  readonly provider: string | null;
  /** Return the memory. Wait for I/O on it first; using the buffer afterwards throws. */
  free(): void;
  /** As `free()`. */
  [Symbol.dispose](): void;
}

/**
 * The options of a copy: most options of a reader and of a writer, and some of its own. `memory: 'host'` with `requireP2p: true` does not
 * type-check.
 * @interface
 */
export type PipelineOptions = CopyOptions & {
  /** The machine to do it on. Default: the shared one. */
  system?: System;
  /**
   * A file that keeps account of what was copied, so that a copy that was interrupted goes on where it was: call it again
   * with the same arguments. Removed when the copy is complete. Between paths only.
   */
  journal?: string;
};

/** A machine: real or emulated. Open one with `openSystem()`. */
export class System {
  #context: StreamContext;

  private constructor(backend: Backend) {
    this.#context = new StreamContext(backend);
  }

  /** @internal */
  static over(backend: Backend): System {
    return new System(backend);
  }

  /** Whether a real kernel does the DMA. */
  get backend(): 'native' | 'emulator' {
    return this.#context.backend.name;
  }
  /** The emulated machine’s name; null: a real one. */
  get machine(): string | null {
    return this.#context.backend.machine;
  }
  /**
   * The line that every text about an emulated machine should begin with, as the command’s do: that it is emulated, and
   * how long its drives last. For a real machine: null.
   */
  get notice(): string | null {
    return this.#context.backend.notice;
  }
  /** For a machine from `describeMachine()`: what was recognised, and what is therefore not known. Otherwise null. */
  get evidence(): Evidence | null {
    return this.#context.backend.evidence ?? null;
  }
  /** PCI functions, bridges above them, host bridges, CPU. */
  get topology(): Topology {
    return this.#context.backend.topology;
  }
  /** NVMe controllers, with their namespaces and CMBs. */
  get controllers(): readonly Controller[] {
    return this.#context.backend.controllers;
  }

  /**
   * Open a namespace (`'nvme0n1'`, `'/dev/nvme0n1'`), block device or file.
   * @throws P2pdmaError ENOENT, EISDIR, EACCES, EBUSY (in use; `force` overrides), EROFS
   */
  async target(nameOrPath: string | URL, options: TargetOptions = {}): Promise<Target> {
    this.#context.assertOpen();
    const path = toPath(nameOrPath);
    parseOptions(targetOptions, options);
    return Target.over(this.#context, await this.#context.openTarget(path, options));
  }

  /** A Readable over a path; see `createReadStream`. */
  createReadStream(path: string | URL, options?: ReadStreamOptions | BufferEncoding | null): P2pReadStream {
    return createReadStream(path, { ...givenOptions(options), system: this });
  }

  /** A Writable over a path; see `createWriteStream`. */
  createWriteStream(
    path: string | URL,
    options?: WriteStreamOptions | BufferEncoding | null,
  ): P2pWriteStream {
    return createWriteStream(path, { ...givenOptions(options), system: this });
  }

  /** `pipeline()` on this system, whatever `options.system` is. */
  async pipeline(
    source: PipelineSource,
    destinations: PipelineDestination | readonly PipelineDestination[],
    options: PipelineOptions = {},
  ): Promise<Receipt> {
    return pipeline(source, destinations, { ...objectOptions(options), system: this });
  }

  /** The published provider nearest to all these targets, as the streams would choose it; null if none suits. */
  findProvider(targets: readonly Target[]): string | null {
    assertEach('findProvider', 'targets', targets, {
      mustBe: 'Targets',
      fits: (end) => end instanceof Target,
    });
    return this.route(targets).provider;
  }

  /**
   * The route that a copy between these (the source first) would take, as the streams decide it before their first byte.
   * Names are resolved but not opened.
   */
  route(targets: readonly (Target | string)[]): RouteChoice {
    assertEach('route', 'targets', targets, {
      mustBe: 'Targets, names and paths',
      fits: (end) => end instanceof Target || typeof end === 'string',
    });
    const { backend } = this.#context;
    const ends = targets.map((end, i) =>
      end instanceof Target
        ? end.blockTarget
        : {
            ...backend.inspect(toPath(end), { write: i > 0, earlier: Math.max(0, i - 1) }),
            name: end,
          },
    );
    const { transport, provider, reason, unproven } = chooseRoute(backend, ends, {});
    const clients = ends.map(({ client }) => client?.bdf ?? null);
    return { ...originOf(backend), transport, provider: provider?.bdf ?? null, reason, unproven, clients };
  }

  /**
   * The kernel's verdict for a provider and its clients, computed here, before any I/O. Any two PCI functions can be named,
   * by address, controller, namespace, block device or file. For a provider without p2pmem the answer is what it would be
   * with p2pmem, and `notes` say so.
   *
   * With `try` the kernel is asked too, which settles what no rule can say: for each pair one block is read into the
   * provider's memory. Nothing is written to a drive, and no more of the pool is taken than that block needs. With
   * `proposed` each verdict also says what patches that are not merged yet would change.
   * @throws P2pdmaError ERR_INVALID_ARG_VALUE; with `try` ERR_BACKEND_UNAVAILABLE: the machine was opened for inspection only
   */
  explain(
    provider: string,
    clients: readonly string[],
    options?: { try?: false; proposed?: boolean },
  ): Explanation;
  explain(
    provider: string,
    clients: readonly string[],
    options: { try: true; proposed?: boolean },
  ): Promise<Explanation>;
  explain(
    provider: string,
    clients: readonly string[],
    options: { try?: boolean; proposed?: boolean } = {},
  ): Explanation | Promise<Explanation> {
    const { try: asks, proposed } = parseOptions(explainOptions, options);
    assertName('explain', 'provider', provider, 'a name, an address or a path');
    assertEach('explain', 'clients', clients, {
      mustBe: 'names, addresses and paths',
      fits: (client) => typeof client === 'string',
    });
    const { backend } = this.#context;
    const merged = explain(backend, provider, clients);
    const computed = proposed ? withProposed(backend, merged) : merged;
    if (!asks) return computed;
    this.#context.assertOpen();
    return import('./explain/try.js').then(({ tryEach }) => tryEach(backend, computed));
  }

  /** The verdicts of every provider for every NVMe drive. Without any provider: of every drive, as if it were one. */
  explainAll(): Explanation[] {
    return explainAll(this.#context.backend);
  }

  /** What is below a namespace, block device or file, without opening it; null: it does not exist. */
  locate(nameOrPath: string): Place | null {
    assertName('locate', 'nameOrPath', nameOrPath);
    return this.#context.backend.inspect(nameOrPath).place;
  }

  /**
   * Memory of a provider's CMB (address or controller name), or of the host (`null`).
   *
   * CMB memory is for reads and writes with O_DIRECT, and for the CPU. With other calls the kernel (seen on 6.12.117)
   * answers EFAULT to process_vm_readv and to registering it with io_uring, EREMOTEIO to mlock and vmsplice;
   * madvise(MADV_DONTNEED) gives its pages back to the pool, and whoever touches them then gets SIGBUS.
   * @throws P2pdmaError ENODEV (it has no p2pmem), ENOMEM (its pool is exhausted)
   */
  allocate(provider: string | null, bytes: number): Allocation {
    this.#context.assertOpen();
    if (provider !== null) assertName('allocate', 'provider', provider, 'a name, an address or null');
    assertWhole('allocate', 'bytes', bytes, 1);
    const { memory } = this.#context.backend;
    const mapping =
      provider === null
        ? memory.allocHost(bytes)
        : memory.mmapP2pmem(findFunction(this.#context.backend, provider), bytes);
    return new MappedAllocation(this.#context, mapping, bytes);
  }

  /**
   * A Readable of objects (TraceEvent), one for each crossing from a layer to the next, until it is destroyed. Process-wide: with several systems
   * open it shows all of them. When its reader does not keep up, the oldest events are dropped.
   */
  trace(): Readable {
    return traceStream();
  }

  /**
   * What this system has done and is doing: bytes by path, requests in flight, pools, errors by code. Whenever a stream or
   * target closes, the same goes out on the diagnostics channel `p2pdma:metrics`.
   */
  metrics(): Metrics {
    return this.#context.metrics();
  }

  /** This machine as JSON that the emulator can run; without serial numbers unless they are asked for. */
  snapshot(options: SnapshotOptions = {}): Record<string, unknown> {
    const wanted = parseOptions(snapshotOptions, options);
    return this.#context.backend.snapshot(wanted) as Record<string, unknown>;
  }

  /** For this package's own functions. @internal */
  get context(): StreamContext {
    return this.#context;
  }

  /**
   * End every stream, target and allocation, then the machine. Chunks still on loan are detached. Resolves to what was
   * still held: all zeros unless something is wrong.
   */
  close(): Promise<LeakReport> {
    return this.#context.close();
  }

  /** As `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

class MappedAllocation implements Allocation {
  readonly buffer: Buffer;
  readonly provider: string | null;
  #context: StreamContext;
  #mapping: Mapping | null;

  constructor(context: StreamContext, mapping: Mapping, bytes: number) {
    this.#context = context;
    this.#mapping = mapping;
    this.buffer = Buffer.from(mapping.buffer, 0, bytes);
    this.provider = mapping.provider?.bdf ?? null;
    context.mappings++;
    context.add(this);
  }

  free(): void {
    if (this.#mapping === null) return;
    this.#mapping.munmap();
    this.#mapping = null;
    this.#context.mappings--;
    this.#context.remove(this);
  }

  async shutdown(): Promise<void> {
    this.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

/**
 * Open a machine.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE, ERR_MACHINE_INVALID, ENOENT (machine file)
 */
export async function openSystem(options: SystemOptions = {}): Promise<System> {
  const { backend, machine, root, engine, inspect, kernel } = parseOptions(systemOptions, options);
  if (kernel !== undefined) assertRelease(kernel);
  if (backend === 'native' && machine !== undefined) {
    const received = typeof machine === 'string' ? `'${machine}'` : 'a description';
    const what: Sentence = (option) =>
      `only the emulator takes one, and ${option('backend')} is 'native' (received ${received})`;
    throw optionError('ERR_INVALID_ARG_VALUE', 'machine', what, {
      received: machine,
      hint: (option) => `Drop ${option('machine')}, or use ${option('backend', "'emulator'")}.`,
    });
  }
  if (root !== undefined && (backend === 'emulator' || machine !== undefined)) {
    const what: Sentence = (option) =>
      `the native backend reads it, and ${machine === undefined ? `${option('backend')} is 'emulator'` : 'a machine is named'} (received '${root}')`;
    throw optionError('ERR_INVALID_ARG_VALUE', 'root', what, {
      received: root,
      hint: (option) =>
        `Drop one of them. To emulate a captured tree, load its snapshot as ${option('machine')}.`,
    });
  }
  if (backend === 'emulator' || machine !== undefined)
    return System.over(await openEmulated(machine ?? 'switch', kernel));
  // Never anything else in its place: whoever named no machine means this one, and what is on its drives.
  const { openNative } = await import('./native/backend.js');
  return System.over(
    await openNative({
      engine,
      inspect,
      ...(root === undefined ? {} : { root }),
      ...(kernel === undefined ? {} : { kernel }),
    }),
  );
}

/**
 * A machine described by what somebody sent of it, to be examined and explained like any other: the text of `lspci -xxxx`, a
 * folder with sys/ and proc/. Inputs are paths, URLs or bytes; of several, each adds what it contains. `evidence` says what was
 * recognised and what is therefore not known; what is not known stays so in every verdict.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE: nothing in it describes a machine; ENOENT, EACCES
 */
export async function describeMachine(
  input: string | URL | Uint8Array | readonly (string | URL | Uint8Array)[],
  options: Pick<DiagnoseOptions, 'cpu' | 'kernel'> = {},
): Promise<System> {
  const inputs = Array.isArray(input) ? input : [input];
  assertEach('describeMachine', 'input', inputs, {
    mustBe: 'paths, URLs and bytes',
    fits: (one) => typeof one === 'string' || one instanceof URL || one instanceof Uint8Array,
  });
  const given = parseOptions(describeOptions, options);
  if (given.kernel !== undefined) assertRelease(given.kernel);
  const { openSent } = await import('./dump/open.js');
  return System.over(await openSent(inputs, given));
}

async function openEmulated(spec: string | object, kernel: string | undefined): Promise<Backend> {
  const [{ openEmulator }, { loadMachine }] = await Promise.all([
    import('./emulator/boot.js'),
    import('./machine/load.js'),
  ]);
  const machine = await loadMachine(spec);
  return openEmulator({ machine: kernel === undefined ? machine : { ...machine, kernel } });
}

/** The names of the built-in machines. */
export const MACHINE_PRESETS: readonly string[] = PRESET_NAMES;

let shared: Promise<System> | null = null;

/** The system that `createReadStream(path)` and its sisters use when none is given: opened at first use. */
export function defaultSystem(): Promise<System> {
  shared ??= openSystem().catch((error: unknown) => {
    shared = null;
    throw error;
  });
  return shared;
}

/**
 * Like `fs.createReadStream`, for namespaces, block devices and files, with O_DIRECT. `start` and `end` (inclusive) may
 * be unaligned. Piped into this package's writers it lends CMB slots; any other consumer gets ordinary Buffers.
 */
export function createReadStream(
  path: string | URL,
  options?: (ReadStreamOptions & { system?: System }) | BufferEncoding | null,
): P2pReadStream {
  const { system, ...rest } = givenOptions(options);
  return P2pReadStream.over(
    pathSource(contextOf(system), toPath(path), { engine: rest.engine ?? 'auto' }),
    rest,
  );
}

/** Like `fs.createWriteStream`, for namespaces, block devices and files, with O_DIRECT; durable at `finish`. */
export function createWriteStream(
  path: string | URL,
  options?: (WriteStreamOptions & { system?: System }) | BufferEncoding | null,
): P2pWriteStream {
  const { system, ...rest } = givenOptions(options);
  return P2pWriteStream.over(pathSource(contextOf(system), toPath(path), writeFlags(rest)), rest);
}

/**
 * Copy a source into one or several destinations (one read, n writes) and say how the bytes went. Ends may be paths,
 * Targets, this package's streams, or any Node stream.
 *
 * Resolved means: written, flushed unless `flush: false`, verified if asked.
 */
export async function pipeline(
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
  options: PipelineOptions = {},
): Promise<Receipt> {
  const { system, journal, ...rest } = objectOptions(options);
  if (journal === undefined) return copy(contextOf(system), source, destinations, rest);
  const { from, to } = paths(source, destinations, 'journal');
  const context = contextOf(system);
  const path = journalPath(journal);
  const { resumableCopy } = await import('./copy/resume.js');
  return resumableCopy(context, from, to, rest, path);
}

/**
 * What `pipeline` with these arguments would do: route, memory, what each destination holds and would lose, what would
 * stop it. Nothing is opened for writing. Between paths only.
 * @throws P2pdmaError for what makes it impossible: a source that cannot be read, bad options, overlap, a journal of
 * another copy
 */
export async function planCopy(
  source: string | URL,
  destinations: string | URL | readonly (string | URL)[],
  options: PipelineOptions = {},
): Promise<CopyPlan> {
  const { system, journal, ...rest } = objectOptions(options);
  const { from, to } = paths(source, destinations, 'planCopy');
  const context = contextOf(system);
  if (journal === undefined) {
    const plan = await import('./copy/plan.js');
    return plan.planCopy(context, from, to, rest);
  }
  const path = journalPath(journal);
  const { planResumable } = await import('./copy/resume.js');
  return planResumable(context, from, to, rest, path);
}

/** Streams and Targets cannot be found again by another process. */
function paths(
  source: unknown,
  destinations: unknown,
  who: string,
): { from: string | URL; to: (string | URL)[] } {
  const to: unknown[] = Array.isArray(destinations) ? destinations : [destinations];
  if (!isPath(source)) throw wrongArgument(who, 'source', PLACE, source);
  const wrong = to.findIndex((end) => !isPath(end));
  if (wrong >= 0) throw wrongArgument(who, 'each of destinations', PLACE, to[wrong]);
  return { from: source, to: to as (string | URL)[] };
}

function wrongType(option: string, demand: string, received: unknown): P2pdmaError {
  return wrongOption(option, { code: 'ERR_INVALID_ARG_TYPE', demand, received });
}

const PLACE = 'a path or a file URL';

function journalPath(journal: unknown): string {
  if (!isPath(journal)) throw wrongType('journal', PLACE, journal);
  return toPath(journal);
}

/** The context of this system, or of the shared one. */
function contextOf(system: System | undefined): OpenContext {
  if (system !== undefined && !(system instanceof System)) {
    throw wrongType('system', 'a System, from openSystem()', system);
  }
  return async () => (system ?? (await defaultSystem())).context;
}

const TRACE_BACKLOG = 100_000;

function traceStream(): Readable {
  const waiting: unknown[] = [];
  let wanted = false;
  const listen = (event: unknown) => {
    if (wanted) wanted = stream.push(event);
    else {
      waiting.push(event);
      if (waiting.length > TRACE_BACKLOG) waiting.shift();
    }
  };
  const stream = new Readable({
    objectMode: true,
    highWaterMark: 1024,
    read() {
      wanted = true;
      while (wanted && waiting.length > 0) wanted = stream.push(waiting.shift());
    },
    destroy(error, callback) {
      unsubscribe(TRACE_CHANNEL, listen);
      callback(error);
    },
  });
  subscribe(TRACE_CHANNEL, listen);
  return stream;
}
