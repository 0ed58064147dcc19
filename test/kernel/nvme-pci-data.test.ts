import t from 'tap';
import { PAGE_SIZE } from '../../lib/backend/hardware.js';
import {
  NVME_CMD_SGL_METABUF,
  NVME_SGL_FMT_DATA_DESC,
  NVME_SGL_FMT_LAST_SEG_DESC,
  nvmeCmdRead,
  nvmeCmdWrite,
} from '../../lib/backend/nvme-spec.js';
import { EIO } from '../../lib/base/errno.js';
import { EmulatedHostMemory } from '../../lib/emulator/bus/host-memory.js';
import { type Bio, bioAddPage, bioAlloc, bioPut } from '../../lib/kernel/bio.js';
import { type Device, dmaDefaultParms } from '../../lib/kernel/dma-mapping.js';
import { NvmeCommand } from '../../lib/kernel/nvme-command.js';
import { blkRqMapSg, NvmeDataMapper, NvmeIod } from '../../lib/kernel/nvme-pci-data.js';
import { SgTable, sgNext } from '../../lib/kernel/scatterlist.js';
import { fc } from '../helpers/random.js';

const queue = {
  limits: {
    logicalBlockSize: 512,
    dmaAlignment: 4,
    maxTransfer: 1 << 26,
    maxSegments: 1024,
    maxSegmentSize: 1 << 26,
    virtBoundary: 4096,
    pciP2pdma: true,
  },
  submitBio() {},
};

function newDevice(memory: EmulatedHostMemory): Device {
  return {
    name: 'test',
    pdev: null,
    dmaOps: null,
    dmaParms: dmaDefaultParms(),
    memory,
    iommu: null,
    iommuDomain: null,
  };
}

interface Range {
  readonly address: number;
  readonly length: number;
}

function bioOf(ranges: readonly Range[]): Bio {
  const bio = bioAlloc(queue, 'read');
  for (const { address, length } of ranges) bioAddPage(bio, address, length, null);
  return bio;
}

/** Every byte range that the command names, in order, as a drive reads it: PRPs. */
function walkPrps(memory: EmulatedHostMemory, cmd: NvmeCommand, size: number): Range[] {
  const out: Range[] = [];
  const first = Math.min(PAGE_SIZE - (cmd.dptr % PAGE_SIZE), size);
  out.push({ address: cmd.dptr, length: first });
  let left = size - first;
  if (left === 0) return out;
  if (left <= PAGE_SIZE) return [...out, { address: cmd.prp2, length: left }];
  let at = cmd.prp2;
  while (left > 0) {
    const bytes = memory.window(at, 8);
    if (bytes === null) throw new Error('a PRP list outside memory');
    const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
    const entry = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
    if (at % PAGE_SIZE === PAGE_SIZE - 8 && left > PAGE_SIZE) {
      at = entry;
      continue;
    }
    const length = Math.min(left, PAGE_SIZE);
    out.push({ address: entry, length });
    left -= length;
    at += 8;
  }
  return out;
}

/** The same for SGLs. */
function walkSgl(memory: EmulatedHostMemory, cmd: NvmeCommand): Range[] {
  if (cmd.sglType === NVME_SGL_FMT_DATA_DESC << 4) return [{ address: cmd.dptr, length: cmd.sglLength }];
  if (cmd.sglType !== NVME_SGL_FMT_LAST_SEG_DESC << 4) throw new Error(`SGL type ${cmd.sglType}`);
  const bytes = memory.window(cmd.dptr, cmd.sglLength)!;
  const view = new DataView(bytes.buffer, bytes.byteOffset, cmd.sglLength);
  const out: Range[] = [];
  for (let at = 0; at < cmd.sglLength; at += 16) {
    const address = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    out.push({ address, length: view.getUint32(at + 8, true) });
  }
  return out;
}

/** Neighbours joined, so that two ways to say the same compare equal. */
function joined(ranges: readonly Range[]): Range[] {
  const out: { address: number; length: number }[] = [];
  for (const { address, length } of ranges) {
    const last = out[out.length - 1];
    if (last !== undefined && last.address + last.length === address) last.length += length;
    else out.push({ address, length });
  }
  return out;
}

/** Ranges as the virt boundary allows them: only the first starts, only the last ends inside a page. */
const pagewise = fc
  .tuple(
    fc.integer({ min: 0, max: 1023 }),
    fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 }),
    fc.integer({ min: 1, max: 8 }),
  )
  .map(([start, pages, tail]) => {
    const ranges: Range[] = [];
    let address = 0x123456789000;
    pages.forEach((count, i) => {
      const offset = i === 0 ? start * 4 : 0;
      const cut = i === pages.length - 1 ? (tail % 8) * 512 : 0;
      const length = count * PAGE_SIZE - offset - cut;
      if (length > 0) ranges.push({ address: address + offset, length });
      address += (count + 3) * PAGE_SIZE;
    });
    return ranges.length > 0 ? ranges : [{ address, length: 512 }];
  });

