import t from 'tap';
import * as nvme from '../../../lib/backend/nvme-spec.js';
import { MemoryStore } from '../../../lib/emulator/nvme/store.js';
import { fc } from '../../helpers/random.js';
import { type Command, type Driver, MIB, pattern, put64, putSgl, rw, twoDrives } from './harness.js';

const { nvmeCmdRead, nvmeCmdWrite } = nvme;
const DATA = nvme.NVME_SGL_FMT_DATA_DESC;
const SEG = nvme.NVME_SGL_FMT_SEG_DESC;
const LAST = nvme.NVME_SGL_FMT_LAST_SEG_DESC;

function started(options: Parameters<typeof twoDrives>[0] = {}) {
  const machine = twoDrives(options);
  machine.a.start();
  machine.b.start();
  return machine;
}

/** Put a pattern on the medium, by one write per page. */
function fill(d: Driver, slba: number, bytes: number, seed = 1): Uint8Array {
  const memory = d.alloc(4096);
  const all = pattern(new Uint8Array(bytes), seed);
  for (let at = 0; at < bytes; at += 4096) {
    memory.bytes.set(all.subarray(at, at + 4096));
    const blocks = Math.min(8, (bytes - at) / 512);
    if (d.io(rw(nvmeCmdWrite, slba + at / 512, blocks, { prp1: memory.phys })).status !== 0)
      throw new Error('fill');
  }
  return all;
}

t.test('PRP1 and PRP2', async (t) => {
  const { a } = started();
  const data = fill(a, 0, 8192);
  const memory = a.alloc(16384);

  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { prp1: memory.phys + 512, prp2: memory.phys + 8192 })).status, 0);
  t.same(memory.bytes.subarray(512, 4096), data.subarray(0, 3584), 'from an offset to the end of the page');
  t.same(memory.bytes.subarray(8192, 8704), data.subarray(3584, 4096), 'and on in the second page');

  t.equal(a.io(rw(nvmeCmdRead, 0, 16, { prp1: memory.phys + 4096, prp2: memory.phys })).status, 0);
  t.same(memory.bytes.subarray(4096, 8192), data.subarray(0, 4096));
  t.same(memory.bytes.subarray(0, 4096), data.subarray(4096), 'pages in any order');

  t.equal(a.io(rw(nvmeCmdRead, 0, 1, { prp1: memory.phys + 4 })).status, 0, 'dword alignment is enough');
  t.same(memory.bytes.subarray(4, 516), data.subarray(0, 512));
});

t.test('PRP errors', async (t) => {
  const { a } = started();
  const { phys } = a.alloc(8192);
  const status = (blocks: number, prp1: number, prp2: number) =>
    a.io(rw(nvmeCmdRead, 0, blocks, { prp1, prp2 })).status;
  t.equal(status(1, phys + 2, 0), nvme.NVME_SC_PRP_INVALID_OFFSET, 'PRP1 not on a dword');
  t.equal(status(16, phys, 0), nvme.NVME_SC_PRP_INVALID_OFFSET, 'PRP2 missing');
  t.equal(status(16, phys, phys + 512), nvme.NVME_SC_PRP_INVALID_OFFSET, 'PRP2 with an offset');
  t.equal(status(32, phys, phys + 4), nvme.NVME_SC_PRP_INVALID_OFFSET, 'a list not on a qword');
  t.equal(
    status(32, phys, a.prpList([phys, phys + 8, phys])),
    nvme.NVME_SC_PRP_INVALID_OFFSET,
    'an entry with an offset',
  );
  t.equal(status(32, phys, a.prpList([phys, 0, phys])), nvme.NVME_SC_PRP_INVALID_OFFSET, 'an empty entry');
  t.equal(status(8, 0x7777000, 0), nvme.NVME_SC_DATA_XFER_ERROR, 'nobody there');
  t.equal(status(32, phys, 0x7777000), nvme.NVME_SC_DATA_XFER_ERROR, 'nobody where the list should be');
});

t.test('a failed transfer moves nothing', async (t) => {
  const { a } = started();
  fill(a, 0, 8192);
  const memory = a.alloc(4096);
  t.equal(
    a.io(rw(nvmeCmdRead, 0, 16, { prp1: memory.phys, prp2: 0x7777000 })).status,
    nvme.NVME_SC_DATA_XFER_ERROR,
  );
  t.ok(memory.bytes.every((b) => b === 0));
});

