import t from 'tap';
import * as nvme from '../../../lib/backend/nvme-spec.js';
import { Driver, get64, MIB, pattern, put64, rw, twoDrives } from './harness.js';

const { nvmeCmdRead, nvmeCmdWrite } = nvme;

t.test('registers say what the controller is', async (t) => {
  const { a } = twoDrives();
  t.equal(a.read(nvme.NVME_REG_VS), nvme.NVME_VS_1_4);
  t.equal(a.read(nvme.NVME_REG_CAP) & nvme.NVME_CAP_LO_MQES_MASK, 4095);
  t.ok(a.read(nvme.NVME_REG_CAP) & nvme.NVME_CAP_LO_CQR, 'queues must be contiguous');
  t.ok(a.read(nvme.NVME_REG_CAP + 4) & nvme.NVME_CAP_HI_CMBS);
  t.equal(a.read(nvme.NVME_REG_CAP + 4) & nvme.NVME_CAP_HI_DSTRD_MASK, 0);
  t.equal(a.read(nvme.NVME_REG_CSTS), 0);
});

t.test('the CMB shows itself only after CMBMSC.CRE', async (t) => {
  const { a } = twoDrives();
  t.equal(a.read(nvme.NVME_REG_CMBSZ), 0);
  t.equal(a.read(nvme.NVME_REG_CMBLOC), 0);
  a.write(nvme.NVME_REG_CMBMSC, nvme.NVME_CMBMSC_CRE);
  const cmbsz = a.read(nvme.NVME_REG_CMBSZ);
  const szu = (cmbsz >>> nvme.NVME_CMBSZ_SZU_SHIFT) & nvme.NVME_CMBSZ_SZU_MASK;
  t.equal((cmbsz >>> nvme.NVME_CMBSZ_SZ_SHIFT) * nvme.cmbSizeUnit(szu), 16 * MIB);
  t.equal(cmbsz & 0x1f, 0x1f, 'every use is offered');
  const cmbloc = a.read(nvme.NVME_REG_CMBLOC);
  t.equal(cmbloc & nvme.NVME_CMBLOC_BIR_MASK, 2);
  t.equal(cmbloc >>> nvme.NVME_CMBLOC_OFST_SHIFT, 0);
  t.notOk(cmbloc & nvme.NVME_CMBLOC_CDMMMS, 'data of one command may not be mixed');
});

t.test('a controller without CMB has no CMB registers', async (t) => {
  const { a } = twoDrives({ nvme: { cmb: null } });
  t.notOk(a.read(nvme.NVME_REG_CAP + 4) & nvme.NVME_CAP_HI_CMBS);
  a.write(nvme.NVME_REG_CMBMSC, nvme.NVME_CMBMSC_CRE);
  t.equal(a.read(nvme.NVME_REG_CMBSZ), 0);
  t.equal(a.read(nvme.NVME_REG_CMBMSC), 0);
  t.throws(() => a.ctrl.mapBar(2, 0, 4096), RangeError);
});

t.test('a large CMB at an odd place is told in units that fit', async (t) => {
  const cmb = { size: 8 * MIB, offset: 8 * MIB, bar: 2, wds: false };
  const { a } = twoDrives({ nvme: { cmb } });
  a.write(nvme.NVME_REG_CMBMSC, nvme.NVME_CMBMSC_CRE);
  const cmbsz = a.read(nvme.NVME_REG_CMBSZ);
  const unit = nvme.cmbSizeUnit((cmbsz >>> nvme.NVME_CMBSZ_SZU_SHIFT) & nvme.NVME_CMBSZ_SZU_MASK);
  t.equal((cmbsz >>> nvme.NVME_CMBSZ_SZ_SHIFT) * unit, 8 * MIB);
  t.equal((a.read(nvme.NVME_REG_CMBLOC) >>> nvme.NVME_CMBLOC_OFST_SHIFT) * unit, 8 * MIB);
  t.notOk(cmbsz & nvme.NVME_CMBSZ_WDS);
  t.ok(cmbsz & nvme.NVME_CMBSZ_RDS);
});

