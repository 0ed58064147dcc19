/** Sizes, as the command line and the machine description read them. */
import t from 'tap';
import { readSize } from '../../lib/base/words.js';

t.test('units are powers of 1024', async (t) => {
  for (const [text, bytes] of [
    ['0', 0],
    ['4096', 4096],
    ['4096b', 4096],
    ['64k', 65536],
    ['64 KiB', 65536],
    [' 1mib ', 2 ** 20],
    ['3G', 3 * 2 ** 30],
    ['2TiB', 2 ** 41],
  ] as const) {
    t.same(readSize(text), { bytes, ambiguous: null }, text);
  }
});

t.test('KB and the like are ambiguous', async (t) => {
  t.same(readSize('2KB'), { bytes: 2048, ambiguous: { decimal: 2000, clear: '2KiB' } });
  t.same(readSize('1 mb'), { bytes: 2 ** 20, ambiguous: { decimal: 1e6, clear: '1MiB' } });
});

t.test('anything else is not a size', async (t) => {
  for (const text of ['', 'k', '-1', '1.5m', '0x1000', '1e3', '1PiB', '1kib2', 'NaN'])
    t.equal(readSize(text), null, text);
});