t.test('PRP lists, at an offset in their page and chained', async (t) => {
  const { a } = started();
  const pages = 40;
  const data = fill(a, 0, pages * 4096);
  const memory = a.alloc(2 * pages * 4096);
  // Every second page, so that nothing can be joined.
  const page = (i: number) => memory.phys + 2 * i * 4096;
  const first = a.alloc(4096);
  const second = a.alloc(4096);
  const third = a.alloc(4096);
  // Ten places are left in the first list page: nine pages and a link; two in the second: one and a link.
  const start = 4096 - 10 * 8;
  for (let i = 0; i < 9; i++) put64(first.view, start + i * 8, page(1 + i));
  put64(first.view, start + 72, second.phys + 4096 - 16);
  put64(second.view, 4096 - 16, page(10));
  put64(second.view, 4096 - 8, third.phys);
  for (let i = 11; i < pages; i++) put64(third.view, (i - 11) * 8, page(i));

  const c = a.io(rw(nvmeCmdRead, 0, pages * 8, { prp1: page(0), prp2: first.phys + start }));
  t.equal(c.status, 0);
  for (let i = 0; i < pages; i++) {
    const got = memory.bytes.subarray(2 * i * 4096, (2 * i + 1) * 4096);
    t.same(got, data.subarray(i * 4096, (i + 1) * 4096), `page ${i}`);
  }
  t.equal(a.path(c.cid).hostDram, pages * 4096);
});

t.test('a list that fills its page exactly has no link', async (t) => {
  const { a } = started();
  const data = fill(a, 0, 3 * 4096);
  const memory = a.alloc(3 * 4096);
  const list = a.alloc(4096);
  put64(list.view, 4096 - 16, memory.phys + 4096);
  put64(list.view, 4096 - 8, memory.phys + 8192);
  t.equal(a.io(rw(nvmeCmdRead, 0, 24, { prp1: memory.phys, prp2: list.phys + 4096 - 16 })).status, 0);
  t.same(memory.bytes, data);
});

t.test('any split of a transfer over pages writes the same data', async () => {
  const { a } = started();
  await fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 0, max: 1023 }),
      fc.integer({ min: 0, max: 2000 }),
      fc.boolean(),
      (blocks, dword, slba, contiguous) => {
        const length = blocks * 512;
        const offset = dword * 4;
        const pages = Math.ceil((offset + length) / 4096);
        const stride = contiguous ? 4096 : 8192;
        const memory = a.alloc(pages * stride);
        const data = pattern(new Uint8Array(length), slba);
        for (let at = 0; at < length; ) {
          const place = offset + at;
          const n = Math.min(length - at, 4096 - (place % 4096));
          memory.bytes.set(data.subarray(at, at + n), Math.floor(place / 4096) * stride + (place % 4096));
          at += n;
        }
        const list = Array.from({ length: pages - 1 }, (_, i) => memory.phys + (i + 1) * stride);
        const prp2 = pages === 1 ? 0 : pages === 2 ? list[0]! : a.prpList(list);
        const written = a.io(rw(nvmeCmdWrite, slba, blocks, { prp1: memory.phys + offset, prp2 }));
        memory.bytes.fill(0xee);
        const read = a.io(rw(nvmeCmdRead, slba, blocks, { prp1: memory.phys + offset, prp2 }));
        const back = new Uint8Array(length);
        for (let at = 0; at < length; ) {
          const place = offset + at;
          const n = Math.min(length - at, 4096 - (place % 4096));
          const from = Math.floor(place / 4096) * stride + (place % 4096);
          back.set(memory.bytes.subarray(from, from + n), at);
          at += n;
        }
        a.fabric.memory.freePages(memory.phys);
        return written.status === 0 && read.status === 0 && Buffer.compare(back, data) === 0;
      },
    ),
    { numRuns: 60 },
  );
});

t.test('SGL: one data block of any length and address', async (t) => {
  const { a } = started();
  const data = fill(a, 0, 12288);
  const memory = a.alloc(16384);
  const sgl = { addr: memory.phys + 1, length: 12288, type: DATA };
  t.equal(a.io(rw(nvmeCmdRead, 0, 24, { sgl })).status, 0);
  t.same(memory.bytes.subarray(1, 12289), data);
});

