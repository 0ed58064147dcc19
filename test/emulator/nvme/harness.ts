import type { PathBytes } from '../../../lib/backend/backend.js';
import * as nvme from '../../../lib/backend/nvme-spec.js';
import type { PciDev } from '../../../lib/backend/topology.js';
import { buildFabric, type Fabric } from '../../../lib/emulator/bus/fabric.js';
import { ManualClock } from '../../../lib/emulator/clock.js';
import { NvmeController } from '../../../lib/emulator/nvme/controller.js';
import type { NamespaceStore } from '../../../lib/emulator/nvme/store.js';
import { MemoryStore } from '../../../lib/emulator/nvme/store.js';
import { type Fault, type Latency, type MachineInput, parseMachine } from '../../../lib/machine/machine.js';

const TWO_32 = 2 ** 32;
export const MIB = 1 << 20;

export interface Command {
  opcode: number;
  flags?: number;
  nsid?: number;
  prp1?: number;
  prp2?: number;
  /** In the place of the PRPs. */
  sgl?: { addr: number; length: number; type: number };
  cdw10?: number;
  cdw11?: number;
  cdw12?: number;
}

export interface Completion {
  cid: number;
  /** Type << 8 | code. */
  status: number;
  dnr: boolean;
  result: number;
  sqHead: number;
  sqId: number;
}

type Nvme = NonNullable<NonNullable<MachineInput['functions'][number]['nvme']>>;

export interface HarnessOptions {
  nvme?: Partial<Nvme>;
  stores?: Map<number, NamespaceStore>;
  faults?: MachineInput['faults'];
  latency?: Latency;
}

/** Two drives under one switch; the first one has a driver of the simplest kind, in this file. */
export function twoDrives(options: HarnessOptions = {}): {
  fabric: Fabric;
  clock: ManualClock;
  a: Driver;
  b: Driver;
} {
  const cmb = { size: 16 * MIB };
  const bars = [
    { index: 0, size: 0x4000 },
    { index: 2, size: 16 * MIB, prefetchable: true },
  ];
  const namespaces = [{ nsid: 1, size: 64 * MIB }];
  const drive = (n: number): Nvme => ({
    cmb,
    namespaces,
    serial: `SN${n}`,
    model: 'Test drive',
    ...options.nvme,
  });
  const machine = parseMachine({
    version: 1,
    name: 'test',
    hostBridges: [{ bus: 0, busOffset: 0x1000000000 }],
    functions: [
      { bdf: '00:01.0', type: 'root-port', upstream: null, vendor: 0x8086, device: 1 },
      { bdf: '01:00.0', type: 'upstream-port', upstream: '00:01.0', vendor: 0x104c, device: 2 },
      { bdf: '02:00.0', type: 'downstream-port', upstream: '01:00.0', vendor: 0x104c, device: 3 },
      { bdf: '02:01.0', type: 'downstream-port', upstream: '01:00.0', vendor: 0x104c, device: 3 },
      {
        bdf: '03:00.0',
        type: 'endpoint',
        upstream: '02:00.0',
        vendor: 0x1b36,
        device: 0x10,
        bars,
        nvme: drive(0),
      },
      {
        bdf: '04:00.0',
        type: 'endpoint',
        upstream: '02:01.0',
        vendor: 0x1b36,
        device: 0x10,
        bars,
        nvme: drive(1),
      },
    ],
    faults: options.faults ?? [],
  } as MachineInput);
  const fabric = buildFabric(machine);
  const clock = new ManualClock();
  const make = (bdf: string, stores: Map<number, NamespaceStore>): Driver => {
    const pdev = fabric.topology.find(bdf)!;
    const description = machine.functions.find((fn) => fn.bdf === pdev.bdf)!.nvme!;
    const { faults } = machine as { faults: readonly Fault[] };
    const latency = options.latency ?? null;
    return new Driver(
      new NvmeController({ pdev, description, fabric, clock, stores, faults, latency }),
      fabric,
      clock,
    );
  };
  return {
    fabric,
    clock,
    a: make('03:00.0', options.stores ?? new Map([[1, new MemoryStore(64 * MIB)]])),
    b: make('04:00.0', new Map([[1, new MemoryStore(64 * MIB)]])),
  };
}

interface Ring {
  sq: DataView;
  cq: DataView;
  entries: number;
  tail: number;
  head: number;
  phase: number;
  vector: number;
  interrupts: number;
}

/** The least a driver can be: raw rings in host memory (or a submission ring in the CMB). */
export class Driver {
  readonly ctrl: NvmeController;
  readonly fabric: Fabric;
  readonly clock: ManualClock;
  readonly rings: Ring[] = [];
  readonly arrived: Completion[] = [];
  #cid = 0;