for (const [form, sglSupported, threshold] of [
  ['PRPs', false, 32768],
  ['SGLs', true, 1],
  ['either, by average length', true, 32768],
] as const) {
  t.test(`a drive finds every byte again: ${form}`, async (t) => {
    const memory = new EmulatedHostMemory();
    const mapper = new NvmeDataMapper(newDevice(memory), threshold);
    mapper.sglSupported = sglSupported;
    const iod = new NvmeIod();
    const cmd = new NvmeCommand();
    fc.assert(
      fc.property(pagewise, (ranges) => {
        const bio = bioOf(ranges);
        cmd.clear();
        cmd.opcode = nvmeCmdRead;
        if (mapper.map(iod, bio, cmd, 1) !== 0) return false;
        const sgl = (cmd.flags & NVME_CMD_SGL_METABUF) !== 0;
        const told = sgl ? walkSgl(memory, cmd) : walkPrps(memory, cmd, bio.size);
        mapper.unmap(iod);
        bioPut(bio);
        return JSON.stringify(joined(told)) === JSON.stringify(joined(ranges));
      }),
    );
    mapper.destroy();
    t.same(memory.pages, { pinned: 0, allocated: 0 }, 'the pools give everything back');
  });
}

t.test('a PRP list longer than a page links to the next', async (t) => {
  const memory = new EmulatedHostMemory();
  const mapper = new NvmeDataMapper(newDevice(memory), 0);
  const iod = new NvmeIod();
  const cmd = new NvmeCommand();
  // 2 to the list's capacity and around it: 512 entries, then 511 and a link each.
  for (const pages of [512, 513, 514, 1023, 1024, 1025, 1600]) {
    const bio = bioOf([{ address: 0x100000000, length: pages * PAGE_SIZE }]);
    cmd.clear();
    cmd.opcode = nvmeCmdWrite;
    t.equal(mapper.map(iod, bio, cmd, 1), 0);
    t.same(
      joined(walkPrps(memory, cmd, bio.size)),
      [{ address: 0x100000000, length: pages * PAGE_SIZE }],
      `${pages} pages`,
    );
    mapper.unmap(iod);
    bioPut(bio);
  }
  mapper.destroy();
});

t.test('PRPs at page boundaries and offsets', async (t) => {
  const mapper = new NvmeDataMapper(newDevice(new EmulatedHostMemory()), 0);
  const iod = new NvmeIod();
  const cmd = new NvmeCommand();
  const base = 0x40000000;
  for (const [offset, length, prp2] of [
    [0, 4096, 0],
    [512, 3584, 0],
    [512, 4096, base + 4096],
    [4092, 4096, base + 4096],
    [0, 8192, base + 4096],
    [4, 8188, base + 4096],
  ] as const) {
    const bio = bioOf([{ address: base + offset, length }]);
    cmd.clear();
    cmd.opcode = nvmeCmdRead;
    t.equal(mapper.map(iod, bio, cmd, 1), 0);
    t.match(cmd, { dptr: base + offset, prp2, flags: 0 }, `+${offset}, ${length} bytes`);
    mapper.unmap(iod);
    bioPut(bio);
  }
  mapper.destroy();
});

t.test('a hole inside the data cannot be said with PRPs: EIO, and nothing stays mapped', async (t) => {
  const memory = new EmulatedHostMemory();
  const mapper = new NvmeDataMapper(newDevice(memory), 0);
  const iod = new NvmeIod();
  const cmd = new NvmeCommand();
  cmd.opcode = nvmeCmdRead;
  const bio = bioOf([
    { address: 0x40000000, length: 512 },
    { address: 0x50000000, length: 512 },
  ]);
  t.equal(mapper.map(iod, bio, cmd, 1), -EIO);
  t.equal(iod.mapped, 'nothing');
  bioPut(bio);
  mapper.destroy();
  t.equal(memory.pages.allocated, 0);
});

t.test('blkRqMapSg joins neighbours', async (t) => {
  const sgt = new SgTable();
  const bio = bioAlloc(queue, 'read');
  for (const [phys, length] of [
    [4096, 4096],
    [8192, 4096],
    [20480, 4096],
  ] as const) {
    bio.vecs.push({ phys, length, pgmap: null });
    bio.size += length;
  }
  t.equal(blkRqMapSg(bio, sgt), 2);
  t.match(sgt.sgl, { phys: 4096, length: 8192 });
  t.match(sgNext(sgt.sgl), { phys: 20480, length: 4096, end: true });
  bioPut(bio);
});