t.test('SGL: segments that lead to segments', async (t) => {
  const { a } = started();
  const data = fill(a, 0, 8192);
  const memory = a.alloc(4 * 8192);
  const seg1 = a.alloc(4096);
  const seg2 = a.alloc(4096);
  putSgl(seg1.view, 0, memory.phys + 100, 1000, DATA);
  putSgl(seg1.view, 16, memory.phys + 8192, 0, DATA);
  putSgl(seg1.view, 32, memory.phys + 8192, 3096, DATA);
  putSgl(seg1.view, 48, seg2.phys, 32, LAST);
  putSgl(seg2.view, 0, memory.phys + 16384, 4000, DATA);
  putSgl(seg2.view, 16, memory.phys + 24576, 4000, DATA);
  const c = a.io(rw(nvmeCmdRead, 0, 16, { sgl: { addr: seg1.phys, length: 64, type: SEG } }));
  t.equal(c.status, 0);
  const got = Buffer.concat([
    memory.bytes.subarray(100, 1100),
    memory.bytes.subarray(8192, 8192 + 3096),
    memory.bytes.subarray(16384, 16384 + 4000),
    memory.bytes.subarray(24576, 24576 + 96),
  ]);
  t.same(new Uint8Array(got), data);
  t.equal(memory.bytes[24576 + 96], 0, 'a list may be longer than the data');
});

t.test('SGL: a last segment longer than one fetch', async (t) => {
  const { a } = started();
  const data = fill(a, 0, 600 * 512);
  const memory = a.alloc(2 * 600 * 512);
  const segment = a.alloc(3 * 4096);
  for (let i = 0; i < 600; i++) putSgl(segment.view, i * 16, memory.phys + i * 1024, 512, DATA);
  t.equal(a.io(rw(nvmeCmdRead, 0, 600, { sgl: { addr: segment.phys, length: 9600, type: LAST } })).status, 0);
  let same = true;
  for (let i = 0; i < 600; i++) {
    if (
      Buffer.compare(
        memory.bytes.subarray(i * 1024, i * 1024 + 512),
        data.subarray(i * 512, i * 512 + 512),
      ) !== 0
    )
      same = false;
  }
  t.ok(same);
});

t.test('SGL errors', async (t) => {
  const { a } = started();
  const { phys } = a.alloc(8192);
  const segment = a.alloc(4096);
  const status = (addr: number, length: number, type: number) =>
    a.io(rw(nvmeCmdRead, 0, 8, { sgl: { addr, length, type } })).status;
  t.equal(status(phys, 512, DATA), nvme.NVME_SC_SGL_INVALID_DATA, 'too short');
  t.equal(status(phys, 4096, 5), nvme.NVME_SC_SGL_INVALID_TYPE, 'vendor type');
  t.equal(status(segment.phys, 24, LAST), nvme.NVME_SC_SGL_INVALID_LAST, 'half a descriptor');
  putSgl(segment.view, 0, phys, 512, DATA);
  t.equal(status(segment.phys, 16, LAST), nvme.NVME_SC_SGL_INVALID_DATA, 'the list is too short');
  t.equal(status(segment.phys, 16, SEG), nvme.NVME_SC_SGL_INVALID_LAST, 'a segment that leads nowhere');
  putSgl(segment.view, 0, segment.phys, 16, SEG);
  t.equal(status(segment.phys, 16, LAST), nvme.NVME_SC_SGL_INVALID_LAST, 'a last segment that leads on');
  t.equal(status(segment.phys, 16, SEG), nvme.NVME_SC_SGL_INVALID_COUNT, 'a segment that leads to itself');
  putSgl(segment.view, 0, phys, 4096, 4);
  t.equal(status(segment.phys, 16, LAST), nvme.NVME_SC_SGL_INVALID_TYPE, 'keyed');
  t.equal(status(0x7777000, 16, LAST), nvme.NVME_SC_DATA_XFER_ERROR);
  t.equal(
    a.io(rw(nvmeCmdRead, 0, 8, { flags: nvme.NVME_CMD_SGL_ALL, prp1: phys })).status,
    nvme.NVME_SC_INVALID_FIELD,
    'a data pointer type that does not exist',
  );
});

t.test('SGLs only where they are offered', async (t) => {
  const { a } = started({ nvme: { sgls: false } });
  const sgl = { addr: a.alloc(4096).phys, length: 4096, type: DATA };
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { sgl })).status, nvme.NVME_SC_INVALID_FIELD);
  const { a: c } = started();
  const admin = {
    opcode: nvme.nvmeAdminIdentify,
    cdw10: nvme.NVME_ID_CNS_CTRL,
    sgl: { ...sgl, addr: c.alloc(4096).phys },
  };
  t.equal(c.admin(admin).status, nvme.NVME_SC_INVALID_FIELD, 'not for admin commands');
});

