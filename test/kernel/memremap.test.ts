import t from 'tap';
import { MEMREMAP_COMPAT_ALIGN } from '../../lib/backend/hardware.js';
import { EINVAL, ENOMEM } from '../../lib/base/errno.js';
import {
  type DevPagemap,
  getDevPagemap,
  isPciP2pdmaView,
  Mm,
  memremapPages,
  memunmapPages,
  pgmapOf,
  putDevPagemap,
  registerVma,
  unregisterVma,
  vmaOf,
} from '../../lib/kernel/memremap.js';
import { fakeCmb, fakePgmap } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';
import { fc } from '../helpers/random.js';

const MiB = 1024 * 1024;
const newMm = () => new Mm(new FakeHostMemory());

t.test('memremap_pages refuses what memory hot-plug cannot take', async (t) => {
  const mm = newMm();
  t.equal(memremapPages(mm, fakePgmap(0x80_0000_0000, 0)), -EINVAL, 'nothing');
  t.equal(memremapPages(mm, fakePgmap(0x80_0000_0000, MiB)), -EINVAL, 'half a subsection');
  t.equal(memremapPages(mm, fakePgmap(0x80_0010_0000, 2 * MiB)), -EINVAL, 'start inside a subsection');
  t.equal(memremapPages(mm, fakePgmap(-2 * MiB, 4 * MiB)), -EINVAL);
  t.equal(memremapPages(mm, fakePgmap(Number.NaN, 2 * MiB)), -EINVAL);
  t.strictSame(mm.pagemaps, []);
});

t.test('a conflict with P2P memory that is there is seen, touching is none', async (t) => {
  const mm = newMm();
  t.equal(memremapPages(mm, fakePgmap(0x80_0040_0000, 4 * MiB)), 0);
  t.equal(memremapPages(mm, fakePgmap(0x80_0060_0000, 4 * MiB)), -ENOMEM, 'its end');
  t.equal(memremapPages(mm, fakePgmap(0x80_0020_0000, 4 * MiB)), -ENOMEM, 'its start');
  t.equal(memremapPages(mm, fakePgmap(0x80_0000_0000, 16 * MiB)), -ENOMEM, 'around it');
  t.equal(memremapPages(mm, fakePgmap(0x80_0020_0000, 2 * MiB)), 0, 'just below');
  t.equal(memremapPages(mm, fakePgmap(0x80_0080_0000, 2 * MiB)), 0, 'just above');
});

t.test('get_dev_pagemap answers "none" where there is none', async (t) => {
  const mm = newMm();
  t.equal(getDevPagemap(mm, 0x1000, null, true), null, 'regression: the RFC dereferenced NULL here');
  const { pgmap } = fakeCmb(mm);
  t.equal(getDevPagemap(mm, pgmap.start - 1, null, true), null);
  t.equal(getDevPagemap(mm, pgmap.start + pgmap.length, null, true), null);
  t.equal(pgmap.refs, 0);
});

t.test('get_dev_pagemap gives P2P memory only to those who may have it', async (t) => {
  const mm = newMm();
  const { pgmap } = fakeCmb(mm);
  t.equal(getDevPagemap(mm, pgmap.start, null, false), null);
  t.equal(pgmap.refs, 0, 'and keeps no reference');
  t.equal(getDevPagemap(mm, pgmap.start, null, true), pgmap);
  t.equal(pgmap.refs, 1);
  const dax = fakePgmap(0x90_0000_0000, 2 * MiB, 'MEMORY_DEVICE_FS_DAX');
  memremapPages(mm, dax);
  t.equal(getDevPagemap(mm, dax.start, null, false), dax, 'other device memory needs no permission');
});

t.test('the hint brings its reference: kept inside, dropped outside', async (t) => {
  const mm = newMm();
  const a = fakeCmb(mm, 0x80_0000_0000).pgmap;
  const b = fakeCmb(mm, 0x90_0000_0000).pgmap;
  const first = getDevPagemap(mm, a.start, null, true);
  const second = getDevPagemap(mm, a.start + 4096, first, true);
  t.equal(second, a);
  t.equal(a.refs, 1);
  t.equal(getDevPagemap(mm, b.start, second, true), b);
  t.strictSame([a.refs, b.refs], [0, 1]);
  t.equal(getDevPagemap(mm, 0, b, true), null);
  t.equal(b.refs, 0);
});

