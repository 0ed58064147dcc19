import t from 'tap';
import { EINVAL } from '../../lib/base/errno.js';
import {
  SG_DMA_P2PDMA,
  SgTable,
  sgAllocTable,
  sgChain,
  sgDmaIsP2pdma,
  sgDmaMarkP2pdma,
  sgDmaP2pdmaLen,
  sgDmaUnmarkP2pdma,
  sgFreeTable,
  sgInitTable,
  sgIsPciP2pdma,
  sgLast,
  sgNents,
  sgNext,
  sgSetPage,
} from '../../lib/kernel/scatterlist.js';
import { fakePgmap } from '../helpers/fake-cmb.js';
import { fc } from '../helpers/random.js';

function entries(table: SgTable) {
  const all = [];
  for (let sg: SgTable['sgl'] | null = table.sgl; sg !== null; sg = sgNext(sg)) all.push(sg);
  return all;
}

t.test('a segment of 2 GiB or more is refused and leaves the entry as it was', async (t) => {
  const sg = sgInitTable(1);
  t.equal(sgSetPage(sg, 0x1000, 512, null), 0);
  for (const length of [SG_DMA_P2PDMA, SG_DMA_P2PDMA + 1, 2 ** 32, 2 ** 32 + 4096, -1]) {
    t.equal(sgSetPage(sg, 0x2000, length, null), -EINVAL, `${length}`);
    t.match(sg, { phys: 0x1000, length: 512 });
  }
  t.equal(sgSetPage(sg, 0x2000, SG_DMA_P2PDMA - 1, null), 0);
  t.equal(sg.length, SG_DMA_P2PDMA - 1);
});

t.test('the flag leaves every length below 2 GiB exact', async () => {
  const sg = sgInitTable(1);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: SG_DMA_P2PDMA - 1 }), (length) => {
      sg.dmaLength = length;
      const before = sgDmaIsP2pdma(sg);
      sgDmaMarkP2pdma(sg);
      sgDmaMarkP2pdma(sg);
      const marked = sgDmaIsP2pdma(sg) && sgDmaP2pdmaLen(sg) === length && sg.dmaLength > 0;
      sgDmaUnmarkP2pdma(sg);
      sgDmaUnmarkP2pdma(sg);
      return !before && marked && sg.dmaLength === length && sgDmaP2pdmaLen(sg) === length;
    }),
  );
});

t.test('only P2P device memory is P2P memory', async (t) => {
  const sg = sgInitTable(1);
  sgSetPage(sg, 0, 4096, null);
  t.equal(sgIsPciP2pdma(sg), false);
  sgSetPage(sg, 0, 4096, fakePgmap(0, 4096, 'MEMORY_DEVICE_FS_DAX'));
  t.equal(sgIsPciP2pdma(sg), false);
  sgSetPage(sg, 0, 4096, fakePgmap(0, 4096));
  t.equal(sgIsPciP2pdma(sg), true);
});

t.test('a chained list walks like one list', async (t) => {
  const first = sgInitTable(3);
  const second = sgInitTable(2);
  sgChain(first, 3, second);
  t.equal(sgNents(first), 4, 'the link takes one place');
  t.equal(sgNext(sgNext(first)!), second, 'and is stepped over');
  t.equal(sgLast(first, 4), second.following);
  t.equal(sgNext(second.following!), null);
  t.throws(() => sgChain(sgInitTable(2), 3, second), RangeError);
});

t.test('a table has exactly the entries asked for, however it is chained and reused', async (t) => {
  t.equal(sgAllocTable(new SgTable(), 0), -EINVAL);
  t.equal(sgAllocTable(new SgTable(), 2, 1), -EINVAL, 'a chunk of one place cannot link and carry');
  const request = fc.record({
    nents: fc.integer({ min: 1, max: 40 }),
    maxSingle: fc.constantFrom(2, 3, 7, 128),
  });
  fc.assert(
    fc.property(fc.array(request, { minLength: 1, maxLength: 8 }), (requests) => {
      const table = new SgTable();
      for (const { nents, maxSingle } of requests) {
        if (sgAllocTable(table, nents, maxSingle) !== 0) return false;
        const all = entries(table);
        if (all.length !== nents || new Set(all).size !== nents || sgNents(table.sgl) !== nents) return false;
        if (table.origNents !== nents || all.some((sg) => sg.chain !== null)) return false;
        for (const [i, sg] of all.entries()) sgSetPage(sg, i * 4096, 4096, null);
        if (entries(table).some((sg, i) => sg.phys !== i * 4096)) return false;
        sgFreeTable(table);
      }
      return true;
    }),
  );
});

t.test('a table that is used again allocates no entries', async (t) => {
  const table = new SgTable();
  sgAllocTable(table, 10, 4);
  const before = entries(table);
  sgSetPage(before[0]!, 0x1000, 512, fakePgmap(0, 4096));
  sgFreeTable(table);
  t.equal(before[0]!.pgmap, null, 'it does not keep a pagemap alive');
  sgAllocTable(table, 3, 4);
  t.strictSame(entries(table).length, 3);
  sgAllocTable(table, 10, 4);
  t.ok(entries(table).every((sg, i) => sg === before[i]));
});