t.test('the owner of a CMB does not mix it with host memory; others may', async (t) => {
  const { a, b } = started();
  const host = a.alloc(4096);
  const mixed = { prp1: a.cmbBus, prp2: host.phys };
  const refused = a.io(rw(nvmeCmdRead, 0, 16, mixed));
  t.equal(refused.status, nvme.NVME_SC_CMB_INVALID_USE);
  t.equal(refused.status, 0x12);
  t.ok(refused.dnr);
  t.equal(
    a.io(rw(nvmeCmdWrite, 0, 16, { prp1: host.phys, prp2: a.cmbBus })).status,
    nvme.NVME_SC_CMB_INVALID_USE,
  );
  t.same(a.path(refused.cid), { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 });
  t.equal(b.io(rw(nvmeCmdRead, 0, 16, mixed)).status, 0);
});

t.test('data in the CMB only in the directions CMBSZ offers', async (t) => {
  const { a } = started({ nvme: { cmb: { size: 16 * MIB, rds: false, lists: false } } });
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { prp1: a.cmbBus })).status, nvme.NVME_SC_CMB_INVALID_USE);
  t.equal(a.io(rw(nvmeCmdWrite, 0, 8, { prp1: a.cmbBus })).status, 0);
  const { phys } = a.alloc(4096);
  t.equal(
    a.io(rw(nvmeCmdRead, 0, 24, { prp1: phys, prp2: a.cmbBus })).status,
    nvme.NVME_SC_CMB_INVALID_USE,
    'a list',
  );
});

t.test('without CMBMSC.CMSE the controller does not know its CMB', async (t) => {
  const { a } = started();
  a.write64(nvme.NVME_REG_CMBMSC, 0);
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { prp1: a.cmbBus })).status, nvme.NVME_SC_DATA_XFER_ERROR);
  a.enableCmb();
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { prp1: a.cmbBus })).status, 0);
});

t.test('LBA range, MDTS, namespace ids, opcodes', async (t) => {
  const { a } = started({ nvme: { mdts: 8192 } });
  const { phys } = a.alloc(16384);
  const blocks = (64 * MIB) / 512;
  const io = (command: Command) => a.io({ prp1: phys, prp2: phys + 4096, ...command });
  t.equal(io(rw(nvmeCmdRead, blocks - 1, 1)).status, 0);
  t.equal(io(rw(nvmeCmdRead, blocks - 1, 2)).status, nvme.NVME_SC_LBA_RANGE);
  t.equal(io(rw(nvmeCmdWrite, blocks, 1)).status, nvme.NVME_SC_LBA_RANGE);
  t.equal(io(rw(nvmeCmdRead, 2 ** 40, 1)).status, nvme.NVME_SC_LBA_RANGE);
  t.equal(io(rw(nvmeCmdRead, 0, 16)).status, 0);
  t.equal(io(rw(nvmeCmdRead, 0, 17)).status, nvme.NVME_SC_INVALID_FIELD, 'beyond MDTS');
  t.equal(io(rw(nvmeCmdRead, 0, 1, { nsid: 0 })).status, nvme.NVME_SC_INVALID_NS);
  t.equal(io(rw(nvmeCmdRead, 0, 1, { nsid: 0xffff0000 })).status, nvme.NVME_SC_INVALID_NS);
  t.equal(io(rw(nvmeCmdRead, 0, 1, { nsid: 2 })).status, nvme.NVME_SC_INVALID_FIELD, 'not active');
  t.equal(io({ opcode: 0x7f }).status, nvme.NVME_SC_INVALID_OPCODE);
  t.equal(io(rw(nvmeCmdRead, 0, 1, { flags: 1 })).status, nvme.NVME_SC_INVALID_FIELD, 'fused');
  t.equal(a.admin({ opcode: 0x7f }).status, nvme.NVME_SC_INVALID_OPCODE);
});

