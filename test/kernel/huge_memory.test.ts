import t from 'tap';
import {
  type FollowContext,
  followDevmapPmd,
  followDevmapPud,
  PMD_SIZE,
  PUD_SIZE,
} from '../../lib/kernel/huge_memory.js';
import { FOLL_PCI_P2PDMA, Mm, memremapPages } from '../../lib/kernel/memremap.js';
import { fakePgmap } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';

const start = 0x80_0000_0000;

t.test('a pmd maps aligned 2 MiB, and only P2P memory that was asked for', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  const pgmap = fakePgmap(start, 2 * PMD_SIZE);
  memremapPages(mm, pgmap);
  const context: FollowContext = { pgmap: null };
  t.equal(followDevmapPmd(mm, start, PMD_SIZE, 0, context), 0);
  t.strictSame([context.pgmap, pgmap.refs], [null, 0]);
  t.equal(followDevmapPmd(mm, start, PMD_SIZE, FOLL_PCI_P2PDMA, context), PMD_SIZE);
  t.equal(context.pgmap, pgmap);
  t.equal(followDevmapPmd(mm, start + PMD_SIZE, PMD_SIZE, FOLL_PCI_P2PDMA, context), PMD_SIZE);
  t.equal(pgmap.refs, 1, 'the walk holds one reference');
  t.equal(followDevmapPmd(mm, start + 4096, PMD_SIZE, FOLL_PCI_P2PDMA, context), 0, 'not aligned');
  t.equal(followDevmapPmd(mm, start, PMD_SIZE - 1, FOLL_PCI_P2PDMA, context), 0, 'less than a pmd');
  t.equal(pgmap.refs, 1);
});

t.test('a pud maps aligned 1 GiB that is all one pagemap', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  memremapPages(mm, fakePgmap(start, PUD_SIZE));
  memremapPages(mm, fakePgmap(start + PUD_SIZE, PMD_SIZE));
  const context: FollowContext = { pgmap: null };
  t.equal(followDevmapPud(mm, start, PUD_SIZE, FOLL_PCI_P2PDMA, context), PUD_SIZE);
  t.equal(followDevmapPud(mm, start + PUD_SIZE, PUD_SIZE, FOLL_PCI_P2PDMA, context), 0);
  t.equal(followDevmapPmd(mm, start + PUD_SIZE, PUD_SIZE, FOLL_PCI_P2PDMA, context), PMD_SIZE);
});
