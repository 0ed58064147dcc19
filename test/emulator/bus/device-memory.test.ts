import t from 'tap';
import { DeviceMemory } from '../../../lib/emulator/bus/device-memory.js';
import { fc } from '../../helpers/random.js';

const KiB = 1024;

function read(memory: DeviceMemory, offset: number, length: number): Uint8Array {
  return Buffer.concat(memory.view(offset, length));
}
function write(memory: DeviceMemory, offset: number, bytes: Uint8Array): void {
  let done = 0;
  for (const piece of memory.view(offset, bytes.length)) {
    piece.set(bytes.subarray(done, done + piece.length));
    done += piece.length;
  }
}

t.test('costs nothing until it is used', async (t) => {
  const memory = new DeviceMemory(2 ** 34);
  t.equal(memory.resident, 0);
  write(memory, 2 ** 33, Buffer.from('x'));
  t.ok(memory.resident <= 64 * KiB);
  t.throws(() => memory.view(2 ** 34 - 1, 2), RangeError);
});

t.test('a mapping is the memory, both ways, and is detached when given back', async (t) => {
  const memory = new DeviceMemory(1024 * KiB);
  write(memory, 4096, Buffer.from('before'));
  const mapping = memory.mapBar(4096, 8192);
  const view = Buffer.from(mapping.buffer);
  t.equal(mapping.buffer.byteLength, 8192);
  t.equal(view.toString('latin1', 0, 6), 'before', 'contents came along');
  write(memory, 4096 + 100, Buffer.from('by the device'));
  t.equal(view.toString('latin1', 100, 113), 'by the device');
  view.write('by the CPU', 200);
  t.equal(Buffer.from(read(memory, 4296, 10)).toString(), 'by the CPU');
  t.equal(memory.mapped, 8192);
  mapping.unmap();
  t.equal(memory.mapped, 0);
  t.equal(view.byteLength, 0, 'detached');
  t.equal(mapping.buffer.byteLength, 0);
  t.equal(Buffer.from(read(memory, 4296, 10)).toString(), 'by the CPU', 'contents stayed');
  mapping.unmap();
  const again = memory.mapBar(4096, 8192);
  t.equal(Buffer.from(again.buffer).toString('latin1', 200, 210), 'by the CPU');
  t.not(again.buffer, mapping.buffer);
});

t.test('a range that crosses mappings comes in pieces', async (t) => {
  const memory = new DeviceMemory(256 * KiB);
  memory.mapBar(4096, 4096);
  memory.mapBar(8192, 4096);
  const pieces = memory.view(0, 16384);
  t.equal(
    pieces.reduce((sum, p) => sum + p.byteLength, 0),
    16384,
  );
  t.ok(pieces.length >= 4);
});

t.test('what cannot be mapped is refused', async (t) => {
  const memory = new DeviceMemory(64 * KiB);
  t.throws(() => memory.mapBar(60 * KiB, 8 * KiB), { code: 'EINVAL' });
  t.throws(() => memory.mapBar(0, 0), { code: 'EINVAL' });
  memory.mapBar(4096, 8192);
  t.throws(() => memory.mapBar(8192, 8192), { code: 'EBUSY' });
});

t.test('a mapping that its user transferred away leaves the device with memory', async (t) => {
  const memory = new DeviceMemory(64 * KiB);
  const mapping = memory.mapBar(0, 4096);
  structuredClone(mapping.buffer, { transfer: [mapping.buffer] });
  write(memory, 10, Buffer.from('still there'));
  mapping.unmap();
  t.equal(Buffer.from(read(memory, 10, 11)).toString(), 'still there');
});

t.test('as plain memory, whatever is mapped and unmapped meanwhile', async () => {
  const size = 64;
  const step = fc.tuple(fc.nat(2), fc.nat(size - 1), fc.integer({ min: 1, max: 20 }), fc.nat(255));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const memory = new DeviceMemory(size * KiB);
      const model = new Uint8Array(size * KiB);
      const mappings: { start: number; end: number; buffer: ArrayBuffer; unmap(): void }[] = [];
      for (const [what, at, count, value] of steps) {
        const n = Math.min(count, size - at);
        if (what === 0) {
          write(memory, at * KiB, new Uint8Array(n * KiB).fill(value));
          model.fill(value, at * KiB, (at + n) * KiB);
        } else if (what === 1) {
          if (mappings.some((m) => m.start < at + n && at < m.end)) continue;
          const mapping = memory.mapBar(at * KiB, n * KiB);
          mappings.push({ start: at, end: at + n, ...mapping, unmap: mapping.unmap });
          new Uint8Array(mapping.buffer)[0] = value;
          model[at * KiB] = value;
        } else if (mappings.length > 0) {
          const [gone] = mappings.splice(value % mappings.length, 1);
          gone!.unmap();
          if (gone!.buffer.byteLength !== 0) throw new Error('not detached');
        }
        for (const m of mappings) {
          const own = model.subarray(m.start * KiB, m.end * KiB);
          if (Buffer.compare(Buffer.from(m.buffer), own) !== 0) throw new Error('mapping differs');
        }
        if (Buffer.compare(read(memory, 0, size * KiB), model) !== 0) throw new Error('memory differs');
      }
    }),
    { numRuns: 60 },
  );
});