t.test('Compare', async (t) => {
  const { a } = started();
  const data = fill(a, 0, 4096);
  const memory = a.alloc(4096);
  memory.bytes.set(data);
  t.equal(a.io(rw(nvme.nvmeCmdCompare, 0, 8, { prp1: memory.phys })).status, 0);
  memory.bytes[4095]! ^= 1;
  t.equal(a.io(rw(nvme.nvmeCmdCompare, 0, 8, { prp1: memory.phys })).status, nvme.NVME_SC_COMPARE_FAILED);
  t.equal(
    a.io(rw(nvme.nvmeCmdCompare, 4000, 8, { prp1: a.alloc(4096).phys })).status,
    0,
    'zeros where nothing is',
  );
});

t.test('Flush, Write Zeroes, Dataset Management', async (t) => {
  const { a } = started();
  fill(a, 0, 8192);
  t.equal(a.io({ opcode: nvme.nvmeCmdFlush }).status, 0);
  t.equal(a.io({ opcode: nvme.nvmeCmdFlush, nsid: nvme.NVME_NSID_ALL }).status, nvme.NVME_SC_INVALID_NS);
  t.equal(a.io(rw(nvme.nvmeCmdWriteZeroes, 1, 2)).status, 0);
  t.equal(a.io(rw(nvme.nvmeCmdWriteZeroes, 2 ** 30, 2)).status, nvme.NVME_SC_LBA_RANGE);
  const memory = a.alloc(8192);
  a.io(rw(nvmeCmdRead, 0, 16, { prp1: memory.phys, prp2: memory.phys + 4096 }));
  const zero = (from: number, to: number) =>
    memory.bytes.subarray(from * 512, to * 512).every((b) => b === 0);
  t.same([zero(0, 1), zero(1, 3), zero(3, 4)], [false, true, false]);

  const ranges = a.alloc(4096);
  const range = (i: number, slba: number, blocks: number) => {
    ranges.view.setUint32(i * 16 + 4, blocks, true);
    put64(ranges.view, i * 16 + 8, slba);
  };
  range(0, 4, 2);
  range(1, 8, 8);
  const dsm = (more: Partial<Command>) =>
    a.io({ opcode: nvme.nvmeCmdDsm, prp1: ranges.phys, cdw10: 1, cdw11: nvme.NVME_DSMGMT_AD, ...more })
      .status;
  t.equal(dsm({ cdw11: 0 }), 0);
  t.equal(dsm({}), 0);
  a.io(rw(nvmeCmdRead, 0, 16, { prp1: memory.phys, prp2: memory.phys + 4096 }));
  t.same([zero(3, 4), zero(4, 6), zero(6, 7), zero(8, 16)], [false, true, false, true]);
  range(0, 0, 1);
  range(1, 2 ** 40, 1);
  t.equal(dsm({}), nvme.NVME_SC_LBA_RANGE);
  a.io(rw(nvmeCmdRead, 0, 16, { prp1: memory.phys, prp2: memory.phys + 4096 }));
  t.notOk(zero(0, 1), 'nothing happens if one range is wrong');
});

t.test('4096-byte blocks', async (t) => {
  const { a } = started({ stores: new Map([[1, new MemoryStore(MIB, { blockSize: 4096 })]]) });
  const memory = a.alloc(4096);
  pattern(memory.bytes, 9);
  t.equal(a.io(rw(nvmeCmdWrite, 255, 1, { prp1: memory.phys })).status, 0);
  t.equal(a.io(rw(nvmeCmdWrite, 256, 1, { prp1: memory.phys })).status, nvme.NVME_SC_LBA_RANGE);
  const back = a.alloc(4096);
  a.io(rw(nvmeCmdRead, 255, 1, { prp1: back.phys }));
  t.same(back.bytes, memory.bytes);
});

t.test('a read-only namespace', async (t) => {
  const { a } = started({ stores: new Map([[1, new MemoryStore(MIB, { readOnly: true })]]) });
  const { phys } = a.alloc(4096);
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { prp1: phys })).status, 0);
  t.equal(a.io(rw(nvmeCmdWrite, 0, 8, { prp1: phys })).status, nvme.NVME_SC_NS_WRITE_PROTECTED);
  t.equal(a.io(rw(nvme.nvmeCmdWriteZeroes, 0, 8)).status, nvme.NVME_SC_NS_WRITE_PROTECTED);
});

