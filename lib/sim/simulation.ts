/**
 * Plays a scenario: boots its machine over media and files of the simulation, runs its lanes, causes its troubles, and
 * checks everything that must hold.
 *
 *     Scenario ─▶ World, Files, media ─▶ System ─▶ perform each op ─▶ judge ─▶ close ─▶ Outcome
 *                                           ▲ power cut: everything volatile is gone │
 *                                           └────────── the next boot ◀──────────────┘
 */
import { createHash } from 'node:crypto';
import type { PathBytes } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import { loadParts } from '../base/at-need.js';
import type { EmulatorBackend } from '../emulator/backend.js';
import { openEmulator } from '../emulator/boot.js';
import { pciP2pmemAvailable } from '../kernel/pci-p2pdma.js';
import { p2pdmaOf } from '../kernel/pci-p2pdma-pool.js';
import { disksOf } from '../machine/disks.js';
import { type Machine, type NamespaceDescription, parseMachine } from '../machine/machine.js';
import { System } from '../system.js';
import { Cached } from './cached.js';
import { bytesOfContent } from './content.js';
import { Expected } from './expected.js';
import { codeOf } from './explained.js';
import { Files, installFiles } from './files.js';
import { Judge } from './judge.js';
import { Medium } from './medium.js';
import { perform, type Result, type Scene } from './perform.js';
import type { Op, Scenario, Trouble } from './scenario.js';
import { install, World } from './world.js';

export interface Outcome {
  readonly seed: number;
  /** The same for the same seed. */
  readonly hash: string;
  /** What must not be: empty if all is well. */
  readonly wrong: readonly string[];
  readonly events: number;
  /** Operations by how they ended: `copy complete`, `read ENODATA`. */
  readonly ended: Readonly<Record<string, number>>;
  /** Troubles that were caused, by kind; those of a fault by the fault's kind. */
  readonly troubles: Readonly<Record<string, number>>;
  readonly powerCut: boolean;
}

/** More events than any scenario needs: one that takes so many makes no progress. */
const MOST_EVENTS = 400_000;

export class Simulation {
  readonly scenario: Scenario;
  readonly machine: Machine;
  readonly files: Files;
  readonly media = new Map<string, Cached>();
  readonly expected = new Expected();
  readonly wrong: string[] = [];
  /** Bytes of I/O commands by route, as the fabric counts them. */
  fabric: PathBytes = zeroPath();
  world: World;
  backend!: EmulatorBackend;
  system!: System;
  readonly #judge: Judge;
  readonly #drives = new Map<string, Medium>();
  readonly #hash = createHash('sha256');
  readonly #ended: Record<string, number> = {};
  readonly #troubles: Record<string, number> = {};
  #events = 0;
  #cut = false;
  #told = false;

  constructor(scenario: Scenario) {
    this.scenario = scenario;
    this.machine = parseMachine(scenario.machine);
    this.world = new World(scenario.seed, scenario.pace);
    this.files = new Files(() => this.world);
    this.#judge = new Judge(this);
  }