t.test('a reference dropped twice is a bug that shows', async (t) => {
  t.throws(() => putDevPagemap(fakePgmap(0, 2 * MiB)), /dropped twice/);
});

t.test('memunmap_pages: no new references, and the range is free when the last one goes', async (t) => {
  const mm = newMm();
  const { pgmap } = fakeCmb(mm);
  getDevPagemap(mm, pgmap.start, null, true);
  memunmapPages(mm, pgmap);
  memunmapPages(mm, pgmap);
  t.equal(pgmap.dead, true);
  t.equal(getDevPagemap(mm, pgmap.start, null, true), null);
  t.equal(memremapPages(mm, fakePgmap(pgmap.start, 2 * MiB)), -ENOMEM, 'still taken');
  putDevPagemap(pgmap);
  t.equal(memremapPages(mm, fakePgmap(pgmap.start, 2 * MiB)), 0, 'free now');
});

t.test('lookup agrees with a linear search, for any set of pagemaps', async () => {
  const range = fc.record({ start: fc.integer({ min: 0, max: 60 }), length: fc.integer({ min: 1, max: 6 }) });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), fc.integer({ min: 0, max: 70 }), (ranges, probe) => {
      const mm = newMm();
      const kept: DevPagemap[] = [];
      for (const { start, length } of ranges) {
        const pgmap = fakePgmap(start * MEMREMAP_COMPAT_ALIGN, length * MEMREMAP_COMPAT_ALIGN);
        const conflict = kept.some(
          (k) => k.start < pgmap.start + pgmap.length && pgmap.start < k.start + k.length,
        );
        if (memremapPages(mm, pgmap) !== (conflict ? -ENOMEM : 0)) return false;
        if (!conflict) kept.push(pgmap);
      }
      const phys = probe * MEMREMAP_COMPAT_ALIGN + 4095;
      const expected = kept.find((k) => phys >= k.start && phys < k.start + k.length) ?? null;
      return getDevPagemap(mm, phys, null, true) === expected;
    }),
  );
});

t.test('memory is known by its ArrayBuffer, in whatever view it turns up', async (t) => {
  const { pgmap, vma, bytes } = fakeCmb(newMm());
  t.equal(vmaOf(bytes), vma);
  t.equal(pgmapOf(bytes.subarray(4096, 8192)), pgmap);
  t.equal(pgmapOf(Buffer.from(vma.buffer, 512, 512)), pgmap);
  t.equal(pgmapOf(new DataView(vma.buffer)), pgmap);
  t.equal(isPciP2pdmaView(bytes), true);
  t.equal(isPciP2pdmaView(Buffer.from(bytes)), false, 'a copy is ordinary memory');
  t.equal(vmaOf(Buffer.alloc(16)), null);
});

t.test('host memory and other device memory is not P2P memory', async (t) => {
  const buffer = new ArrayBuffer(4096);
  registerVma({ buffer, phys: 0x10_0000, length: 4096, pgmap: null });
  t.equal(isPciP2pdmaView(new Uint8Array(buffer)), false);
  t.equal(pgmapOf(new Uint8Array(buffer)), null);
  const dax = fakeCmb(newMm(), 0x90_0000_0000, 2 * MiB, 'MEMORY_DEVICE_FS_DAX');
  t.equal(isPciP2pdmaView(dax.bytes), false);
});

t.test('an unregistered mapping is nothing any more', async (t) => {
  const { vma, bytes } = fakeCmb(newMm());
  unregisterVma(vma.buffer);
  t.equal(vmaOf(bytes), null);
  t.equal(pgmapOf(bytes), null);
  unregisterVma(new ArrayBuffer(8));
});

t.test('a mapping starts on a page', async (t) => {
  t.throws(() => registerVma({ buffer: new ArrayBuffer(8), phys: 100, length: 8, pgmap: null }), RangeError);
});