t.test('fault: media errors at an LBA', async (t) => {
  const { a, b } = started({
    faults: [
      { kind: 'media-error', namespace: 'nvme0n1', lba: 10, op: 'read' },
      { kind: 'media-error', namespace: 'nvme0n1', lba: 20 },
    ],
  });
  const { phys } = a.alloc(4096);
  const status = (opcode: number, slba: number, blocks: number) =>
    a.io(rw(opcode, slba, blocks, { prp1: phys })).status;
  t.equal(status(nvmeCmdRead, 3, 8), nvme.NVME_SC_READ_ERROR);
  t.equal(status(nvmeCmdRead, 2, 8), 0);
  t.equal(status(nvmeCmdRead, 11, 8), 0);
  t.equal(status(nvmeCmdWrite, 10, 1), 0);
  t.equal(status(nvmeCmdWrite, 20, 1), nvme.NVME_SC_WRITE_FAULT);
  t.equal(status(nvme.nvmeCmdWriteZeroes, 20, 1), nvme.NVME_SC_WRITE_FAULT);
  t.equal(status(nvme.nvmeCmdCompare, 20, 1), nvme.NVME_SC_READ_ERROR);
  t.equal(b.io(rw(nvmeCmdRead, 10, 1, { prp1: phys })).status, 0, 'the other drive is well');
  t.equal(a.ctrl.statistics.mediaErrors, 4);
  a.ctrl.faults.clear();
  t.equal(status(nvmeCmdRead, 3, 8), 0);
});

t.test('fault: removed after so many bytes', async (t) => {
  const { a, clock } = started({ faults: [{ kind: 'remove', controller: 'nvme0', afterBytes: 8192 }] });
  let removed = 0;
  a.ctrl.onRemove(() => removed++);
  const { phys } = a.alloc(4096);
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { prp1: phys })).status, 0);
  const cids = [0, 1, 2].map(() => a.put(1, rw(nvmeCmdRead, 0, 8, { nsid: 1, prp1: phys })));
  a.ring(1);
  clock.settle();
  t.same(
    cids.map((cid) => a.take(cid)),
    [null, null, null],
  );
  t.equal(removed, 1);
  t.equal(a.read(nvme.NVME_REG_CSTS), 0xffffffff);
});

t.test('fault: lost peer writes report success', async (t) => {
  const { a, b } = started({ faults: [{ kind: 'drop-peer-writes', function: '03:00.0' }] });
  const map = a.ctrl.mapBar(2, 0, 4096);
  const cmb = pattern(new Uint8Array(map.buffer));
  const before = cmb.slice();
  t.equal(b.io(rw(nvmeCmdRead, 0, 8, { prp1: a.cmbBus })).status, 0);
  t.same(cmb, before);
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { prp1: a.cmbBus })).status, 0);
  t.ok(
    cmb.every((b) => b === 0),
    'the owner still gets there',
  );
});

t.test('Identify', async (t) => {
  const { a } = started();
  const page = a.alloc(4096);
  const identify = (cns: number, nsid = 0) =>
    a.admin({ opcode: nvme.nvmeAdminIdentify, nsid, cdw10: cns, prp1: page.phys }).status;
  const text = (at: number, n: number) =>
    Buffer.from(page.bytes.subarray(at, at + n))
      .toString()
      .trimEnd();
  t.equal(identify(nvme.NVME_ID_CNS_CTRL), 0);
  t.equal(text(nvme.NVME_ID_CTRL_SN, nvme.NVME_ID_CTRL_SN_BYTES), 'SN0');
  t.equal(text(nvme.NVME_ID_CTRL_MN, nvme.NVME_ID_CTRL_MN_BYTES), 'Test drive');
  t.equal(page.bytes[nvme.NVME_ID_CTRL_MDTS], 8);
  t.equal(page.bytes[nvme.NVME_ID_CTRL_SQES], 0x66);
  t.ok(page.view.getUint32(nvme.NVME_ID_CTRL_SGLS, true) & 3);
  t.equal(page.view.getUint32(nvme.NVME_ID_CTRL_VER, true), nvme.NVME_VS_1_4);
  t.ok(page.bytes[nvme.NVME_ID_CTRL_VWC]! & nvme.NVME_CTRL_VWC_PRESENT);

  t.equal(identify(nvme.NVME_ID_CNS_NS, 1), 0);
  t.equal(page.view.getUint32(nvme.NVME_ID_NS_NSZE, true), (64 * MIB) / 512);
  t.equal(page.bytes[nvme.NVME_ID_NS_LBAF + 2], 9);
  t.equal(page.bytes[nvme.NVME_ID_NS_DLFEAT], 1);
  t.equal(identify(nvme.NVME_ID_CNS_NS, 5), 0);
  t.ok(
    page.bytes.every((b) => b === 0),
    'an inactive namespace is all zeros',
  );
  t.equal(identify(nvme.NVME_ID_CNS_NS, 0), nvme.NVME_SC_INVALID_NS);

  t.equal(identify(nvme.NVME_ID_CNS_NS_ACTIVE_LIST), 0);
  t.same(
    [0, 4].map((at) => page.view.getUint32(at, true)),
    [1, 0],
  );
  t.equal(identify(nvme.NVME_ID_CNS_NS_DESC_LIST, 1), 0);
  t.same([page.bytes[0], page.bytes[1], page.bytes[12], page.bytes[13]], [1, 8, 2, 16]);
  t.equal(identify(nvme.NVME_ID_CNS_NS_DESC_LIST, 9), nvme.NVME_SC_INVALID_NS);
  t.equal(identify(0x77), nvme.NVME_SC_INVALID_FIELD);
});