  async run(): Promise<Outcome> {
    // What is loaded at need would be loaded at a moment that nobody decides.
    await loadParts();
    const putBack = [install(this.world), installFiles(this.files), this.#catchAll()];
    try {
      await this.#play();
    } catch (error) {
      this.wrong.push(`the simulation: ${(error as Error).stack}`);
    } finally {
      for (const undo of putBack) undo();
    }
    for (const error of this.world.thrown) this.wrong.push(`thrown: ${(error as Error).stack ?? error}`);
    this.#events += this.world.steps;
    this.note(`events ${this.#events}`);
    for (const [name, { bytes, changed }] of this.media) if (changed) this.#hash.update(name).update(bytes);
    for (const path of this.files.paths)
      if (!path.endsWith('.journal')) this.#hash.update(path).update(this.files.peek(path)!);
    const { seed } = this.scenario;
    this.#told = true;
    return {
      ...{ seed, hash: this.#hash.digest('hex'), wrong: this.wrong, events: this.#events },
      ...{ ended: this.#ended, troubles: this.#troubles, powerCut: this.#cut },
    };
  }

  /** What would end the process is wrong, and does not end the simulation. */
  #catchAll(): () => void {
    const caught = (error: unknown) => void this.world.thrown.push(error);
    for (const event of ['uncaughtException', 'unhandledRejection']) process.on(event, caught);
    return () => {
      for (const event of ['uncaughtException', 'unhandledRejection']) process.off(event, caught);
    };
  }

  /** What the lanes of a machine that lost power still say after the end belongs to no history. */
  note(text: string): void {
    if (!this.#told) this.#hash.update(`${text}\n`);
  }

  /** Runs events until the promise is settled. */
  async drive<T>(promise: Promise<T>): Promise<T> {
    let over = false;
    const settled = promise.finally(() => {
      over = true;
    });
    settled.catch(() => {});
    const ending = await this.world.run(() => over, MOST_EVENTS);
    if (ending !== 'done') throw new Error(`liveness: nothing ends this wait (${ending})`);
    return settled;
  }

  async #play(): Promise<void> {
    this.#prepare();
    await this.#boot();
    const available = this.#available();
    const scene: Scene = { world: this.world, system: this.system, kept: [] };
    let over = 0;
    for (const trouble of this.scenario.troubles)
      this.world.atStep(trouble.step, () => {
        if (over < this.scenario.lanes.length) this.#cause(trouble);
      });
    this.files.short = this.scenario.short;
    const lanes = this.scenario.lanes.map((ops) => this.#lane(scene, ops));
    for (const lane of lanes) void lane.then(() => over++);
    const ending = await this.world.run(() => over === lanes.length || this.#cut, MOST_EVENTS);
    if (this.#cut) return this.#nextBoot();
    if (ending !== 'done') {
      this.wrong.push(`liveness: ${lanes.length - over} lanes do not end (${ending})`);
      return;
    }
    this.#calm();
    const drained = await this.world.run(() => false, MOST_EVENTS, false);
    if (drained !== 'stuck')
      this.wrong.push('liveness: events follow without an end, and nothing is under way');
    await this.drive(this.#judge.everything());
    this.#judge.routes();
    const left = this.#available();
    for (const [bdf, bytes] of available) {
      if (left.has(bdf) && left.get(bdf) !== bytes)
        this.wrong.push(`invariant 2: ${bdf} has ${left.get(bdf)} bytes available, and had ${bytes}`);
    }
    // A system may be closed at any moment.
    if (this.world.random.chance(0.2)) this.#reset(this.world.random.pick(this.backend.running.drives));
    const report = await this.drive(this.system.close());
    if (Object.values(report).some((n) => n !== 0))
      this.wrong.push(`invariant 7: close() reports ${JSON.stringify(report)}`);
    if (this.files.open > 0) this.wrong.push(`invariant 7: ${this.files.open} files are open`);
    for (const chunk of scene.kept)
      if (chunk.length > 0 && chunk.byteLength > 0 && chunk.buffer.byteLength > 0)
        this.wrong.push('invariant 5: a lent chunk is not detached');
  }

  #prepare(): void {
    for (const { path, size, generation } of this.scenario.files) {
      const bytes = initial(generation, size);
      this.files.put(path, bytes);
      this.expected.set(path, bytes);
    }
    for (const { name, namespace } of disksOf(this.machine)) {
      // The members of a mirror hold the same.
      const mirrored = this.machine.arrays.some(
        ({ level, members }) =>
          /^raid10?$|^raid1$/.test(level) && members.some((one) => one.startsWith(name)),
      );
      const generation = mirrored ? 1 : 2 + this.media.size;
      const data = new Cached(0);
      const bytes = initial(generation, namespace.size);
      data.fill(bytes);
      this.media.set(name, data);
      this.expected.set(name, bytes);
    }
  }

  async #boot(): Promise<void> {
    const { machine, world } = this;
    const medium = (disk: string, namespace: NamespaceDescription) => {
      const made = new Medium(world, namespace, this.media.get(disk)!);
      this.#drives.set(disk, made);
      return made;
    };
    this.backend = await this.drive(openEmulator({ machine, clock: world, medium }));
    this.system = System.over(this.backend);
    const { fabric } = this.backend.running;
    const account = fabric.account.bind(fabric);
    fabric.account = (requester, qid, cid, path, bytes) => {
      if (qid > 0) this.fabric[path] += bytes;
      account(requester, qid, cid, path, bytes);
    };
    await this.drive(this.#judge.learnArrays());
    this.fabric = zeroPath();
  }

  #available(): Map<string, number> {
    const { running } = this.backend;
    const held = new Set(running.reserved.map(({ pdev }) => pdev));
    const drives = running.drives.filter(
      ({ driver, hardware }) => driver.ctrl.state === 'NVME_CTRL_LIVE' && !held.has(hardware.pdev),
    );
    return new Map(
      drives.flatMap(({ hardware: { pdev } }) =>
        p2pdmaOf(pdev) === null ? [] : [[pdev.bdf, pciP2pmemAvailable(pdev)] as const],
      ),
    );
  }

  async #lane(scene: Scene, ops: readonly Op[]): Promise<void> {
    for (const [i, op] of ops.entries()) await this.#perform(scene, op, i);
  }

  async #perform(scene: Scene, op: Op, i: number): Promise<void> {
    const began = this.#judge.begin(op);
    const result: Result = {
      ...{ error: null, receipt: null, paths: [], delivered: [], counted: null, acknowledged: 0, wrong: [] },
    };
    await perform(scene, op, result);
    const how = result.error === null ? 'complete' : codeOf(result.error);
    const key = `${op.kind} ${how}`;
    this.#ended[key] = (this.#ended[key] ?? 0) + 1;
    const sum = zeroPath();
    for (const path of result.paths) addPath(sum, path);
    this.note(
      `${this.world.steps} ${i} ${key} ${result.counted} ${result.acknowledged} ${JSON.stringify(sum)}`,
    );
    await this.#judge.end(op, result, began);
  }

  #cause(trouble: Trouble): void {
    this.note(`${this.world.steps} ${trouble.kind}`);
    if (!this.#happens(trouble)) return;
    const kind = trouble.kind === 'fault' ? trouble.fault.kind : trouble.kind;
    this.#troubles[kind] = (this.#troubles[kind] ?? 0) + 1;
  }

  /** False: the drive is not there any more, or not in a state for it. */
  #happens(trouble: Trouble): boolean {
    const driveOf = (controller: string) =>
      this.backend.running.drives.find(({ hardware }) => hardware.name === controller);
    if (trouble.kind === 'power-cut') this.#cut = true;
    else if (trouble.kind === 'lost-write') {
      this.#drives.get(trouble.disk)!.storedBeforeLoss = trouble.after;
      this.#judge.losing(trouble.disk);
    } else if (trouble.kind === 'clock') this.world.wallOffset += trouble.ms;
    else if (trouble.kind === 'reset') {
      const drive = driveOf(trouble.controller);
      return drive !== undefined && this.#reset(drive);
    } else if (trouble.kind === 'remove') {
      const drive = driveOf(trouble.controller);
      if (drive?.hardware.present !== true || drive.driver.ctrl.state === 'NVME_CTRL_DEAD') return false;
      this.backend.remove(trouble.controller);
    } else this.#inject(trouble.fault);
    return true;
  }

  #reset({ driver }: EmulatorBackend['running']['drives'][number]): boolean {
    if (driver.ctrl.state !== 'NVME_CTRL_LIVE') return false;
    void driver.reset();
    return true;
  }