t.test('CC.EN and CSTS.RDY shake hands', async (t) => {
  const { a, clock } = twoDrives();
  a.addRing(0, 8);
  a.write(nvme.NVME_REG_CC, Driver.CC | nvme.NVME_CC_ENABLE);
  t.equal(a.read(nvme.NVME_REG_CSTS) & nvme.NVME_CSTS_RDY, 0, 'not inside the write');
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS), nvme.NVME_CSTS_RDY);
  a.write(nvme.NVME_REG_CC, Driver.CC);
  t.equal(a.read(nvme.NVME_REG_CSTS), nvme.NVME_CSTS_RDY);
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS), 0);
});

t.test('an enable right after a disable is not lost', async (t) => {
  const { a, clock } = twoDrives();
  a.enable();
  a.write(nvme.NVME_REG_CC, Driver.CC);
  a.write(nvme.NVME_REG_CC, Driver.CC | nvme.NVME_CC_ENABLE);
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS), nvme.NVME_CSTS_RDY);
});

t.test('enabling with nonsense is fatal until reset', async (t) => {
  const { a, clock } = twoDrives();
  a.write(nvme.NVME_REG_CC, Driver.CC | nvme.NVME_CC_ENABLE);
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS), nvme.NVME_CSTS_CFS, 'no admin queues');
  a.write(nvme.NVME_REG_CC, Driver.CC);
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS), 0);
  a.addRing(0, 8);
  a.write(nvme.NVME_REG_CC, nvme.NVME_CC_ENABLE);
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS), nvme.NVME_CSTS_CFS, 'entry sizes of 1 byte');
});

t.test('a queue that cannot be reached is fatal', async (t) => {
  const { a, clock } = twoDrives();
  a.enable();
  const asq = get64(
    new DataView(Uint32Array.of(a.read(nvme.NVME_REG_ASQ), a.read(nvme.NVME_REG_ASQ + 4)).buffer),
    0,
  );
  a.fabric.memory.freePages(asq);
  a.submit(0, { opcode: nvme.nvmeAdminIdentify });
  clock.settle();
  t.ok(a.read(nvme.NVME_REG_CSTS) & nvme.NVME_CSTS_CFS);
});

t.test('shutdown occurs, then is complete, and stops commands', async (t) => {
  const { a, clock } = twoDrives();
  a.start();
  a.write(nvme.NVME_REG_CC, Driver.CC | nvme.NVME_CC_ENABLE | nvme.NVME_CC_SHN_NORMAL);
  t.equal(a.read(nvme.NVME_REG_CSTS) & nvme.NVME_CSTS_SHST_MASK, nvme.NVME_CSTS_SHST_OCCUR);
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS) & nvme.NVME_CSTS_SHST_MASK, nvme.NVME_CSTS_SHST_CMPLT);
  const cid = a.submit(1, rw(nvmeCmdRead, 0, 8, { nsid: 1, prp1: a.alloc(4096).phys }));
  clock.settle();
  t.equal(a.take(cid), null);
  a.write(nvme.NVME_REG_CC, 0);
  clock.settle();
  t.equal(a.read(nvme.NVME_REG_CSTS), 0);
});

t.test('data written is read back; unwritten blocks are zeros', async (t) => {
  const { a } = twoDrives();
  a.start();
  const out = a.alloc(4096);
  pattern(out.bytes);
  t.equal(a.io(rw(nvmeCmdWrite, 16, 8, { prp1: out.phys })).status, 0);
  const back = a.alloc(4096);
  t.equal(a.io(rw(nvmeCmdRead, 16, 8, { prp1: back.phys })).status, 0);
  t.same(back.bytes, out.bytes);
  t.equal(a.io(rw(nvmeCmdRead, 24, 8, { prp1: back.phys })).status, 0);
  t.ok(back.bytes.every((b) => b === 0));
});

t.test('a batch is one turn and one interrupt, in order, over the end of the ring', async (t) => {
  const { a, clock } = twoDrives();
  a.start(16);
  const memory = a.alloc(4096);
  for (let round = 0; round < 10; round++) {
    a.arrived.length = 0;
    const before = a.rings[1]!.interrupts;
    const cids: number[] = [];
    for (let i = 0; i < 15; i++) cids.push(a.put(1, rw(nvmeCmdRead, 0, 1, { nsid: 1, prp1: memory.phys })));
    a.ring(1);
    clock.turn();
    t.same(
      a.arrived.map((c) => c.cid),
      cids,
    );
    t.equal(a.rings[1]!.interrupts, before + 1);
    t.equal(a.arrived[14]!.sqHead, a.rings[1]!.tail, 'the SQ head in the CQE frees the entries');
    t.equal(a.arrived[14]!.sqId, 1);
  }
});

