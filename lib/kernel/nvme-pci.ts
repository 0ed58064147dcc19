/**
 * Mirrors drivers/nvme/host/pci.c (6.12; RFC patches 8, 9 and 15): the driver of one NVMe controller on PCIe. This
 * file has its life cycle: probe, CMB, queues, timeouts, reset, removal. Requests are in nvme-pci-requests, their
 * data in nvme-pci-data, the rings in nvme-pci-queue, the CMB in nvme-pci-cmb.
 *
 *     NEW ──probe──▶ LIVE ──timeout──▶ RESETTING ──▶ LIVE            requests in flight are tried again
 *                      │                    └──────▶ DEAD            they fail with EIO
 *                      └──────remove──▶ DELETING ──▶ DEAD
 *
 * When a request times out, the driver first sends an Abort for it. If the request is still pending one timeout
 * later, the controller is reset. The caller gets an error (EIO) only after all retries have also failed.
 */

import type { Hardware, NvmeHardware } from '../backend/hardware.js';
import * as nvme from '../backend/nvme-spec.js';
import { trace, tracing } from '../base/trace.js';
import { hexNumber } from '../base/words.js';
import type { Bio } from './bio.js';
import { type Device, dmaAllocCoherent, dmaFreeCoherent, dmaPciP2pdmaSupported } from './dma-mapping.js';
import { nvmeCommand } from './nvme-command.js';
import {
  type NvmeAsyncCommand,
  NvmeCtrl,
  type NvmeCtrlOps,
  type NvmeParams,
  nvmeInitIdentify,
  nvmeScanWork,
  nvmeSubmitSyncCmd,
} from './nvme-core.js';
import { NvmeCmb, type NvmeEnvironment } from './nvme-pci-cmb.js';
import { NvmeDataMapper } from './nvme-pci-data.js';
import { NvmeQueue, type SqMemory } from './nvme-pci-queue.js';
import { NvmeRequests } from './nvme-pci-requests.js';

/** Number of entries in the admin queue (NVME_AQ_DEPTH). */
const NVME_AQ_DEPTH = 32;
/** NVME_MAX_KB_SZ and NVME_MAX_SEGS: the capacity of one preallocated scatterlist. */
const NVME_MAX_TRANSFER = 8192 * 1024;
const NVME_MAX_SEGS = 128;

/** struct nvme_dev */
export class NvmeDev implements NvmeCtrlOps {
  readonly ctrl: NvmeCtrl;
  readonly hw: NvmeHardware;
  readonly device: Device;
  readonly cmb: NvmeCmb;
  readonly maxTransfer = NVME_MAX_TRANSFER;
  readonly maxSegments = NVME_MAX_SEGS;
  readonly requests: NvmeRequests;
  readonly #clock: Hardware['clock'];
  readonly #params: NvmeParams;
  readonly #mapper: NvmeDataMapper;
  /** Settled when the last reset is. */
  #resetting: Promise<void> = Promise.resolve();

