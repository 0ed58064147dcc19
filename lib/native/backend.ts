/**
 * The native backend: a machine that is read from sysfs, with memory and targets of the real kernel.
 *
 *     openNative({ root: '/' })       this machine: topology, memory, I/O
 *     openNative({ root: DIR })       a captured tree (sys/ and proc/): topology only, on any OS, without the addon
 */

import { join, resolve } from 'node:path';
import type {
  Backend,
  BlockTarget,
  Controller,
  Disk,
  End,
  LeakReport,
  Mapping,
  MemoryBackend,
  OpenOptions,
  PipeMove,
} from '../backend/backend.js';
import { whyNotByCommand } from '../backend/by-command.js';
import type { Evidence } from '../backend/evidence.js';
import type { SnapshotOptions } from '../backend/system-options.js';
import type { PciDev, Topology } from '../backend/topology.js';
import { optionError } from '../base/arguments.js';
import { EEXIST } from '../base/errno.js';
import { P2pdmaError } from '../base/errors.js';
import { Members } from '../base/members.js';
import { assertNoDeviceName } from '../host/device-names.js';
import { deviceNumber, openFileRange } from '../host/file-range.js';
import { loadAddon } from './addon.js';
import { btrfsWay } from './btrfs-way.js';
import { isInMemory, SMALL } from './direct-io.js';
import {
  acquireEngine,
  type Completer,
  type EngineKind,
  FLAG_THREAD,
  type NativeEngine,
  OP_PIPE_READ,
  OP_PIPE_WRITE,
  OP_TRUNCATE,
} from './engine.js';
import { accessHint, nativeError } from './errors.js';
import type { FileStat } from './file-stat.js';
import { externalBuffersReason, NativeMemory } from './memory.js';
import { isFile, type Opened, openFileThere, openPath } from './open.js';
import { startPump } from './pump.js';
import { directoryOf, foundBy, inspect, isSameFile, pathOf, rangesOf } from './sysfs/inspect.js';
import { type BlockInfo, type MountedInfo, readSysfs, type Sysfs } from './sysfs/machine.js';
import { snapshotMachine } from './sysfs/snapshot.js';
import { SysfsTree } from './sysfs/tree.js';
import { NativeTarget } from './target.js';
import { trace, tracing } from './trace.js';
import { TurnBudget } from './turn-budget.js';
import { WatchedMounts } from './watched-mounts.js';

export interface NativeOptions {
  /** The directory that contains sys/ and proc/; default `/`, this machine. */
  readonly root?: string;
  /** Default engine of targets; default 'auto'. */
  readonly engine?: 'auto' | EngineKind;
  /** Inspect only: without the addon and without I/O. */
  readonly inspect?: boolean;
  /** Apply the rules of this kernel instead of the running one's; for inspection only. */
  readonly kernel?: string;
}

/**
 * Open the native backend.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE: not Linux, no addon, or the requested engine is refused.
 */
export async function openNative(options: NativeOptions = {}): Promise<NativeBackend | CapturedBackend> {
  const root = options.root ?? '/';
  if (resolve(root) !== '/' && new SysfsTree(root).dir('sys') === null) {
    throw optionError('ERR_BACKEND_UNAVAILABLE', 'root', `there is no '${join(root, 'sys')}'`, {
      path: root,
      received: root,
      hint: 'Name the folder that holds the captured sys/ and proc/.',
    });
  }
  const sysfs = readSysfs(root, options.kernel);
  if (!sysfs.live || options.inspect === true) {
    if (!sysfs.live && resolve(root) === '/') throw noSysfs();
    return new CapturedBackend(sysfs);
  }
  if (options.kernel !== undefined) throw noOtherKernel(options.kernel);
  loadAddon();
  return new NativeBackend(sysfs, options.engine ?? 'auto');
}