t.test('a full completion queue waits for its head doorbell', async (t) => {
  const { a, clock } = twoDrives();
  a.enable();
  const cq = a.alloc(4096);
  const sq = a.alloc(4096);
  const contig = nvme.NVME_QUEUE_PHYS_CONTIG;
  a.admin({ opcode: nvme.nvmeAdminCreateCq, prp1: cq.phys, cdw10: 1 + 3 * 0x10000, cdw11: contig });
  a.admin({
    opcode: nvme.nvmeAdminCreateSq,
    prp1: sq.phys,
    cdw10: 1 + 15 * 0x10000,
    cdw11: contig + 0x10000,
  });
  const memory = a.alloc(4096);
  a.rings[1] = {
    sq: sq.view,
    cq: cq.view,
    entries: 16,
    tail: 0,
    head: 0,
    phase: 1,
    vector: 1,
    interrupts: 0,
  };
  for (let i = 0; i < 5; i++) a.put(1, rw(nvmeCmdRead, 0, 1, { nsid: 1, prp1: memory.phys }));
  a.ring(1);
  clock.settle();
  const phases = () => [0, 1, 2, 3].map((i) => cq.view.getUint16(i * 16 + nvme.NVME_CQE_STATUS, true) & 1);
  t.same(phases(), [1, 1, 1, 0], 'one entry stays empty');
  a.write(nvme.NVME_REG_DBS + 12, 2);
  clock.settle();
  t.same(phases(), [0, 1, 1, 1], 'the next lap has the other phase');
  t.equal(cq.view.getUint16(nvme.NVME_CQE_CID, true), 5 + 1);
});

t.test('a submission queue may lie in the CMB', async (t) => {
  const { a } = twoDrives();
  a.enable();
  const { buffer } = a.ctrl.mapBar(2, 0, 8192);
  a.createQueues(1, 64, { bus: a.cmbBus, view: new DataView(buffer) });
  t.equal(a.io(rw(nvmeCmdRead, 0, 1, { prp1: a.alloc(4096).phys })).status, 0);
});

t.test('not if CMBSZ does not offer it', async (t) => {
  const { a } = twoDrives({ nvme: { cmb: { size: 16 * MIB, sqs: false } } });
  a.enable();
  a.addRing(1, 16);
  const contig = nvme.NVME_QUEUE_PHYS_CONTIG;
  a.admin({
    opcode: nvme.nvmeAdminCreateCq,
    prp1: a.alloc(4096).phys,
    cdw10: 1 + 15 * 0x10000,
    cdw11: contig,
  });
  const c = a.admin({
    opcode: nvme.nvmeAdminCreateSq,
    prp1: a.cmbBus,
    cdw10: 1 + 15 * 0x10000,
    cdw11: contig + 0x10000,
  });
  t.equal(c.status, nvme.NVME_SC_CMB_INVALID_USE);
});

t.test('two queues share the controller fairly', async (t) => {
  const { a, clock } = twoDrives();
  a.start(256);
  a.createQueues(2, 256);
  const memory = a.alloc(4096);
  for (const qid of [1, 2]) {
    for (let i = 0; i < 200; i++) a.put(qid, rw(nvmeCmdRead, 0, 1, { nsid: 1, prp1: memory.phys }));
  }
  a.admin({ opcode: nvme.nvmeAdminSetFeatures, cdw10: nvme.NVME_FEAT_ARBITRATION, cdw11: 3 });
  a.arrived.length = 0;
  a.ring(1);
  a.ring(2);
  clock.turn();
  t.equal(a.arrived.length, 400);
  t.equal(a.ctrl.outstanding, 0);
});

