import t from 'tap';
import { EHWPOISON, EINVAL, ENXIO } from '../../lib/base/errno.js';
import { isPoisoned, memoryFailure, unpoisonMemory } from '../../lib/kernel/memory-failure.js';
import { Mm } from '../../lib/kernel/memremap.js';
import { fakeCmb } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';

const MiB = 1024 * 1024;

t.test('a page of host memory is poisoned once', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  t.equal(memoryFailure(mm, 0x1_0000_1234), 0);
  t.equal(memoryFailure(mm, 0x1_0000_1000), -EHWPOISON);
  t.equal(isPoisoned(mm, 0x1_0000_1fff, 1), true);
  t.equal(isPoisoned(mm, 0x1_0000_0000, 4096), false);
  t.equal(isPoisoned(mm, 0x1_0000_0000, 4097), true);
  t.equal(isPoisoned(mm, 0, 2 ** 40), true, 'a range much larger than the set');
  t.equal(isPoisoned(mm, 0x1_0000_1000, 0), false);
  t.equal(unpoisonMemory(mm, 0x1_0000_1000), 0);
  t.equal(isPoisoned(mm, 0x1_0000_1000, 4096), false);
});

t.test('P2P and private device memory cannot be taken out', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  const cmb = fakeCmb(mm);
  t.equal(memoryFailure(mm, cmb.pgmap.start), -ENXIO);
  const hidden = fakeCmb(mm, 0x90_0000_0000, 2 * MiB, 'MEMORY_DEVICE_PRIVATE');
  t.equal(memoryFailure(mm, hidden.pgmap.start), -ENXIO);
  t.strictSame([cmb.pgmap.refs, hidden.pgmap.refs, mm.poisoned.size], [0, 0, 0]);
});

t.test('DAX memory can', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  for (const [i, type] of (['MEMORY_DEVICE_FS_DAX', 'MEMORY_DEVICE_GENERIC'] as const).entries()) {
    const { pgmap } = fakeCmb(mm, (0x90 + i) * 2 ** 32, 2 * MiB, type);
    t.equal(memoryFailure(mm, pgmap.start), 0);
    t.equal(isPoisoned(mm, pgmap.start, 1), true);
    t.equal(pgmap.refs, 0);
  }
});

t.test('no address is no memory', async (t) => {
  const mm = new Mm(new FakeHostMemory());
  t.equal(memoryFailure(mm, -1), -EINVAL);
  t.equal(memoryFailure(mm, Number.NaN), -EINVAL);
});