function noOtherKernel(kernel: string): P2pdmaError {
  return new P2pdmaError(
    'ERR_INVALID_ARG_VALUE',
    `option kernel: I/O here is done by the running kernel, not by the one that is named (received '${kernel}')`,
    { hint: 'Ask with inspect: true, or drop kernel.' },
  );
}

function noSysfs(): P2pdmaError {
  return new P2pdmaError(
    'ERR_BACKEND_UNAVAILABLE',
    `this is ${process.platform}, which has no Linux sysfs to look at`,
    {
      hint: (option) =>
        `To try it here, emulate a machine: ${option('machine', "'switch'")}. A captured tree is looked at with option ${option('root')}.`,
    },
  );
}

/** A backend that is garbage-collected releases its engine; targets and memory have finalizers of their own. */
const forgotten = new FinalizationRegistry<{ engine: NativeEngine; mounts: WatchedMounts }>(
  ({ engine, mounts }) => {
    mounts.close();
    engine.release();
  },
);

/** Weak, so that a target that nobody uses is collected. */
interface HeldTarget {
  ref: WeakRef<NativeTarget> | null;
}

/** What was opened, and what is known of the place where it is. */
interface FoundOpen {
  readonly opened: Opened;
  readonly info: MountedInfo | null;
  readonly path: string;
}

export class NativeBackend implements Backend {
  readonly name = 'native';
  readonly machine = null;
  readonly notice = null;
  readonly release: string | null;
  readonly topology: Topology;
  readonly controllers: readonly Controller[];
  readonly memory: NativeMemory;
  /** The engine that was chosen, and the reason. */
  readonly engine: EngineKind;
  readonly engineReason: string;
  /** The reason why CMB memory is not available in this runtime on any hardware, or null. */
  readonly noExternalBuffers: string | null;
  readonly sysfs: Sysfs;
  readonly #engine: NativeEngine;
  readonly #mounts: WatchedMounts;
  readonly #targets = new Members<HeldTarget>();
  readonly #turns = new TurnBudget();
  #closing: Promise<LeakReport> | null = null;