t.test('Create queue errors', async (t) => {
  const { a } = started();
  const { phys } = a.alloc(8192);
  const cq = (over: Partial<Command>) =>
    a.admin({ opcode: nvme.nvmeAdminCreateCq, prp1: phys, cdw10: 2 + 7 * 0x10000, cdw11: 1, ...over }).status;
  t.equal(cq({ cdw10: 7 * 0x10000 }), nvme.NVME_SC_QID_INVALID, 'queue 0');
  t.equal(cq({ cdw10: 1 + 7 * 0x10000 }), nvme.NVME_SC_QID_INVALID, 'there already');
  t.equal(cq({ cdw10: 999 + 7 * 0x10000 }), nvme.NVME_SC_QID_INVALID, 'more than there are');
  t.equal(cq({ cdw10: 2 }), nvme.NVME_SC_QUEUE_SIZE);
  t.equal(cq({ cdw10: 2 + 4096 * 0x10000 }), nvme.NVME_SC_QUEUE_SIZE);
  t.equal(cq({ cdw11: 0 }), nvme.NVME_SC_INVALID_FIELD, 'not contiguous');
  t.equal(cq({ prp1: phys + 64 }), nvme.NVME_SC_PRP_INVALID_OFFSET);
  t.equal(cq({ cdw11: 1 + 999 * 0x10000 }), nvme.NVME_SC_INVALID_VECTOR);
  t.equal(cq({ prp1: 0x7777000 }), nvme.NVME_SC_DATA_XFER_ERROR);
  const sq = (over: Partial<Command>) =>
    a.admin({
      opcode: nvme.nvmeAdminCreateSq,
      prp1: phys,
      cdw10: 2 + 7 * 0x10000,
      cdw11: 1 + 0x10000,
      ...over,
    }).status;
  t.equal(sq({ cdw11: 1 + 9 * 0x10000 }), nvme.NVME_SC_CQ_INVALID);
  t.equal(sq({ cdw10: 1 + 7 * 0x10000 }), nvme.NVME_SC_QID_INVALID);
  t.equal(sq({ cdw10: 2 }), nvme.NVME_SC_QUEUE_SIZE);
  t.equal(sq({ cdw11: 0x10000 }), nvme.NVME_SC_INVALID_FIELD);
});

t.test('Set and Get Features', async (t) => {
  const { a } = twoDrives({ nvme: { queues: 8 } });
  a.enable();
  const set = (id: number, value: number) =>
    a.admin({ opcode: nvme.nvmeAdminSetFeatures, cdw10: id, cdw11: value });
  const get = (id: number, sel = 0) => a.admin({ opcode: nvme.nvmeAdminGetFeatures, cdw10: id + sel * 256 });
  t.equal(set(nvme.NVME_FEAT_NUM_QUEUES, 0x10001).result, 0x10001);
  t.equal(set(nvme.NVME_FEAT_NUM_QUEUES, 0x00ff00ff).result, 0x70007, 'no more than there are');
  t.equal(get(nvme.NVME_FEAT_NUM_QUEUES).result, 0x70007);
  t.equal(set(nvme.NVME_FEAT_NUM_QUEUES, 0xffff).status, nvme.NVME_SC_INVALID_FIELD);
  a.createQueues(1);
  t.equal(set(nvme.NVME_FEAT_NUM_QUEUES, 1).status, nvme.NVME_SC_CMD_SEQ_ERROR);
  t.equal(set(nvme.NVME_FEAT_TEMP_THRESH, 350).status, 0);
  t.equal(get(nvme.NVME_FEAT_TEMP_THRESH).result, 350);
  t.equal(get(nvme.NVME_FEAT_TEMP_THRESH, 1).result, 343);
  t.equal(get(nvme.NVME_FEAT_TEMP_THRESH, 3).result, 4);
  t.equal(set(0x7f, 0).status, nvme.NVME_SC_INVALID_FIELD);
  t.equal(get(0x7f).status, nvme.NVME_SC_INVALID_FIELD);
  t.equal(set(nvme.NVME_FEAT_TEMP_THRESH + 0x80000000, 1).status, nvme.NVME_SC_FEATURE_NOT_SAVEABLE);
});