t.test('invalid doorbells are reported and ignored', async (t) => {
  const { a, clock } = twoDrives();
  a.start();
  const aer = a.submit(0, { opcode: nvme.nvmeAdminAsyncEvent });
  clock.settle();
  t.equal(a.take(aer), null, 'an event request waits');
  a.write(nvme.NVME_REG_DBS + 8, 99);
  clock.settle();
  const event = a.take(aer)!;
  t.equal(event.status, 0);
  t.equal(event.result & 0xff, nvme.NVME_AER_ERROR);
  t.equal((event.result >>> 8) & 0xff, nvme.NVME_AER_ERROR_INVALID_DB_VALUE);
  t.equal(event.result >>> 16, nvme.NVME_LOG_ERROR);

  const again = a.submit(0, { opcode: nvme.nvmeAdminAsyncEvent });
  a.write(nvme.NVME_REG_DBS + 8 * 9, 1);
  clock.settle();
  t.equal(a.take(again), null, 'silent until the log was read');
  const log = a.alloc(4096);
  a.admin({ opcode: nvme.nvmeAdminGetLogPage, prp1: log.phys, cdw10: nvme.NVME_LOG_ERROR + 15 * 0x10000 });
  clock.settle();
  t.equal((a.take(again)!.result >>> 8) & 0xff, nvme.NVME_AER_ERROR_INVALID_DB_REG);
  t.equal(a.io(rw(nvmeCmdRead, 0, 1, { prp1: log.phys })).status, 0, 'the queue still works');
});

t.test('reset drops queues and commands', async (t) => {
  const { a, clock } = twoDrives({ faults: [{ kind: 'no-completion', controller: 'nvme0', nth: 2 }] });
  a.start();
  const memory = a.alloc(4096);
  t.equal(a.io(rw(nvmeCmdRead, 0, 1, { prp1: memory.phys })).status, 0);
  const stuck = a.submit(1, rw(nvmeCmdRead, 0, 1, { nsid: 1, prp1: memory.phys }));
  clock.settle();
  t.equal(a.take(stuck), null);
  t.equal(a.ctrl.outstanding, 1);
  a.write(nvme.NVME_REG_CC, 0);
  clock.settle();
  t.equal(a.ctrl.outstanding, 0);
  a.write(nvme.NVME_REG_DBS + 8, 1);
  a.start();
  t.equal(a.io(rw(nvmeCmdRead, 0, 1, { prp1: memory.phys })).status, 0);
  t.equal(a.take(stuck), null, 'what was dropped never completes');
});

t.test('a removed controller reads all ones and answers nothing', async (t) => {
  const { a, b, clock } = twoDrives();
  a.start();
  b.start();
  let told = 0;
  a.ctrl.onRemove(() => told++);
  const memory = a.alloc(4096);
  const cid = a.submit(1, rw(nvmeCmdRead, 0, 1, { nsid: 1, prp1: memory.phys }));
  a.ctrl.remove();
  t.equal(told, 0, 'not inside the call');
  clock.settle();
  t.equal(told, 1);
  t.equal(a.ctrl.present, false);
  t.equal(a.read(nvme.NVME_REG_CSTS), 0xffffffff);
  t.equal(a.take(cid), null);
  const peer = b.io(rw(nvmeCmdRead, 0, 8, { prp1: a.cmbBus }));
  t.equal(peer.status, nvme.NVME_SC_DATA_XFER_ERROR, 'its CMB is gone for others too');
  a.ctrl.remove();
  clock.settle();
  t.equal(told, 1);
});

t.test('Abort ends what waits, and says when it could not', async (t) => {
  const { a, clock } = twoDrives({ faults: [{ kind: 'no-completion', controller: 'nvme0', nth: 1 }] });
  a.start();
  const memory = a.alloc(4096);
  const stuck = a.submit(1, rw(nvmeCmdRead, 0, 1, { nsid: 1, prp1: memory.phys }));
  clock.settle();
  const abort = a.admin({ opcode: nvme.nvmeAdminAbortCmd, cdw10: 1 + stuck * 0x10000 });
  t.equal(abort.status, 0);
  t.equal(abort.result, 0, 'aborted');
  const end = a.take(stuck)!;
  t.equal(end.status, nvme.NVME_SC_ABORT_REQ);
  t.notOk(end.dnr, 'it may be tried again');
  t.equal(a.admin({ opcode: nvme.nvmeAdminAbortCmd, cdw10: 1 + stuck * 0x10000 }).result, 1, 'not aborted');
});

