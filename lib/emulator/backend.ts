/**
 * The emulated machine as the streams see it, and the interfaces that only tests and curious users need: the character
 * devices, faults, and the hardware itself.
 */

import { closeSync, constants, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { resolve as resolvePath } from 'node:path';
import {
  type Backend,
  type Controller,
  type Disk,
  type End,
  findController,
  type InspectOptions,
  knownNamespaces,
  type LeakReport,
  type Mapping,
  type OpenOptions,
  type PassthroughCommand,
  type PassthroughResult,
  type Place,
} from '../backend/backend.js';
import { whyNotByCommand } from '../backend/by-command.js';
import { parseRelease } from '../backend/kernel-release.js';
import { bareName } from '../backend/names.js';
import { emptyNamespaceHint } from '../backend/namespace-kinds.js';
import type { SnapshotOptions } from '../backend/system-options.js';
import type { Topology } from '../backend/topology.js';
import {
  EBUSY,
  EINVAL,
  EIO,
  EISDIR,
  EMFILE,
  ENODEV,
  ENOENT,
  ENXIO,
  EOPNOTSUPP,
  EROFS,
} from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { Members } from '../base/members.js';
import { type TraceOrigin, tracedAs } from '../base/trace.js';
import { assertNoDeviceName } from '../host/device-names.js';
import { fileRange } from '../host/file-range.js';
import { notCopyable, notEmpty, statOrNull } from '../host/path-advice.js';
import type { Gendisk } from '../kernel/bio.js';
import { iovasInUse } from '../kernel/dma-iommu.js';
import { type NvmeNs, nvmeScanWork } from '../kernel/nvme-core.js';
import { nvmeSubmitUserCmd } from '../kernel/nvme-ioctl.js';
import { pciHasP2pmem } from '../kernel/pci-p2pdma.js';
import { withheldFromPrograms } from '../kernel/releases/table.js';
import { disksOf, onEveryPath } from '../machine/disks.js';
import { madeUpSerial } from '../machine/layout.js';
import { type Fault, type Machine, partitionName } from '../machine/machine.js';
import { type BlockDevice, BlockDevices, endOf, onlyOf } from './block-devices.js';
import { EmulatorMemory } from './memory.js';
import { noticeOf } from './notice.js';
import { ImageStore } from './nvme/image-store.js';
import { FileStore } from './nvme/store.js';
import { startPump } from './pump.js';
import {
  type Drive,
  emulated,
  exhaustPool,
  noP2pReason,
  type RunningMachine,
  releaseReserved,
} from './running-machine.js';
import { EmulatorTarget } from './target.js';

/** /dev/nvme0: the character device of the RFC. */
export interface CharDevice {
  readonly path: string;
  /**
   * mmap(): allocates from the CMB wherever there is room; the offset is ignored.
   * @throws P2pdmaError EINVAL (private), ENOMEM, ENODEV (no CMB)
   */
  mmap(request: { readonly length: number; readonly offset?: number; readonly shared?: boolean }): Mapping;
  /** NVME_IOCTL_ADMIN64_CMD. @throws P2pdmaError EREMOTEIO (CMB memory) */
  ioctl(command: PassthroughCommand): Promise<PassthroughResult>;
}

/** The number of machines created so far. Each machine has its own drives. */
let machines = 0;

/** Matches the name of a block device, whether or not such a disk exists. */
const DEVICE = /^(nvme\d+n\d+(p\d+)?|md\d+)$/;

const NO_PARITY =
  'The emulator describes arrays with parity, and does not run them: it has no copy of their data to read or write.';

/** What a target is created from. */
type Opened = Pick<BlockDevice, 'name' | 'drives' | 'legs' | 'noP2pReason' | 'ranges' | 'zones'> & {
  readonly door: BlockDevice['door'] | undefined;
  readonly disk: Gendisk;
  readonly path: string;
  readonly write: boolean;
  readonly made: boolean;
  readonly file: FileStore | null;
};

/** How long close() waits for requests in flight, in ms. */
const CLOSE_GRACE = 1000;

export class EmulatorBackend implements Backend {
  readonly name = 'emulator';
  readonly pump = startPump;
  readonly memory: EmulatorMemory;
  /** The running machine behind this backend. */
  readonly running: RunningMachine;
  readonly #number = machines++;
  readonly #origin: TraceOrigin;
  readonly #targets = new Members<EmulatorTarget>();
  readonly #devices: BlockDevices;
  /** Files attached to a drive as namespaces. They are not listed as namespaces. */
  readonly #files = new Map<NvmeNs, Drive>();
  /** Block devices open for writing. */
  readonly #writers = new Map<string, number>();
  /** Determines the drive on which the next file opened for writing is put. */
  #nextDrive = 0;
  #closing: Promise<LeakReport> | null = null;

  constructor(running: RunningMachine) {
    this.running = running;
    this.#origin = emulated(running.machine);
    this.memory = new EmulatorMemory(
      running.mm,
      this.#origin,
      withheldFromPrograms(parseRelease(running.machine.kernel)),
    );
    this.#devices = new BlockDevices(running, this.#number);
  }

  get topology(): Topology {
    return this.running.fabric.topology;
  }

  get release(): string {
    return this.running.machine.kernel;
  }

  get machine(): string {
    return this.description.name;
  }

  get notice(): string {
    return noticeOf(this.description, this.running.notRegistered);
  }

  /** The machine description that it was created from. */
  get description(): Machine {
    return this.running.machine;
  }

  get arrays(): readonly string[] {
    const names = this.description.arrays.map(({ name }) => name);
    return names.filter((name) => this.#devices.find(name) !== null);
  }

  get controllers(): readonly Controller[] {
    return this.#present().map(({ driver, hardware }) => ({
      name: driver.ctrl.name,
      pdev: hardware.pdev,
      transport: 'pcie',
      model: driver.ctrl.model,
      namespaces: driver.ctrl.namespaces
        .filter((ns) => !this.#files.has(ns))
        .map((ns) => ({
          name: this.#devices.diskOf(driver.ctrl.name, ns.nsid)?.name ?? ns.name,
          nsid: ns.nsid,
          size: ns.capacity,
          logicalBlockSize: ns.limits.logicalBlockSize,
        })),
      cmb:
        driver.cmb.size === 0
          ? null
          : {
              size: driver.cmb.size,
              published: pciHasP2pmem(hardware.pdev),
              unusable: driver.cmb.unusable,
            },
    }));
  }

  #present(): Drive[] {
    return this.running.drives.filter(({ driver }) => driver.ctrl.state !== 'NVME_CTRL_DEAD');
  }

  #drive(nameOrBdf: string, syscall: string): Drive {
    const found = findController(this.controllers, bareName(nameOrBdf));
    const drive = this.#present().find(({ hardware }) => hardware.pdev === found?.pdev);
    if (drive === undefined) throw errnoError(-ENODEV, syscall, nameOrBdf);
    return drive;
  }

  #assertOpen(): void {
    if (this.#closing !== null) throw new P2pdmaError('ERR_STREAM_DESTROYED', 'the system is closed');
  }

  async openTarget(nameOrPath: string, options: OpenOptions = {}): Promise<EmulatorTarget> {
    this.#assertOpen();
    const unfit = whyNotByCommand(this, { path: nameOrPath, kind: 'file' }, options.engine);
    if (unfit !== null) throw unfit;
    const name = bareName(nameOrPath);
    return DEVICE.test(name) ? this.#openDevice(name, options) : this.#openFile(nameOrPath, options);
  }

  async #openDevice(name: string, options: OpenOptions): Promise<EmulatorTarget> {
    const path = `/dev/${name}`;
    const found = this.#devices.find(name);
    if (found === null)
      throw errnoError(-ENOENT, 'open', path, { hint: knownNamespaces(this.controllers, name) });
    const { disk, readOnly, media, empty } = found;
    if (empty !== null) {
      throw errnoError(-ENXIO, 'open', path, { hint: emptyNamespaceHint(empty.metadata) });
    }
    if (disk === null) throw errnoError(-EOPNOTSUPP, 'open', path, { hint: NO_PARITY });
    const write = options.write ?? false;
    for (const medium of write && !readOnly ? media : []) {
      if (!(medium instanceof ImageStore)) continue;
      await medium.assertWritable();
      this.#assertOpen();
    }
    const writers = this.#writers.get(name) ?? 0;
    if (write && readOnly) throw errnoError(-EROFS, 'open', path);
    const holder = this.#devices.holderOf(found);
    if (write && (writers > 0 || holder !== null) && options.force !== true) {
      const why =
        holder === null ? 'is open for writing already. Close it' : `is a member of ${holder}. Write to that`;
      throw errnoError(-EBUSY, 'open', path, {
        hint: (option) => `'${path}' ${why}, or pass ${option('force')} if you are sure.`,
      });
    }
    if (write) this.#writers.set(name, writers + 1);
    const { drives, legs, noP2pReason, ranges, zones, door } = found;
    const opened = {
      name,
      path,
      disk,
      drives,
      legs,
      noP2pReason,
      ranges,
      zones,
      door,
      write,
      made: false,
      file: null,
    };
    return this.#newTarget(opened, async () => {
      if (write) this.#writers.set(name, this.#writers.get(name)! - 1);
    });
  }

  inspect(nameOrPath: string, { write = false, earlier = 0 }: InspectOptions = {}): End {
    const found = this.#devices.find(nameOrPath);
    return found === null
      ? this.#inspectFile(nameOrPath, write ? 1 + this.#nextDrive + earlier : 0)
      : endOf(this.#devices, found, (name) => (this.#writers.get(name) ?? 0) > 0);
  }

  disks(only?: readonly string[]): Disk[] {
    const alive = this.#present().map(({ driver }) => driver.ctrl.name);
    return disksOf(this.description).flatMap(({ name, controllers, namespace }) => {
      const through = controllers.find((controller) => alive.includes(controller));
      const nvme = this.description.functions.find((fn) => fn.nvme?.name === through)?.nvme;
      if (nvme == null || only?.includes(name) === false) return [];
      const { size, nsid, partitions } = namespace;
      const { model, serial } = nvme;
      const parts = partitions.map(({ number }) => ({ name: partitionName(name, number), record: null }));
      // udev's name for it.
      const ids = [`nvme-${`${model} ${serial}`.replaceAll(/\s+/g, '_')}_${nsid}`];
      return [{ name, size, model, serial, ids, record: null, partitions: parts }];
    });
  }

  together<T>(ask: () => T): T {
    return ask();
  }

  /** Describes a file as if it were on the drive that will be chosen when it is opened. */
  #inspectFile(nameOrPath: string, turn: number): End {
    const path = resolvePath(nameOrPath);
    const drive = this.#driveAt(turn);
    return {
      path,
      kind: 'file',
      size: sizeOf(path),
      client: drive?.driver.hw.pdev ?? null,
      noP2pReason: drive === null ? this.#noDrives() : noP2pReason(drive.driver, this.description),
      unproven: null,
      inUse: null,
      readOnly: false,
      identity: null,
      endsWithProcess: false,
      ranges: [fileRange(path)],
      place: isPath(nameOrPath) ? A_FILE : null,
    };
  }

  /** Opens a file of the host. It is attached to one of the drives as a namespace for as long as it is open. */
  async #openFile(file: string, options: OpenOptions): Promise<EmulatorTarget> {
    const path = resolvePath(file);
    const write = options.write ?? false;
    assertNoDeviceName(file, this.controllers, { create: write && options.create === true });
    assertOrdinary(path, write);
    const drive = this.#chooseDrive(write, options.controller);
    const { driver, hardware } = drive;
    const made = write && options.create === true && (options.exclusive === true || !existsSync(path));
    // This check comes before the file is created or truncated.
    if (hardware.full) throw tooManyFiles(path, hardware);
    const blockSize = driver.ctrl.namespaces[0]?.limits.logicalBlockSize ?? 512;
    const store = await FileStore.open(path, {
      kind: 'file',
      blockSize,
      readOnly: !write,
      create: write && options.create === true,
      exclusive: write && options.exclusive === true,
      truncate: write && options.truncate === true,
      mode: options.mode,
    });
    let ns: NvmeNs | undefined;
    let nsid: number | null = null;
    try {
      this.#assertOpen();
      if (hardware.full) throw tooManyFiles(path, hardware);
      nsid = hardware.attachNamespace(store);
      await scanned(driver);
      ns = driver.ctrl.namespaces.find((candidate) => candidate.nsid === nsid);
      if (ns === undefined) throw errnoError(-EIO, 'open', path);
      this.#files.set(ns, drive);
    } catch (error) {
      if (nsid !== null) hardware.detachNamespace(nsid);
      await store.close();
      if (error instanceof P2pdmaError) throw error;
      // The drive was removed while it was scanned for the file's namespace.
      throw errnoError(-ENXIO, 'open', path, { cause: error });
    }
    const attached = ns;
    const opened = {
      name: file,
      path,
      disk: attached,
      drives: [drive],
      legs: null,
      noP2pReason: noP2pReason(driver, this.description),
      ranges: [fileRange(path)],
      zones: null,
      door: () => attached,
      write,
      made,
      file: store,
    };
    return this.#newTarget(opened, async () => {
      hardware.detachNamespace(attached.nsid);
      if (driver.ctrl.state === 'NVME_CTRL_LIVE') await nvmeScanWork(driver.ctrl).catch(() => {});
      this.#files.delete(attached);
      await store.close();
    });
  }

  /** Files to read are on the first drive; files to write go to the other drives in turn. So a copy crosses the bus. */
  #chooseDrive(write: boolean, named: string | undefined): Drive {
    if (named !== undefined) return this.#drive(named, 'open');
    const drive = this.#driveAt(write ? 1 + this.#nextDrive++ : 0);
    if (drive === null) throw new P2pdmaError('ENODEV', this.#noDrives());
    return drive;
  }

  /** Turn 0 is the first drive; turns from 1 on are the other drives in turn. Null: there is no drive. */
  #driveAt(turn: number): Drive | null {
    const drives = this.#present();
    if (turn === 0 || drives.length <= 1) return drives[0] ?? null;
    return drives[1 + ((turn - 1) % (drives.length - 1))]!;
  }

  #noDrives(): string {
    return `the machine '${this.machine}' has no NVMe controller for files`;
  }

  #newTarget(of: Opened, close: () => Promise<void>): EmulatorTarget {
    const { mm, clock } = this.running;
    // Without a spread: Node 20 keeps an object that has fields after one until a full collection.
    const target = new EmulatorTarget({
      name: of.name,
      path: of.path,
      disk: of.disk,
      door: of.door,
      legs: of.legs,
      noP2pReason: of.noP2pReason,
      zones: of.zones,
      ranges: of.ranges,
      write: of.write,
      made: of.made,
      file: of.file,
      mm,
      clock,
      origin: this.#origin,
      client: onlyOf(of.drives.map(({ hardware }) => hardware.pdev)),
      onClose: async (closed) => {
        this.#targets.delete(closed);
        await close();
      },
    });
    this.#targets.add(target);
    return target;
  }

  /** A character device such as /dev/nvme0, by name, path or BDF. @throws P2pdmaError ENODEV */
  charDevice(controller: string): CharDevice {
    this.#assertOpen();
    const { driver } = this.#drive(controller, 'open');
    const path = `/dev/${driver.ctrl.name}`;
    return {
      path,
      mmap: ({ length, shared = true }) => {
        const mapping = tracedAs(this.#origin, () => driver.cmb.mmap(length, shared));
        if (typeof mapping === 'number') throw errnoError(mapping, 'mmap', path);
        return this.memory.track(mapping, () => mapping.munmap());
      },
      ioctl: async (command) => {
        const {
          errno,
          status,
          resultLo,
          resultHi,
          path: bytes,
        } = await tracedAs(this.#origin, () =>
          nvmeSubmitUserCmd(this.running.mm, driver.ctrl, null, command),
        );
        if (errno !== 0) throw errnoError(errno, 'ioctl', path);
        return { status, result: (BigInt(resultHi) << 32n) | BigInt(resultLo), path: bytes };
      },
    };
  }

  /** Injects a fault, which takes effect from now on. */
  inject(fault: Fault): void {
    for (const one of onEveryPath(this.description, fault)) {
      for (const { hardware } of this.running.drives) hardware.faults.add(one);
    }
    if (fault.kind === 'drop-peer-writes') {
      const pdev = this.topology.find(fault.function);
      if (pdev === null) throw errnoError(-ENODEV, 'inject', fault.function);
      this.running.fabric.dropPeerWrites(pdev);
    }
    exhaustPool(this.running, fault);
  }

  /** Removes a drive by surprise. Its driver is notified one turn later. */
  remove(controller: string): void {
    const { hardware } = this.#drive(controller, 'remove');
    tracedAs(this.#origin, () => hardware.remove());
  }

  /** The machine as it runs now: its description without the drives that were removed. */
  snapshot({ withSerials = false, name }: SnapshotOptions = {}): Machine {
    const { machine, fabric } = this.running;
    const present = machine.functions
      .filter((fn) => fabric.isPresent(fabric.topology.find(fn.bdf)!))
      .map((fn) =>
        fn.nvme === null || withSerials ? fn : { ...fn, nvme: { ...fn.nvme, serial: madeUpSerial(fn.bdf) } },
      );
    const bdfs = new Set(present.map((fn) => fn.bdf));
    const names = new Set(present.map((fn) => fn.nvme?.name));
    const concerns = (fault: Fault): boolean => {
      switch (fault.kind) {
        case 'drop-peer-writes':
          return bdfs.has(fault.function);
        case 'media-error':
          return onEveryPath(machine, fault).some((one) => names.has(one.namespace.replace(/n\d+$/, '')));
        default:
          return names.has(fault.controller) || bdfs.has(fault.controller);
      }
    };
    const faults = machine.faults.filter(concerns);
    return structuredClone({
      ...machine,
      ...stacksOf(machine, names),
      name: name ?? machine.name,
      description: takenOf(machine),
      emulated: true,
      functions: present,
      faults,
    }) as Machine;
  }

  close(): Promise<LeakReport> {
    this.#closing ??= tracedAs(this.#origin, () => this.#shutdown());
    return this.#closing;
  }

  async #shutdown(): Promise<LeakReport> {
    const { running, memory } = this;
    const handles = this.#targets.size;
    await this.#quiet();
    let requests = 0;
    for (const target of this.#targets) requests += target.inFlight;
    for (const { driver } of running.drives) await driver.shutdown();
    await Promise.all([...this.#targets].map((target) => target.close()));

    let slots = memory.mapped;
    memory.unmapAll();
    slots += releaseReserved(running);
    for (const { driver } of running.drives) slots += driver.cmb.release();
    for (const { hardware } of running.drives) await hardware.close();

    let iovas = running.fabric.iommu?.mappings() ?? 0;
    for (const { driver } of running.drives) iovas += iovasInUse(driver.device);
    const { pinned, allocated } = running.hardware.memory.pages;
    return { iovas, pages: pinned + allocated + running.mm.pinned, slots, requests, handles };
  }

  /** Waits until nothing is in flight, but at most `CLOSE_GRACE`. */
  async #quiet(): Promise<void> {
    const { clock } = this.running;
    const until = clock.now() + CLOSE_GRACE;
    for (let turns = 0; clock.now() < until; turns++) {
      if (![...this.#targets].some((target) => target.inFlight > 0)) return;
      await new Promise<void>((resolve) => {
        if (turns < 64) clock.defer(resolve);
        else clock.setTimer(resolve, 1);
      });
    }
  }
}

/** The subsystems and arrays of a machine that are left when only these controllers are present. */
function stacksOf(
  machine: Machine,
  present: ReadonlySet<string | undefined>,
): Pick<Machine, 'subsystems' | 'arrays'> {
  const subsystems = machine.subsystems.flatMap((subsystem) => {
    const controllers = subsystem.controllers.filter((name) => present.has(name));
    return controllers.length === 0 ? [] : [{ ...subsystem, controllers }];
  });
  const gone = new Set(
    disksOf(machine).flatMap(({ name, controllers }) =>
      controllers.some((one) => present.has(one)) ? [] : [name],
    ),
  );
  const arrays = machine.arrays.filter(
    ({ members }) => !members.some((one) => gone.has(one.replace(/p\d+$/, ''))),
  );
  return { subsystems, arrays };
}

/** Null: there is no such regular file. */
function sizeOf(path: string): number | null {
  try {
    const there = statSync(path);
    return there.isFile() ? there.size : null;
  } catch {
    return null;
  }
}

/** Looks for new namespaces. A reset in between ends the commands of a scan; the driver scans again after it. */
async function scanned(driver: Drive['driver']): Promise<void> {
  for (;;) {
    const { settled } = driver;
    await settled;
    try {
      await nvmeScanWork(driver.ctrl);
      if (driver.settled === settled) return;
    } catch (error) {
      if (driver.settled === settled) throw error;
    }
  }
}

/** Any name with a slash outside /dev is a path. A bare name that is not a namespace is treated as a misspelling. */
function isPath(nameOrPath: string): boolean {
  return nameOrPath.includes('/') && !nameOrPath.startsWith('/dev/');
}

const A_FILE: Place = {
  kind: 'file',
  layers: [],
  clients: [],
  noP2pReason: 'the emulator puts a file on a drive when it is opened; ask about a drive instead',
  unproven: null,
  inUse: null,
  partitions: [],
};

function tooManyFiles(path: string, { name, namespaces }: Drive['hardware']): P2pdmaError {
  return errnoError(-EMFILE, 'open', path, {
    hint: `The emulated drive ${name} has ${namespaces.size} namespaces, and each open file is one: close some.`,
  });
}

/** Only regular files (and devices like /dev/null) can be put on an emulated drive, never the computer's own disks. */
function assertOrdinary(path: string, write: boolean): void {
  const found = statOrNull(path);
  if (found === null) return;
  if (found.isFile()) {
    const made = write || found.size > 0 ? null : notEmpty(path, null, () => readsByte(path));
    if (made !== null) throw made;
    return;
  }
  const refused = notCopyable(path, found);
  if (refused !== null) throw refused;
  if (found.isDirectory()) throw errnoError(-EISDIR, 'open', path);
  throw errnoError(-EINVAL, 'open', path, {
    hint: 'The emulator takes namespaces of its own machine and ordinary files, not block devices.',
  });
}

/** Can a byte be read from a file whose size is 0? */
function readsByte(path: string): boolean {
  try {
    const fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      return readSync(fd, new Uint8Array(1), 0, 1, 0) === 1 && fstatSync(fd).size === 0;
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}

/** The description of a snapshot. It says, once only, that the machine was never physical hardware. */
function takenOf({ name, description, emulated }: Machine): string {
  return emulated ? description : `Taken of the emulated machine '${name}'. ${description}`.trimEnd();
}