  constructor(sysfs: Sysfs, engine: 'auto' | EngineKind) {
    this.sysfs = sysfs;
    this.release = sysfs.kernel.release;
    this.topology = sysfs.topology;
    this.controllers = sysfs.controllers;
    this.#engine = acquireEngine(engine);
    this.engine = this.#engine.kind;
    this.engineReason = this.#engine.reason;
    this.noExternalBuffers = externalBuffersReason();
    this.memory = new NativeMemory(sysfs);
    this.#mounts = new WatchedMounts(loadAddon());
    sysfs.takeMountsFrom(this.#mounts);
    forgotten.register(this, { engine: this.#engine, mounts: this.#mounts }, this);
    if (tracing()) trace('native-backend', 'open', { engine: this.engine, reason: this.engineReason });
  }

  openTarget(nameOrPath: string, options: OpenOptions): Promise<BlockTarget> {
    const turn = this.#turns.wait();
    const open = () => this.#openTarget(nameOrPath, options);
    return turn === null ? open() : turn.then(open);
  }

  async #openTarget(nameOrPath: string, options: OpenOptions): Promise<BlockTarget> {
    this.#mustBeOpen();
    const found = this.#openFileThere(nameOrPath, options) ?? (await this.#open(nameOrPath, options));
    const { opened, info, path } = found;
    const passthrough = options.engine === 'passthrough';
    let engine: NativeEngine;
    try {
      const emptying = opened.toEmpty === null ? null : this.#empty(found, opened.toEmpty);
      if (emptying !== null) await emptying;
      // The ranges of a device are read from sysfs.
      const turn = opened.kind === 'file' ? null : this.#turns.wait();
      if (turn !== null) await turn;
      this.#mustBeOpen();
      engine = this.#engineFor(options);
    } catch (error) {
      loadAddon().closeFd(opened.fd);
      throw error;
    }
    // For a file that did not exist before, this is the first time that its own facts are known.
    const now = info ?? this.sysfs.blockInfo(path);
    const held: HeldTarget = { ref: null };
    const kind = opened.kind === 'file' ? 'file' : (now?.kind ?? 'block');
    const { noP2pReason, unproven } = this.#wayOf(opened, now, { path, passthrough });
    const target = new NativeTarget(
      opened,
      {
        name: now?.kind !== 'file' && now?.name ? now.name : nameOrPath,
        path,
        kind,
        client: now?.client ?? null,
        legs: now?.legs ?? null,
        noP2pReason,
        unproven,
        metadataBytes: now?.metadataBytes ?? null,
        zones: now?.zones ?? null,
        fileSystem: opened.kind === 'file' ? (now?.fileSystem ?? null) : null,
        ranges:
          kind === 'file'
            ? [openFileRange(path, opened.identity)]
            : this.#turns.spend(() => rangesOf(this.sysfs, path, now)),
      },
      engine,
      { topology: this.topology, passthrough, onClose: forget(this.#targets, held) },
    );
    held.ref = new WeakRef(target);
    this.#targets.add(held);
    if (passthrough) await mustBePlain(target);
    if (tracing()) {
      const { name, kind, buffered } = target;
      trace('native-backend', 'open_target', { target: name, path, kind, buffered, engine: target.engine });
    }
    return target;
  }

  /** Open what is there, with the facts that `inspect` found, if it is still the same file. */
  async #open(nameOrPath: string, options: OpenOptions): Promise<FoundOpen> {
    const look = foundBy(options.end);
    if (look?.nothingIn != null && look.nothingIn === directoryOf(nameOrPath)) {
      const made = await this.#make(nameOrPath, options, look.info);
      if (made !== null) return made;
    }
    if (look === null || look.file === null || options.exclusive === true) {
      return this.#openAs(nameOrPath, options, this.#infoOf(nameOrPath));
    }
    try {
      const found = await this.#openAs(nameOrPath, options, look.info);
      if (found.opened.identity === look.file) return found;
      loadAddon().closeFd(found.opened.fd);
    } catch (error) {
      if (isSameFile(nameOrPath, look.file)) throw error;
    }
    // The path leads to something else by now.
    return this.#openAs(nameOrPath, options, this.#infoOf(nameOrPath));
  }

  #mustBeOpen(): void {
    if (this.#closing !== null) throw new P2pdmaError('ERR_TARGET_CLOSED', 'the system is closed');
  }

  /** Retained for one target. */
  #engineFor({ engine }: OpenOptions): NativeEngine {
    return engine === 'uring' || engine === 'threads' ? acquireEngine(engine) : this.#engine.retain();
  }

  /** The common case: a file that is there, of which nobody has asked yet. Null: it takes more than one call to find out. */
  #openFileThere(nameOrPath: string, options: OpenOptions): FoundOpen | null {
    const byName = !nameOrPath.includes('/');
    if (byName || options.engine === 'passthrough' || foundBy(options.end) !== null) return null;
    const infoOf = ({ device }: FileStat) =>
      this.sysfs.fileOn(deviceNumber(device)) ?? this.sysfs.blockInfo(nameOrPath);
    const found = this.#turns.spend(() => openFileThere(loadAddon(), nameOrPath, options, infoOf));
    if (found === null) return null;
    const { opened, info } = found;
    return { opened, info, path: nameOrPath };
  }

  /** As O_TRUNC does, also to a file that is empty, whose times it sets. Null: it is done, because that was short. */
  #empty({ opened: { fd }, info, path }: FoundOpen, size: number): Promise<void> | null {
    const isDone = (result: number) => {
      if (result < 0) throw nativeError(result, 'open', path, accessHint(result, path));
    };
    if (size > 0 && (size > SMALL || !isInMemory(info?.fileSystem ?? null))) {
      return this.#engine.call({ op: OP_TRUNCATE, flags: 0, fd }).then(isDone);
    }
    isDone(loadAddon().empty(fd));
    return null;
  }