t.test('deleting queues', async (t) => {
  const { a, clock } = twoDrives({ faults: [{ kind: 'no-completion', controller: 'nvme0', nth: 1 }] });
  a.start();
  const memory = a.alloc(4096);
  const stuck = a.submit(1, rw(nvmeCmdRead, 0, 1, { nsid: 1, prp1: memory.phys }));
  clock.settle();
  const deleteCq = { opcode: nvme.nvmeAdminDeleteCq, cdw10: 1 };
  t.equal(a.admin(deleteCq).status, nvme.NVME_SC_INVALID_QUEUE, 'its SQ is still there');
  t.equal(a.admin({ opcode: nvme.nvmeAdminDeleteSq, cdw10: 1 }).status, 0);
  t.equal(a.take(stuck)!.status, nvme.NVME_SC_ABORT_QUEUE);
  t.equal(a.admin({ opcode: nvme.nvmeAdminDeleteSq, cdw10: 1 }).status, nvme.NVME_SC_QID_INVALID);
  t.equal(a.admin(deleteCq).status, 0);
  t.equal(a.admin(deleteCq).status, nvme.NVME_SC_QID_INVALID);
  a.createQueues(1, 8);
  t.equal(a.io(rw(nvmeCmdRead, 0, 1, { prp1: memory.phys })).status, 0);
});

t.test('the latency model adds time, and a bandwidth shared by all', async (t) => {
  const latency = { readUs: 80, writeUs: 20, bytesPerSecond: 4096 * 10_000 };
  const { a, clock } = twoDrives({ latency });
  a.start();
  const memory = a.alloc(4096);
  const read = () => a.submit(1, rw(nvmeCmdRead, 0, 8, { nsid: 1, prp1: memory.phys }));
  const first = read();
  const second = read();
  clock.settle();
  t.equal(a.take(first), null);
  clock.advance(0.181);
  t.equal(a.take(first)?.status, 0, '0.1 ms for the bytes, 0.08 ms for the command');
  t.equal(a.take(second), null);
  clock.advance(0.1);
  t.equal(a.take(second)?.status, 0);
  const write = a.submit(1, rw(nvmeCmdWrite, 0, 8, { nsid: 1, prp1: memory.phys }));
  clock.settle();
  const abort = a.admin({ opcode: nvme.nvmeAdminAbortCmd, cdw10: 1 + write * 0x10000 });
  t.equal(abort.result, 0);
  t.equal(a.take(write)!.status, nvme.NVME_SC_ABORT_REQ);
  clock.advance(10);
  t.equal(a.take(write), null, 'once only');
});

t.test('every byte is accounted by its path', async (t) => {
  const { a, b } = twoDrives();
  a.start();
  b.start();
  const paths = (driver: typeof a, prp1: number, opcode: number) => {
    const { cid, status } = driver.io(rw(opcode, 0, 8, { prp1 }));
    t.equal(status, 0);
    return driver.path(cid);
  };
  const none = { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
  t.same(paths(a, a.cmbBus, nvmeCmdRead), { ...none, internal: 4096 });
  t.same(paths(b, a.cmbBus, nvmeCmdWrite), { ...none, peerBus: 4096 });
  t.same(paths(b, b.alloc(4096).phys, nvmeCmdRead), { ...none, hostDram: 4096 });
});

t.test('drive to drive through a mapped CMB', async (t) => {
  const { a, b } = twoDrives();
  a.start();
  b.start();
  const source = a.alloc(4096);
  pattern(source.bytes, 3);
  a.io(rw(nvmeCmdWrite, 100, 8, { prp1: source.phys }));
  const map = a.ctrl.mapBar(2, 0x10000, 0x10000);
  a.io(rw(nvmeCmdRead, 100, 8, { prp1: a.cmbBus + 0x10000 }));
  t.same(new Uint8Array(map.buffer, 0, 4096), source.bytes, 'the mapping is the memory');
  b.io(rw(nvmeCmdWrite, 7, 8, { prp1: a.cmbBus + 0x10000 }));
  const back = b.alloc(4096);
  b.io(rw(nvmeCmdRead, 7, 8, { prp1: back.phys }));
  t.same(back.bytes, source.bytes);
  map.unmap();
  t.equal(map.buffer.byteLength, 0);
  put64(back.view, 0, 0);
});
