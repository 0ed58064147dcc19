import t from 'tap';
import { PAGE_SIZE } from '../../lib/backend/hardware.js';
import { IovaDomain } from '../../lib/kernel/iova.js';
import { fc } from '../helpers/random.js';

t.test('addresses are page-aligned, never 0, and lie below 4 GiB while there is room', async (t) => {
  const domain = new IovaDomain();
  for (const bytes of [1, PAGE_SIZE, PAGE_SIZE + 1, 1024 * 1024]) {
    const iova = domain.alloc(bytes);
    t.ok(iova > 0 && iova % PAGE_SIZE === 0 && iova < 2 ** 32, `${bytes} at ${iova}`);
  }
  t.ok(domain.alloc(2 ** 33) >= 2 ** 32, 'what does not fit goes above');
  t.equal(domain.alloc(2 ** 50), 0, 'nobody has that much');
  t.equal(domain.inUse, 5);
});

t.test('freeing what is not allocated is a bug that shows', async (t) => {
  const domain = new IovaDomain();
  const iova = domain.alloc(PAGE_SIZE);
  t.throws(() => domain.free(iova + PAGE_SIZE));
  domain.free(iova);
  t.throws(() => domain.free(iova));
  t.equal(domain.inUse, 0);
});

t.test('a freed address is the next one handed out for its size', async (t) => {
  const domain = new IovaDomain();
  const iova = domain.alloc(5 * PAGE_SIZE);
  domain.free(iova);
  t.equal(domain.alloc(7 * PAGE_SIZE), iova);
});

t.test('the interrupt window and the BARs of peers are never handed out', async (t) => {
  const bar = { start: 0x100000 + 512, length: 0x3000 };
  const domain = new IovaDomain({ aperture: [{ start: 0xf0000, length: 0x20000 }], reserved: [bar] });
  const got = [];
  for (let iova = domain.alloc(PAGE_SIZE); iova !== 0; iova = domain.alloc(PAGE_SIZE)) got.push(iova);
  t.equal(got.length, 32 - 4, 'every page but the four that the BAR touches');
  t.notOk(got.some((iova) => iova < bar.start + bar.length && bar.start < iova + PAGE_SIZE));
  const wide = new IovaDomain({ aperture: [{ start: 0xfe000000, length: 0x2000000 }] });
  for (let iova = wide.alloc(0x10000); iova !== 0; iova = wide.alloc(0x10000)) {
    if (iova < 0xfef00000 && iova + 0x10000 > 0xfee00000) t.fail(`0x${iova.toString(16)}`);
  }
});

t.test('property: ranges never overlap, and all address space comes back', async (t) => {
  const pages = 256;
  const step = fc.record({ free: fc.boolean(), at: fc.nat(), pages: fc.integer({ min: 1, max: 40 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const domain = new IovaDomain({ aperture: [{ start: pages * PAGE_SIZE, length: pages * PAGE_SIZE }] });
      const live: { iova: number; bytes: number }[] = [];
      for (const { free, at, pages: n } of steps) {
        if (free && live.length > 0) {
          domain.free(live.splice(at % live.length, 1)[0]!.iova);
        } else {
          const bytes = n * PAGE_SIZE;
          const iova = domain.alloc(bytes);
          if (iova === 0) continue;
          if (live.some((l) => iova < l.iova + l.bytes && l.iova < iova + bytes)) return false;
          const size = 2 ** Math.ceil(Math.log2(n)) * PAGE_SIZE;
          if (iova % size !== 0 || iova < pages * PAGE_SIZE || iova + bytes > 2 * pages * PAGE_SIZE)
            return false;
          live.push({ iova, bytes });
        }
        if (domain.inUse !== live.length) return false;
      }
      for (const { iova } of live) domain.free(iova);
      return domain.inUse === 0 && domain.alloc(pages * PAGE_SIZE) !== 0;
    }),
    { numRuns: 300 },
  );
  t.pass();
});
