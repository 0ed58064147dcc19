import t from 'tap';
import { genericFsdaxSupported, vmaIsFsdax } from '../../lib/kernel/dax.js';
import { Mm } from '../../lib/kernel/memremap.js';
import { fakeCmb } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';

const MiB = 1024 * 1024;

t.test('only an fs-dax pagemap that covers everything is fs-dax', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  const { pgmap, vma } = fakeCmb(mm, 0x90_0000_0000, 2 * MiB, 'MEMORY_DEVICE_FS_DAX');
  t.equal(genericFsdaxSupported(mm, pgmap.start, 2 * MiB), true);
  t.equal(genericFsdaxSupported(mm, pgmap.start + 4096, 2 * MiB), false, 'sticks out');
  t.equal(genericFsdaxSupported(mm, pgmap.start, 0), false);
  t.equal(genericFsdaxSupported(mm, 0x1000, 4096), false, 'no pagemap');
  t.equal(vmaIsFsdax(mm, vma), true);
  t.equal(pgmap.refs, 0);
});

t.test('P2P memory never is', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  const { pgmap, vma } = fakeCmb(mm);
  t.equal(genericFsdaxSupported(mm, pgmap.start, 4096), false);
  t.equal(vmaIsFsdax(mm, vma), false);
  t.equal(pgmap.refs, 0);
  t.equal(vmaIsFsdax(mm, { buffer: new ArrayBuffer(8), phys: 0, length: 8, pgmap: null }), false);
});