  constructor(name: string, hw: NvmeHardware, device: Device, env: NvmeEnvironment) {
    const { hardware, params } = env;
    this.hw = hw;
    this.device = device;
    this.#clock = hardware.clock;
    this.#params = params;
    this.#mapper = new NvmeDataMapper(device, params.sglThreshold, env.host.kernel);
    this.cmb = new NvmeCmb(hw, env);
    this.ctrl = new NvmeCtrl(name, this, hardware.clock, hardware.memory, params);
    this.requests = new NvmeRequests(this.ctrl, hw, this.#mapper, hardware.monitor, () => void this.reset());
    hw.onRemove(() => this.remove());
  }

  /** nvme_pci_supports_pci_p2pdma(), patch 8 */
  supportsPciP2pdma(): boolean {
    return dmaPciP2pdmaSupported(this.device);
  }

  submitBio(bio: Bio): void {
    this.requests.submitBio(bio);
  }

  submitCmd(command: NvmeAsyncCommand, admin: boolean): void {
    this.requests.submitCmd(command, admin);
  }

  /** nvme_probe(): bring the controller up and find its namespaces. Rejects if it does not become ready. */
  async probe(): Promise<void> {
    const { ctrl } = this;
    await this.#pciEnable();
    await nvmeInitIdentify(ctrl);
    this.#mapper.sglSupported = ctrl.sglSupported;
    this.cmb.map();
    await this.#setupIoQueues();
    ctrl.state = 'NVME_CTRL_LIVE';
    this.requests.start();
    await nvmeScanWork(ctrl);
  }

  /** nvme_pci_configure_admin_queue() and nvme_enable_ctrl() */
  async #pciEnable(): Promise<void> {
    const { regs } = this.hw;
    await this.#setEnabled(false);
    let admin = this.requests.queues[0];
    if (admin === undefined) {
      admin = this.#allocQueue(0, NVME_AQ_DEPTH);
      this.requests.queues.push(admin);
    }
    admin.init();
    regs.write32(nvme.NVME_REG_AQA, (NVME_AQ_DEPTH - 1) | ((NVME_AQ_DEPTH - 1) << 16));
    write64(regs, nvme.NVME_REG_ASQ, admin.sq.bus);
    write64(regs, nvme.NVME_REG_ACQ, admin.cqBlock.dmaHandle);
    await this.#setEnabled(true);
  }

