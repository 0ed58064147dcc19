import type { Readable } from 'node:stream';
import {
  type Backend,
  type Controller,
  type Disk,
  type LeakReport,
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
import { assertEach, assertName, assertWhole, optionError, wrongOption } from './base/arguments.js';
import { atNeed } from './base/at-need.js';
import type { Sentence } from './base/sentence.js';
import { copyBetween, planBetween } from './copy/between.js';
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
import { type Stacked, stackedOn } from './explain/stacked.js';
import { assertRelease } from './kernel/releases/rule.js';
import { DEFAULT_PRESET, PRESET_NAMES } from './machine/preset-names.js';
import { type Allocation, MappedAllocation } from './streams/allocation.js';
import { P2pFileHandle } from './streams/file-handle.js';
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
import { openForHandle, pathSource } from './streams/path-source.js';
import { type OpenContext, toPath } from './streams/paths.js';
import { P2pReadStream } from './streams/read-stream.js';
import type { Receipt } from './streams/receipt.js';
import { chooseRoute, findFunction, targetOf } from './streams/route.js';
import { StreamContext } from './streams/session.js';
import { Target } from './streams/target.js';
import { traceStream } from './streams/trace-stream.js';
import { P2pWriteStream } from './streams/write-stream.js';

const trying = atNeed(() => import('./explain/try.js'));

export type {
  Allocation,
  ClientVerdict,
  Explanation,
  Hop,
  PipelineDestination,
  PipelineSource,
  Stacked,
  Unreachable,
};

/** The route of a copy, determined in advance. The receipt of the copy will say the same. */
export interface RouteChoice extends Origin, Pick<Receipt, 'transport' | 'provider' | 'reason' | 'unproven'> {
  /** For each target, the PCI function that does its DMA; null: no function does. */
  readonly clients: readonly (string | null)[];
}

/**
 * The options of a copy: most options of a reader and of a writer, and some that only a copy has. `memory: 'host'` together
 * with `requireP2p: true` does not type-check.
 * @interface
 */
export type PipelineOptions = CopyOptions & {
  /** The machine on which to copy. Default: the shared one. */
  system?: System;
  /**
   * A file that records what has been copied, so that an interrupted copy can be resumed: call it again with the same
   * arguments. The file is removed when the copy is complete. Only for copies between paths.
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

  /** Whether a real kernel does the DMA (`'native'`) or the emulator (`'emulator'`). */
  get backend(): 'native' | 'emulator' {
    return this.#context.backend.name;
  }
  /** The name of the emulated machine; null: the machine is real. */
  get machine(): string | null {
    return this.#context.backend.machine;
  }
  /**
   * The line with which every text about an emulated machine should begin, as the texts of the command do. It says that the
   * machine is emulated and how long its drives exist. Null for a real machine.
   */
  get notice(): string | null {
    return this.#context.backend.notice;
  }
  /** For a machine from `describeMachine()`: what was recognised, and what is unknown as a result. Otherwise null. */
  get evidence(): Evidence | null {
    return this.#context.backend.evidence ?? null;
  }
  /** The PCI functions, the bridges above them, the host bridges and the CPU. */
  get topology(): Topology {
    return this.#context.backend.topology;
  }
  /** NVMe controllers, with their namespaces and CMBs. */
  get controllers(): readonly Controller[] {
    return this.#context.backend.controllers;
  }

  /**
   * Open a namespace (`'nvme0n1'`, `'/dev/nvme0n1'`), block device or file.
   * @throws P2pdmaError ENOENT, EISDIR, EACCES, EBUSY (in use; `force` overrides this), EROFS
   */
  async target(nameOrPath: string | URL, options: TargetOptions = {}): Promise<Target> {
    this.#context.assertOpen();
    const path = toPath(nameOrPath);
    parseOptions(targetOptions, options);
    return Target.over(this.#context, await this.#context.openTarget(path, options));
  }

  /**
   * Open a namespace, block device or file as `open()` of node:fs/promises does: the handle has the methods of its FileHandle
   * and takes any offset, length and memory. (`target()` gives what keeps the kernel's rules for O_DIRECT.) Files that are
   * appended to, pipes and character devices are read and written by node:fs.
   * @throws P2pdmaError as open(2) would; EINVAL: a socket, or a device with flags that only fit a file
   */
  async open(
    path: string | Buffer | URL,
    flags: string | number | null = 'r',
    mode?: number | string | null,
  ): Promise<P2pFileHandle> {
    this.#context.assertOpen();
    return P2pFileHandle.over(this.#context, await openForHandle(this.#context, path, flags, mode));
  }

  /** Create a Readable over a path; see the function `createReadStream`. */
  createReadStream(path: StreamPath, options?: ReadStreamOptions | BufferEncoding | null): P2pReadStream {
    return readerOn(contextOf(this), path, options);
  }

  /** Create a Writable over a path; see the function `createWriteStream`. */
  createWriteStream(path: StreamPath, options?: WriteStreamOptions | BufferEncoding | null): P2pWriteStream {
    return writerOn(contextOf(this), path, options);
  }

  /** Run `pipeline()` on this system; `options.system` is ignored. */
  async pipeline(
    source: PipelineSource,
    destinations: PipelineDestination | readonly PipelineDestination[],
    options: PipelineOptions = {},
  ): Promise<Receipt> {
    const { system: _, ...rest } = objectOptions(options);
    return copyBetween(contextOf(this), source, destinations, rest);
  }

  /** The published provider nearest to all these targets, as the streams would choose it; null: no provider is suitable. */
  findProvider(targets: readonly Target[]): string | null {
    assertEach('findProvider', 'targets', targets, {
      mustBe: 'Targets',
      fits: (end) => end instanceof Target,
    });
    return this.route(targets).provider;
  }

  /**
   * The route that a copy between these targets (the source first) would take. It is computed as the streams compute it
   * before they move the first byte. Names are resolved, but nothing is opened.
   */
  route(targets: readonly (Target | string)[]): RouteChoice {
    assertEach('route', 'targets', targets, {
      mustBe: 'Targets, names and paths',
      fits: (end) => end instanceof Target || typeof end === 'string',
    });
    const { backend } = this.#context;
    const ends = backend.together(() =>
      targets.map((end, i) =>
        end instanceof Target
          ? end.blockTarget
          : targetOf(end, backend.inspect(toPath(end), { write: i > 0, earlier: Math.max(0, i - 1) })),
      ),
    );
    const { transport, provider, reason, unproven } = chooseRoute(backend, ends, {});
    const clients = ends.map(({ client }) => client?.bdf ?? null);
    return { ...originOf(backend), transport, provider: provider?.bdf ?? null, reason, unproven, clients };
  }

  /**
   * Compute the kernel's verdict for a provider and its clients, before any I/O. Any PCI functions can be named: by address,
   * controller, namespace, block device or file. If the provider has no p2pmem, the verdict is the one that it would get
   * with p2pmem, and `notes` say so.
   *
   * With `try` the kernel itself is tested too, because some cases cannot be decided by a rule: for each pair, one block is
   * read into the provider's memory. Nothing is written to a drive, and only the memory for that block is allocated from the
   * pool. With `proposed` each verdict also says what would change with kernel patches that are not merged yet.
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
    const computed = explain(backend, provider, clients, { proposed });
    return asks ? this.#try([computed]).then(([tried]) => tried!) : computed;
  }

  /**
   * The verdicts for every provider with every NVMe drive. If there is no provider, every drive is treated as one. The options
   * mean the same as those of `explain()`.
   */
  explainAll(options?: { try?: false; proposed?: boolean }): Explanation[];
  explainAll(options: { try: true; proposed?: boolean }): Promise<Explanation[]>;
  explainAll(options: { try?: boolean; proposed?: boolean } = {}): Explanation[] | Promise<Explanation[]> {
    const { try: asks, proposed } = parseOptions(explainOptions, options);
    const computed = explainAll(this.#context.backend, { proposed });
    return asks ? this.#try(computed) : computed;
  }

  async #try(computed: readonly Explanation[]): Promise<Explanation[]> {
    this.#context.assertOpen();
    const { tryEach } = await trying();
    const tried: Explanation[] = [];
    for (const one of computed) tried.push(await tryEach(this.#context.backend, one));
    return tried;
  }

  /** The block devices over several drives: multipath heads and md arrays. */
  stacked(): Stacked[] {
    const { backend } = this.#context;
    return backend.together(() => stackedOn(backend));
  }

  /** The disks of this machine: what a person recognises them by. Nothing is opened. */
  disks(): readonly Disk[] {
    return this.#context.backend.disks();
  }

  /** Find out what is below a namespace, block device or file, without opening it; null: it does not exist. */
  locate(nameOrPath: string): Place | null {
    assertName('locate', 'nameOrPath', nameOrPath);
    return this.#context.backend.inspect(nameOrPath).place;
  }

  /**
   * Allocate memory from a provider's CMB (given by address or controller name), or from the host (`null`).
   *
   * CMB memory can be used for reads and writes with O_DIRECT, and by the CPU. Other calls fail (seen on kernel 6.12.117):
   * process_vm_readv and registration with io_uring return EFAULT; mlock and vmsplice return EREMOTEIO.
   * madvise(MADV_DONTNEED) returns the pages to the pool, and any later access to them raises SIGBUS.
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
   * A Readable of objects (TraceEvent): one for each crossing from one layer to the next, until the stream is destroyed. It is
   * process-wide: if several systems are open, it shows the events of all of them. If its consumer does not keep up, the
   * oldest events are dropped.
   */
  trace(): Readable {
    return traceStream();
  }

  /**
   * What this system has done and is doing: bytes by path, requests in flight, pools, errors by code. Whenever a stream or
   * target closes, the same numbers are published on the diagnostics channel `p2pdma:metrics`.
   */
  metrics(): Metrics {
    return this.#context.metrics();
  }

  /** This machine as JSON that the emulator can run. Serial numbers are left out unless they are requested. */
  snapshot(options: SnapshotOptions = {}): Record<string, unknown> {
    const wanted = parseOptions(snapshotOptions, options);
    return this.#context.backend.snapshot(wanted) as Record<string, unknown>;
  }

  /** For this package's own functions. @internal */
  get context(): StreamContext {
    return this.#context;
  }

  /**
   * Close every stream, target and allocation, and then the machine. Chunks that are still on loan are detached. Resolves to
   * a report of what was still held: all its numbers are zero unless something is wrong.
   */
  close(): Promise<LeakReport> {
    return this.#context.close();
  }

  /** Same as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Open a machine.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE, ERR_MACHINE_INVALID, ENOENT (machine file)
 */
export async function openSystem(options: SystemOptions = {}): Promise<System> {
  const system = await open(options);
  // For `p2pdma top`. Nothing is opened unless somebody asks for it.
  if (asksToBeObserved() && options.inspect !== true) await beObserved(system);
  return system;
}

function asksToBeObserved(): boolean {
  return !['', '0', undefined].includes(process.env.P2PDMA_OBSERVE);
}

async function beObserved(system: System): Promise<void> {
  try {
    await (await import('./observe/serve.js')).observe(system.context);
  } catch (error) {
    await system.close();
    throw error;
  }
}

async function open(options: SystemOptions): Promise<System> {
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
    return System.over(await openEmulated(machine ?? DEFAULT_PRESET, kernel));
  // Never fall back to the emulator: a caller who names no machine means this machine and the data on its drives.
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
 * Open a machine that is described by data that somebody sent: the text of lspci (`-xxxx`, `-vvvnn`, …), a folder or an archive
 * with sys/ and proc/, or a sosreport. It can be examined and explained like any other machine. Inputs are paths, URLs or bytes;
 * if there are several, their contents are combined. `evidence` says what was recognised and what is unknown as a result. Every
 * verdict treats it as unknown.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE: nothing in the input describes a machine; ENOENT, EACCES
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
  const paths = inputs.map((one) => (one instanceof Uint8Array ? one : toPath(one)));
  const given = parseOptions(describeOptions, options);
  if (given.kernel !== undefined) assertRelease(given.kernel);
  const { openSent } = await import('./dump/open.js');
  return System.over(await openSent(paths, given));
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

/** The system that `createReadStream(path)` and similar functions use if none is given. It is opened on first use. */
export function defaultSystem(): Promise<System> {
  shared ??= openSystem().catch((error: unknown) => {
    shared = null;
    throw error;
  });
  return shared;
}

/** What a stream is opened on: a path, a name such as `'nvme0n1'`, or nothing if the option `fd` says it. @inline */
export type StreamPath = string | Buffer | URL | null | undefined;

/**
 * Like `fs.createReadStream`, for namespaces, block devices and files, with O_DIRECT. `start` and `end` (inclusive) may
 * be unaligned. If the stream is piped into this package's writers, it lends them CMB slots; any other consumer gets
 * ordinary Buffers.
 */
export function createReadStream(
  path: StreamPath,
  options?: (ReadStreamOptions & { system?: System }) | BufferEncoding | null,
): P2pReadStream {
  return readerOn(contextOf(systemIn(options)), path, options);
}

/** Like `fs.createWriteStream`, for namespaces, block devices and files, with O_DIRECT. The data is durable at `finish`. */
export function createWriteStream(
  path: StreamPath,
  options?: (WriteStreamOptions & { system?: System }) | BufferEncoding | null,
): P2pWriteStream {
  return writerOn(contextOf(systemIn(options)), path, options);
}

function systemIn(options: { system?: System } | string | null | undefined): System | undefined {
  return typeof options === 'object' ? options?.system : undefined;
}

/** Whatever system the options name, the stream is opened in this one. */
function readerOn(
  context: OpenContext,
  path: StreamPath,
  options: ReadStreamOptions | BufferEncoding | null | undefined,
): P2pReadStream {
  const given = givenOptions(options, 'system');
  return P2pReadStream.over(pathSource(context, path, given, 'reader'), given);
}

/** Whatever system the options name, the stream is opened in this one. */
function writerOn(
  context: OpenContext,
  path: StreamPath,
  options: WriteStreamOptions | BufferEncoding | null | undefined,
): P2pWriteStream {
  const given = givenOptions(options, 'system');
  return P2pWriteStream.over(pathSource(context, path, given, 'writer'), given);
}

/**
 * Copy a source to one or several destinations (one read, n writes) and report the route of the bytes. The source and the
 * destinations may be paths, Targets, this package's streams, handles, and what `pipeline` of node:stream/promises takes: Node
 * streams, web streams, iterables and functions, whose data is in host memory. At least one end is not of the latter kinds.
 *
 * If it fails, or the signal aborts it, streams of other kinds are destroyed with the error, as in Node: a ReadableStream is
 * cancelled, a WritableStream aborted, an iterator returned, and a function's own signal aborted.
 *
 * When the promise resolves, the data is written, flushed (unless `flush: false`), and verified (if requested).
 */
export async function pipeline(
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
  options: PipelineOptions = {},
): Promise<Receipt> {
  const { system, ...rest } = objectOptions(options);
  return copyBetween(contextOf(system), source, destinations, rest);
}

/**
 * What `pipeline` with these arguments would do: its route and memory, what each destination holds and would lose, and what
 * would prevent the copy. Nothing is opened for writing. Its ends are paths, or streams and the like that are not of this
 * package: nothing is read from them, and no function is called.
 * @throws P2pdmaError if the copy is impossible: a source that cannot be read, bad options, overlap, a journal of
 * another copy
 */
export function planCopy(
  source: string | URL | Buffer,
  destinations: string | URL | Buffer | readonly (string | URL | Buffer)[],
  options?: PipelineOptions,
): Promise<CopyPlan & { readonly bytes: number }>;
export function planCopy(
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
  options?: PipelineOptions,
): Promise<CopyPlan>;
export async function planCopy(
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
  options: PipelineOptions = {},
): Promise<CopyPlan> {
  const { system, ...rest } = objectOptions(options);
  return planBetween(contextOf(system), source, destinations, rest);
}

/** The context of this system, or of the shared system if none is given. */
function contextOf(system: System | undefined): OpenContext {
  if (system !== undefined && !(system instanceof System)) {
    const demand = 'a System, from openSystem()';
    throw wrongOption('system', { code: 'ERR_INVALID_ARG_TYPE', demand, received: system });
  }
  return async () => (system ?? (await defaultSystem())).context;
}