  #inject(fault: Extract<Trouble, { kind: 'fault' }>['fault']): void {
    this.backend.inject(fault);
    this.#judge.injected(fault);
  }

  /** No more troubles, so that everything can be read. */
  #calm(): void {
    const { drives, fabric } = this.backend.running;
    for (const { hardware } of drives) {
      hardware.faults.clear();
      fabric.dropPeerWrites(hardware.pdev, { on: false });
    }
    this.files.short = 0;
  }

  /** What is durable must be right, and an interrupted copy with a journal goes on to its end. */
  async #nextBoot(): Promise<void> {
    this.#events += this.world.steps;
    this.world.forget();
    this.files.cut();
    for (const data of this.media.values()) data.cut(this.world.random);
    this.files.short = 0;
    await this.#boot();
    this.#judge.afterCut();
    await this.drive(this.#judge.resume({ world: this.world, system: this.system, kept: [] }));
    const report = await this.drive(this.system.close());
    if (Object.values(report).some((n) => n !== 0))
      this.wrong.push(`invariant 7: close() reports ${JSON.stringify(report)}`);
    this.#events -= this.world.steps;
  }
}

const contents = new Map<number, Buffer>();
const LARGEST = 2 ** 21;

/** What is there at first: one of a few contents, each of which is made once. */
function initial(generation: number, size: number): Buffer {
  const whole =
    contents.get(generation) ?? bytesOfContent({ generation, size: LARGEST, sparse: false }, 0, LARGEST);
  contents.set(generation, whole);
  return size <= LARGEST
    ? whole.subarray(0, size)
    : bytesOfContent({ generation, size, sparse: false }, 0, size);
}