  #infoOf(nameOrPath: string): BlockInfo | null {
    return this.#turns.spend(() => this.sysfs.blockInfo(nameOrPath));
  }

  /** Make the file that was not there, in the directory that was looked at; null: something is there now, or it is not to be made. */
  async #make(nameOrPath: string, options: OpenOptions, info: BlockInfo | null): Promise<FoundOpen | null> {
    if (options.write !== true || options.create !== true) return null;
    try {
      return await this.#openAs(nameOrPath, { ...options, exclusive: true }, info, true);
    } catch (error) {
      if (error instanceof P2pdmaError && error.errno === -EEXIST) return null;
      throw error;
    }
  }

  /** @param nothing nothing was there a moment ago, so it is no device */
  async #openAs(
    nameOrPath: string,
    options: OpenOptions,
    info: BlockInfo | null,
    nothing = false,
  ): Promise<FoundOpen> {
    const path = pathOf(nameOrPath, info);
    const unfit = whyNotByCommand({ machine: null }, { path, kind: info?.kind ?? 'file' }, options.engine);
    if (unfit !== null) {
      if (!isFile(info)) assertNoDeviceName(path, this.controllers, { create: options.create === true });
      throw unfit;
    }
    const opener = { addon: loadAddon(), engine: this.#engine, controllers: this.controllers };
    return { opened: await openPath(opener, path, options, info, nothing), info, path };
  }

  /** Whether its route is direct: first according to its block devices and its filesystem, then according to the open file. */
  #wayOf(
    opened: Opened,
    info: MountedInfo | null,
    { path, passthrough }: { readonly path: string; readonly passthrough: boolean },
  ): { noP2pReason: string | null; unproven: string | null } {
    if (opened.buffered !== null) return { noP2pReason: opened.buffered, unproven: null };
    if (info === null) return { noP2pReason: 'nothing is known of its block device', unproven: null };
    const { mountOptions, directFileSystem } = info;
    const noP2pReason = passthrough ? info.noP2pByCommand : info.noP2pReason;
    const unproven = info.dioAlignProves && opened.dioKnown ? null : info.unproven;
    if (noP2pReason !== null || directFileSystem !== 'btrfs') return { noP2pReason, unproven };
    const way = btrfsWay(loadAddon(), opened.fd, {
      ...{ path, write: opened.writable, mountOptions },
      version: this.sysfs.kernel.version,
    });
    // On overlayfs, it remains unproven which layer is used.
    const layer = info.fileSystem === 'btrfs' ? null : unproven;
    return { noP2pReason: way.noP2p, unproven: way.unproven ?? layer };
  }

  readonly pump = startPump;

  movePipe({ op, fd, view }: PipeMove, done: (moved: number, ended: boolean) => void): void {
    const token = { offset: 0, segments: [view], done };
    const code = op === 'read' ? OP_PIPE_READ : OP_PIPE_WRITE;
    const refused = this.#engine.readWrite(pipeMoved, token, code, FLAG_THREAD, fd);
    if (refused !== 0) queueMicrotask(() => done(refused, false));
  }

  snapshot(options: SnapshotOptions = {}): unknown {
    return snapshotMachine(this.sysfs, options);
  }

  get arrays(): readonly string[] {
    return arraysOf(this.sysfs);
  }

  disks(only?: readonly string[]): Disk[] {
    return this.sysfs.disks(only);
  }

  inspect(nameOrPath: string): End {
    return inspect(this.sysfs, nameOrPath);
  }

  together<T>(ask: () => T): T {
    return this.sysfs.together(ask);
  }

  close(): Promise<LeakReport> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Close everything that the user left open; what is still held afterwards is the leak. */
  async #close(): Promise<LeakReport> {
    const targets = [...this.#targets].map(({ ref }) => ref?.deref());
    await Promise.allSettled(targets.map((target) => target?.close()));
    this.memory.close();
    const { mappings, p2pmem } = this.memory.held;
    const open = [...this.#targets].filter(({ ref }) => ref?.deref() !== undefined).length;
    const requests = targets.reduce((sum, target) => sum + (target?.inFlight ?? 0), 0);
    forgotten.unregister(this);
    this.sysfs.takeMountsFrom(null);
    this.#mounts.close();
    this.#engine.release();
    return { iovas: 0, pages: 0, slots: p2pmem, requests, handles: mappings + open };
  }
}

