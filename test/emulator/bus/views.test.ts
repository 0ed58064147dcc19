import t from 'tap';
import { DeviceMemory } from '../../../lib/emulator/bus/device-memory.js';
import { Views } from '../../../lib/emulator/bus/views.js';
import { fc } from '../../helpers/random.js';

const SIZE = 1 << 20;

t.test('a view is the range that was asked for, kept or new', async (t) => {
  const buffer = new ArrayBuffer(SIZE + 512);
  const views = new Views(new Uint8Array(buffer, 512, SIZE));
  const range = fc
    .tuple(fc.integer({ min: 1, max: 4096 }), fc.constantFrom(1, 16, 64, 120, 256, 4096, 65536))
    .chain(([length, unit]) =>
      fc.tuple(
        fc.integer({ min: 0, max: Math.floor((SIZE - length) / unit) }),
        fc.constant(unit),
        fc.constant(length),
      ),
    );
  fc.assert(
    fc.property(fc.array(range, { minLength: 100, maxLength: 300 }), (ranges) => {
      for (const [at, unit, length] of ranges) {
        const view = views.of(at * unit, length);
        if (view.buffer !== buffer || view.byteOffset !== 512 + at * unit || view.length !== length)
          return false;
      }
      return true;
    }),
  );
  t.pass();
});

t.test('the views of a pool, and those of its lists, are kept', async (t) => {
  const views = new Views(new Uint8Array(SIZE));
  for (const [stride, length, count] of [
    [65536, 65536, 16],
    [16384, 16384, 64],
    [256, 120, 16],
    [256, 24, 16],
    [4096, 4096, 64],
  ] as const) {
    const first = Array.from({ length: count }, (_, i) => views.of(i * stride, length));
    const again = Array.from({ length: count }, (_, i) => views.of(i * stride, length));
    t.ok(
      first.every((view, i) => view === again[i]),
      `${count} views of ${length} bytes, ${stride} apart`,
    );
  }
});

t.test('memory that was mapped and unmapped has no view of the mapping', async (t) => {
  const memory = new DeviceMemory(SIZE);
  const ask = () => memory.window(4096, 512);
  ask().fill(1);
  const mapping = memory.mapBar(0, 65536);
  t.equal(ask()[0], 1, 'the contents came along');
  ask().fill(2);
  t.equal(new Uint8Array(mapping.buffer)[4096], 2, 'a view of the mapping');
  mapping.unmap();
  t.equal(ask().length, 512, 'not detached with it');
  t.equal(ask()[511], 2);
});