t.test('log pages', async (t) => {
  const { a } = started();
  const page = a.alloc(4096);
  const log = (id: number, dwords: number, more: Partial<Command> = {}) =>
    a.admin({
      opcode: nvme.nvmeAdminGetLogPage,
      prp1: page.phys,
      cdw10: id + (dwords - 1) * 0x10000,
      ...more,
    });
  fill(a, 0, 4096);
  a.io(rw(nvmeCmdRead, 2 ** 40, 1, { prp1: page.phys }));
  t.equal(log(nvme.NVME_LOG_SMART, 128).status, 0);
  t.equal(page.view.getUint32(48, true), 1, 'data units written, rounded up');
  t.equal(page.view.getUint32(80, true), 1, 'write commands');
  t.equal(page.view.getUint32(176, true), 1, 'errors logged');
  t.equal(log(nvme.NVME_LOG_ERROR, 16).status, 0);
  t.equal((page.view.getUint16(12, true) >>> 1) & nvme.NVME_SC_MASK, nvme.NVME_SC_LBA_RANGE);
  t.equal(page.view.getUint32(16 + 4, true), 2 ** 8, 'the LBA, high half');
  t.equal(log(nvme.NVME_LOG_FW_SLOT, 128).status, 0);
  t.equal(log(0x77, 1).status, nvme.NVME_SC_INVALID_LOG_PAGE);
  t.equal(
    log(nvme.NVME_LOG_SMART, 1, { cdw12: 1024 }).status,
    nvme.NVME_SC_INVALID_FIELD,
    'an offset beyond it',
  );
});

t.test('namespaces come and go', async (t) => {
  const { a, clock } = started();
  const page = a.alloc(4096);
  a.admin({
    opcode: nvme.nvmeAdminSetFeatures,
    cdw10: nvme.NVME_FEAT_ASYNC_EVENT,
    cdw11: nvme.NVME_AEN_CFG_NS_ATTR,
  });
  const aer = a.submit(0, { opcode: nvme.nvmeAdminAsyncEvent });
  clock.settle();
  const store = new MemoryStore(MIB);
  const nsid = a.ctrl.attachNamespace(store);
  t.equal(nsid, 2);
  clock.settle();
  t.equal(a.take(aer)!.result & 0x7, nvme.NVME_AER_NOTICE);
  a.admin({
    opcode: nvme.nvmeAdminGetLogPage,
    prp1: page.phys,
    cdw10: nvme.NVME_LOG_CHANGED_NS + 1023 * 0x10000,
  });
  t.same(
    [0, 4].map((at) => page.view.getUint32(at, true)),
    [2, 0],
  );
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { nsid, prp1: page.phys })).status, 0);
  t.equal(a.ctrl.detachNamespace(nsid), store);
  t.equal(a.ctrl.detachNamespace(nsid), null);
  t.equal(a.io(rw(nvmeCmdRead, 0, 8, { nsid, prp1: page.phys })).status, nvme.NVME_SC_INVALID_FIELD);
  t.throws(() => a.ctrl.attachNamespace(store, 1), RangeError);
});

t.test('no more Asynchronous Event Requests than the limit', async (t) => {
  const { a, clock } = started();
  const cids = [0, 1, 2, 3].map(() => a.submit(0, { opcode: nvme.nvmeAdminAsyncEvent }));
  clock.settle();
  t.equal(a.admin({ opcode: nvme.nvmeAdminAsyncEvent }).status, nvme.NVME_SC_ASYNC_LIMIT);
  t.equal(a.admin({ opcode: nvme.nvmeAdminAbortCmd, cdw10: cids[0]! * 0x10000 }).result, 0);
  t.equal(a.take(cids[0]!)!.status, nvme.NVME_SC_ABORT_REQ);
});