  /** nvme_enable_ctrl(), nvme_disable_ctrl(): set CC.EN and wait until CSTS.RDY follows. */
  async #setEnabled(enable: boolean): Promise<void> {
    const { regs } = this.hw;
    const cc = enable
      ? nvme.NVME_CC_ENABLE |
        this.#commandSets() |
        (6 << nvme.NVME_CC_IOSQES_SHIFT) |
        (4 << nvme.NVME_CC_IOCQES_SHIFT)
      : 0;
    regs.write32(nvme.NVME_REG_CC, cc);
    const units = regs.read32(nvme.NVME_REG_CAP) >>> nvme.NVME_CAP_LO_TO_SHIFT;
    await this.#waitCsts(nvme.NVME_CSTS_RDY, enable ? nvme.NVME_CSTS_RDY : 0, (units + 1) * 500);
  }

  /** A drive with several command sets is told to use all; then each namespace says which is its own. */
  #commandSets(): number {
    const several = (this.hw.regs.read32(nvme.NVME_REG_CAP + 4) & nvme.NVME_CAP_HI_CSS_CSI) !== 0;
    this.ctrl.multiCss = several;
    return several ? nvme.NVME_CC_CSS_CSI : 0;
  }

  async #waitCsts(mask: number, value: number, timeout: number): Promise<void> {
    const clock = this.#clock;
    const until = clock.now() + timeout;
    for (let tries = 0; ; tries++) {
      const csts = this.hw.regs.read32(nvme.NVME_REG_CSTS);
      if (csts === 0xffffffff) throw new Error(`${this.ctrl.name}: the device is gone`);
      if ((csts & mask) === value) return;
      if (clock.now() > until) throw new Error(`${this.ctrl.name}: not ready, CSTS=${hexNumber(csts)}`);
      // A drive is either ready immediately or needs some milliseconds.
      await new Promise<void>((resolve) => {
        if (tries < 8) clock.defer(resolve);
        else clock.setTimer(resolve, 1);
      });
    }
  }

  /** nvme_alloc_queue(). The SQ is placed in the CMB if the controller can fetch commands from there (nvme_alloc_sq_cmds()). */
  #allocQueue(qid: number, depth: number): NvmeQueue {
    const { device } = this;
    const cq = dmaAllocCoherent(device, depth * nvme.NVME_CQE_BYTES);
    if (cq === null) throw new Error(`${this.ctrl.name}: no memory for queue ${qid}`);
    const sqBytes = depth * nvme.NVME_SQE_BYTES;
    let sq: SqMemory | null = qid === 0 ? null : this.cmb.allocSq(sqBytes);
    if (sq === null) {
      const block = dmaAllocCoherent(device, sqBytes);
      if (block === null) {
        dmaFreeCoherent(device, cq);
        throw new Error(`${this.ctrl.name}: no memory for queue ${qid}`);
      }
      sq = {
        view: new DataView(block.cpu.buffer, block.cpu.byteOffset, sqBytes),
        bus: block.dmaHandle,
        inCmb: false,
        free: () => dmaFreeCoherent(device, block),
      };
    }
    const { complete } = this.requests;
    const queue = new NvmeQueue({ qid, depth, sq, cq, regs: this.hw.regs, complete });
    this.hw.onInterrupt(qid, () => this.requests.irq(queue));
    return queue;
  }

  /** nvme_setup_io_queues(): one per CPU, but no more than the controller grants. */
  async #setupIoQueues(): Promise<void> {
    const wanted = this.#params.cpus - 1;
    const granted = await this.#admin({
      opcode: nvme.nvmeAdminSetFeatures,
      cdw10: nvme.NVME_FEAT_NUM_QUEUES,
      cdw11: (wanted | (wanted << 16)) >>> 0,
    });
    const count = Math.min(this.#params.cpus, (granted & 0xffff) + 1, (granted >>> 16) + 1);
    const mqes = this.hw.regs.read32(nvme.NVME_REG_CAP) & nvme.NVME_CAP_LO_MQES_MASK;
    const depth = Math.min(mqes + 1, this.#params.ioQueueDepth);
    for (let qid = 1; qid <= count; qid++) {
      const queue = this.requests.queues[qid] ?? this.#allocQueue(qid, depth);
      this.requests.queues[qid] = queue;
      await this.#createQueue(queue);
    }
  }

  /** nvme_create_queue(): creates the completion queue first, because the submission queue refers to it. */
  async #createQueue(queue: NvmeQueue): Promise<void> {
    const { qid, depth } = queue;
    const cdw10 = (qid | ((depth - 1) << 16)) >>> 0;
    await this.#admin({
      opcode: nvme.nvmeAdminCreateCq,
      dptr: queue.cqBlock.dmaHandle,
      cdw10,
      cdw11: (nvme.NVME_QUEUE_PHYS_CONTIG | nvme.NVME_CQ_IRQ_ENABLED | (qid << 16)) >>> 0,
    });
    await this.#admin({
      opcode: nvme.nvmeAdminCreateSq,
      dptr: queue.sq.bus,
      cdw10,
      cdw11: (nvme.NVME_QUEUE_PHYS_CONTIG | (qid << 16)) >>> 0,
    });
    queue.init();
  }

  /** Run an admin command that must succeed, and return its result. */
  async #admin(fields: Parameters<typeof nvmeCommand>[0]): Promise<number> {
    const { status, result } = await nvmeSubmitSyncCmd(this.ctrl, nvmeCommand(fields));
    if (status !== 0) {
      throw new Error(
        `${this.ctrl.name}: admin command ${hexNumber(fields.opcode ?? 0)}: ${nvme.nvmeStatusText(status)}`,
      );
    }
    return result;
  }

  /**
   * nvme_dev_disable(): stop the queues, process the completed requests, and cancel the others: these are retried
   * after a reset, and fail if there is no reset.
   */
  async #disable(): Promise<void> {
    const { requests, ctrl } = this;
    requests.stop();
    const csts = this.hw.regs.read32(nvme.NVME_REG_CSTS);
    const dead = csts === 0xffffffff || (csts & nvme.NVME_CSTS_CFS) !== 0;
    try {
      if (csts !== 0xffffffff) await this.#setEnabled(false);
    } catch (error) {
      if (tracing()) trace('nvme-pci', 'disable_failed', { controller: ctrl.name, error: String(error) });
    }
    if (!dead) requests.reapPending();
    requests.cancelAll();
  }

  /** Resolves when no reset is under way: flush_work(&ctrl->reset_work). */
  get settled(): Promise<void> {
    return this.#resetting;
  }

  /** nvme_reset_ctrl() */
  reset(): Promise<void> {
    const work = this.#resetWork();
    this.#resetting = this.#resetting.then(() => work);
    return work;
  }

  /** nvme_reset_work() */
  async #resetWork(): Promise<void> {
    const { ctrl } = this;
    if (ctrl.state !== 'NVME_CTRL_LIVE') {
      // The controller is not up yet: the caller that waits for the timed-out command gets an error.
      if (ctrl.state === 'NVME_CTRL_NEW') this.requests.cancelAll();
      return;
    }
    ctrl.state = 'NVME_CTRL_RESETTING';
    if (tracing()) trace('nvme-pci', 'reset', { controller: ctrl.name });
    try {
      await this.#disable();
      await this.#pciEnable();
      await nvmeInitIdentify(ctrl);
      this.cmb.map();
      await this.#setupIoQueues();
      if ((ctrl.state as string) !== 'NVME_CTRL_RESETTING') return;
      ctrl.state = 'NVME_CTRL_LIVE';
      this.requests.start();
    } catch (error) {
      if (tracing()) trace('nvme-pci', 'reset_failed', { controller: ctrl.name, error: String(error) });
      this.#die();
    }
  }

  /** nvme_remove() after the device has disappeared: requests in flight fail, later reads find an empty disk. */
  remove(): void {
    if (this.ctrl.state === 'NVME_CTRL_DEAD') return;
    this.ctrl.state = 'NVME_CTRL_DELETING';
    if (tracing()) trace('nvme-pci', 'remove', { controller: this.ctrl.name });
    this.#die();
    this.#release();
    this.cmb.release();
  }

  /** nvme_mark_namespaces_dead(), and then end every request. */
  #die(): void {
    this.ctrl.state = 'NVME_CTRL_DEAD';
    for (const ns of this.ctrl.namespaces) {
      ns.dead = true;
      ns.capacity = 0;
    }
    this.requests.failAll();
  }

  /** nvme_shutdown(): an orderly shutdown. The driver's resources are released; the CMB is released separately. */
  async shutdown(): Promise<void> {
    const { ctrl } = this;
    // A reset would go on to set up the queues that are released here.
    await this.#resetting;
    if (ctrl.state === 'NVME_CTRL_LIVE' && this.hw.present) {
      ctrl.state = 'NVME_CTRL_DELETING_NOIO';
      try {
        const { regs } = this.hw;
        const cc = regs.read32(nvme.NVME_REG_CC);
        regs.write32(nvme.NVME_REG_CC, (cc & ~nvme.NVME_CC_SHN_MASK) | nvme.NVME_CC_SHN_NORMAL);
        await this.#waitCsts(nvme.NVME_CSTS_SHST_MASK, nvme.NVME_CSTS_SHST_CMPLT, 5000);
        await this.#setEnabled(false);
      } catch (error) {
        if (tracing()) trace('nvme-pci', 'shutdown_failed', { controller: ctrl.name, error: String(error) });
      }
    }
    this.#die();
    this.#release();
  }

  /** nvme_free_queues() and nvme_release_prp_pools() */
  #release(): void {
    for (const queue of this.requests.queues) {
      queue.sq.free();
      dmaFreeCoherent(this.device, queue.cqBlock);
    }
    this.requests.queues = [];
    this.#mapper.destroy();
  }
}

function write64(regs: NvmeHardware['regs'], offset: number, value: number): void {
  regs.write32(offset, value >>> 0);
  regs.write32(offset + 4, Math.floor(value / 2 ** 32));
}