  constructor(ctrl: NvmeController, fabric: Fabric, clock: ManualClock) {
    this.ctrl = ctrl;
    this.fabric = fabric;
    this.clock = clock;
  }

  get pdev(): PciDev {
    return this.ctrl.pdev;
  }

  get cmbBus(): number {
    return this.pdev.bars[2]!.busAddress;
  }

  read(reg: number): number {
    return this.ctrl.regs.read32(reg);
  }

  write(reg: number, value: number): void {
    this.ctrl.regs.write32(reg, value);
  }

  write64(reg: number, value: number): void {
    this.write(reg, value % TWO_32);
    this.write(reg + 4, Math.floor(value / TWO_32));
  }

  alloc(length: number): { phys: number; bytes: Uint8Array; view: DataView } {
    const { phys, bytes } = this.fabric.memory.allocPages(length);
    return { phys, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  }

  /** CC for 4 KiB pages, 64-byte SQEs, 16-byte CQEs. */
  static readonly CC = (6 << nvme.NVME_CC_IOSQES_SHIFT) | (4 << nvme.NVME_CC_IOCQES_SHIFT);

  enableCmb(): void {
    this.write64(nvme.NVME_REG_CMBMSC, this.cmbBus + nvme.NVME_CMBMSC_CRE + nvme.NVME_CMBMSC_CMSE);
  }

  enable(entries = 32): void {
    this.enableCmb();
    this.rings.length = 0;
    this.addRing(0, entries);
    this.write(nvme.NVME_REG_CC, Driver.CC | nvme.NVME_CC_ENABLE);
    this.clock.settle();
  }

  addRing(qid: number, entries: number, vector = qid): { sq: number; cq: number } {
    const sq = this.alloc(entries * 64);
    const cq = this.alloc(entries * 16);
    this.rings[qid] = {
      sq: sq.view,
      cq: cq.view,
      entries,
      tail: 0,
      head: 0,
      phase: 1,
      vector,
      interrupts: 0,
    };
    if (qid === 0) {
      this.write(nvme.NVME_REG_AQA, (entries - 1) * 0x10001);
      this.write64(nvme.NVME_REG_ASQ, sq.phys);
      this.write64(nvme.NVME_REG_ACQ, cq.phys);
    }
    this.ctrl.onInterrupt(vector, () => this.#drain());
    return { sq: sq.phys, cq: cq.phys };
  }

  /** Create I/O queue pair `qid`; its SQ in host memory, or at `sqBus`. */
  createQueues(qid: number, entries = 32, sqInCmb?: { bus: number; view: DataView }): void {
    const ring = this.addRing(qid, entries);
    if (sqInCmb !== undefined) this.rings[qid]!.sq = sqInCmb.view;
    const cq = this.admin({
      opcode: nvme.nvmeAdminCreateCq,
      prp1: ring.cq,
      cdw10: qid + (entries - 1) * 0x10000,
      cdw11: nvme.NVME_QUEUE_PHYS_CONTIG + nvme.NVME_CQ_IRQ_ENABLED + qid * 0x10000,
    });
    if (cq.status !== 0) throw new Error(`create CQ: ${nvme.nvmeStatusText(cq.status)}`);
    const sq = this.admin({
      opcode: nvme.nvmeAdminCreateSq,
      prp1: sqInCmb?.bus ?? ring.sq,
      cdw10: qid + (entries - 1) * 0x10000,
      cdw11: nvme.NVME_QUEUE_PHYS_CONTIG + qid * 0x10000,
    });
    if (sq.status !== 0) throw new Error(`create SQ: ${nvme.nvmeStatusText(sq.status)}`);
  }

  /** Enabled, with I/O queue pair 1. */
  start(entries = 32): this {
    this.enable();
    this.createQueues(1, entries);
    return this;
  }

  /** Put a command into the ring; `ring()` tells the drive. */
  put(qid: number, command: Command): number {
    const ring = this.rings[qid]!;
    const at = ring.tail * 64;
    const cid = this.#cid++ & 0xffff;
    const sq = ring.sq;
    for (let i = 0; i < 64; i += 4) sq.setUint32(at + i, 0, true);
    sq.setUint8(at, command.opcode);
    sq.setUint8(at + nvme.NVME_SQE_FLAGS, command.flags ?? 0);
    sq.setUint16(at + nvme.NVME_SQE_CID, cid, true);
    sq.setUint32(at + nvme.NVME_SQE_NSID, command.nsid ?? 0, true);
    if (command.sgl !== undefined) {
      sq.setUint8(at + nvme.NVME_SQE_FLAGS, command.flags ?? nvme.NVME_CMD_SGL_METABUF);
      putSgl(sq, at + nvme.NVME_SQE_SGL, command.sgl.addr, command.sgl.length, command.sgl.type);
    } else {
      put64(sq, at + nvme.NVME_SQE_PRP1, command.prp1 ?? 0);
      put64(sq, at + nvme.NVME_SQE_PRP2, command.prp2 ?? 0);
    }
    sq.setUint32(at + nvme.NVME_SQE_CDW10, command.cdw10 ?? 0, true);
    sq.setUint32(at + nvme.NVME_SQE_CDW11, command.cdw11 ?? 0, true);
    sq.setUint32(at + nvme.NVME_SQE_CDW12, command.cdw12 ?? 0, true);
    ring.tail = (ring.tail + 1) % ring.entries;
    return cid;
  }

  ring(qid: number): void {
    this.write(nvme.NVME_REG_DBS + 8 * qid, this.rings[qid]!.tail);
  }

  #drain(): void {
    for (const [qid, ring] of this.rings.entries()) {
      if (ring === undefined) continue;
      let moved = false;
      while ((ring.cq.getUint16(ring.head * 16 + nvme.NVME_CQE_STATUS, true) & 1) === ring.phase) {
        const at = ring.head * 16;
        const status = ring.cq.getUint16(at + nvme.NVME_CQE_STATUS, true) >>> 1;
        this.arrived.push({
          cid: ring.cq.getUint16(at + nvme.NVME_CQE_CID, true),
          status: status & nvme.NVME_SC_MASK,
          dnr: (status & nvme.NVME_STATUS_DNR) !== 0,
          result: ring.cq.getUint32(at + nvme.NVME_CQE_RESULT, true),
          sqHead: ring.cq.getUint16(at + nvme.NVME_CQE_SQ_HEAD, true),
          sqId: ring.cq.getUint16(at + nvme.NVME_CQE_SQ_ID, true),
        });
        moved = true;
        ring.head++;
        if (ring.head === ring.entries) {
          ring.head = 0;
          ring.phase ^= 1;
        }
      }
      if (moved) {
        ring.interrupts++;
        this.write(nvme.NVME_REG_DBS + 8 * qid + 4, ring.head);
      }
    }
  }

  take(cid: number): Completion | null {
    const i = this.arrived.findIndex((c) => c.cid === cid);
    return i < 0 ? null : this.arrived.splice(i, 1)[0]!;
  }

  submit(qid: number, command: Command): number {
    const cid = this.put(qid, command);
    this.ring(qid);
    return cid;
  }

  /** Submit, let the controller work, take the completion. */
  run(qid: number, command: Command): Completion {
    const cid = this.submit(qid, command);
    this.clock.settle();
    const completion = this.take(cid);
    if (completion === null) throw new Error(`command ${cid} did not complete`);
    return completion;
  }

  /** The same for media that take time. */
  async finish(cid: number): Promise<Completion> {
    for (const until = Date.now() + 20_000; Date.now() < until; ) {
      this.clock.settle();
      const completion = this.take(cid);
      if (completion !== null) return completion;
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`command ${cid} did not complete`);
  }

  admin(command: Command): Completion {
    return this.run(0, command);
  }

  io(command: Command): Completion {
    return this.run(1, { nsid: 1, ...command });
  }

  /** The bytes by path that the last command `cid` moved. */
  path(cid: number, qid = 1): PathBytes {
    const into = { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
    this.fabric.take(this.pdev, qid, cid, into);
    return into;
  }

  /** A list of PRPs for `length` bytes from bus address `addr` on (which starts a page), and the PRPs to it. */
  prpList(pages: readonly number[]): number {
    const list = this.alloc(pages.length * 8);
    for (const [i, page] of pages.entries()) put64(list.view, i * 8, page);
    return list.phys;
  }
}

export function rw(opcode: number, slba: number, blocks: number, more: Partial<Command> = {}): Command {
  return { opcode, cdw10: slba % TWO_32, cdw11: Math.floor(slba / TWO_32), cdw12: blocks - 1, ...more };
}

export function put64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % TWO_32, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

export function get64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * TWO_32;
}

export function putSgl(view: DataView, at: number, addr: number, length: number, type: number): void {
  put64(view, at, addr);
  view.setUint32(at + 8, length, true);
  view.setUint32(at + 12, type * 0x10000000, true);
}

/** Bytes that differ from place to place. */
export function pattern(bytes: Uint8Array, seed = 1): Uint8Array {
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + seed * 101) & 0xff;
  return bytes;
}