const pipeMoved: Completer<{ done(moved: number, ended: boolean): void }> = {
  completed: ({ done }, moved, ended) => done(moved, ended !== 0),
};

/** This closure is created here so that it references only the table and not the backend. */
function forget(targets: Members<HeldTarget>, held: HeldTarget): () => void {
  return () => {
    targets.delete(held);
    held.ref = null;
  };
}

/** Engine 'passthrough' carries no metadata: the namespace must have none. @throws P2pdmaError EOPNOTSUPP */
async function mustBePlain(target: NativeTarget): Promise<void> {
  try {
    await target.commandsAlone();
  } catch (error) {
    await target.close();
    throw error;
  }
}

/** A tree that was copied from another machine, or this machine when it is only inspected: it can be explained but not used. */
export class CapturedBackend implements Backend {
  readonly name = 'native';
  readonly machine = null;
  readonly notice = null;
  readonly release: string | null;
  readonly topology: Topology;
  readonly controllers: readonly Controller[];
  readonly memory: MemoryBackend;
  readonly evidence: Evidence | null;
  /** The function after which what was sent may be cut; null: all functions are there, as far as can be seen. */
  readonly cutAfter: string | null;
  readonly sysfs: Sysfs;
  readonly engine = null;

  constructor(sysfs: Sysfs, evidence: Evidence | null = null, cutAfter: string | null = null) {
    this.sysfs = sysfs;
    this.evidence = evidence;
    this.cutAfter = cutAfter;
    this.release = sysfs.kernel.release;
    this.topology = sysfs.topology;
    this.controllers = sysfs.controllers;
    this.memory = {
      mmapP2pmem: (provider: PciDev): Mapping => this.#refuse(provider.bdf),
      allocHost: (): Mapping => this.#refuse('host memory'),
      allocBuffer: (): Uint8Array => this.#refuse('host memory'),
      available: (provider) => sysfs.p2pmem(provider)?.available ?? 0,
    };
  }

  #refuse(what: string): never {
    if (this.sysfs.live) {
      throw new P2pdmaError(
        'ERR_BACKEND_UNAVAILABLE',
        `this machine was opened for inspection only (${what})`,
        {
          hint: 'Open it without inspect.',
        },
      );
    }
    throw new P2pdmaError(
      'ERR_BACKEND_UNAVAILABLE',
      `'${this.sysfs.root}' is a captured tree, not this machine (${what})`,
      {
        path: this.sysfs.root,
        hint: "A captured tree can be explained. To run on it, load its snapshot with backend 'emulator'.",
      },
    );
  }

  async openTarget(nameOrPath: string): Promise<BlockTarget> {
    return this.#refuse(nameOrPath);
  }

  snapshot(options: SnapshotOptions = {}): unknown {
    return snapshotMachine(this.sysfs, options);
  }

  get arrays(): readonly string[] {
    return arraysOf(this.sysfs);
  }

  disks(only?: readonly string[]): Disk[] {
    return this.sysfs.disks(only);
  }

  inspect(nameOrPath: string): End {
    return inspect(this.sysfs, nameOrPath);
  }

  together<T>(ask: () => T): T {
    return this.sysfs.together(ask);
  }

  async close(): Promise<LeakReport> {
    return { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };
  }
}

function arraysOf(sysfs: Sysfs): string[] {
  return sysfs.devices.arrays().filter((name) => (inspect(sysfs, name).place?.clients.length ?? 0) > 0);
}
