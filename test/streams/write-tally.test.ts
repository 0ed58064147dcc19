import t from 'tap';
import { WriteTally } from '../../lib/streams/write-tally.js';

t.test('what went through the page cache, in words', async (t) => {
  const words = (parts: [number, number][], start = 5, end = 10_000) => {
    const tally = new WriteTally(start);
    for (const [offset, bytes] of parts) tally.ragged(offset, bytes);
    return tally.raggedWords(start, end);
  };
  const through = 'went through the page cache';
  t.equal(words([]), null);
  t.equal(words([[9679, 321]]), `the last 321 bytes, less than a block, ${through}`);
  t.equal(words([[5, 507]]), `the first 507 bytes, less than a block, ${through}`);
  t.equal(words([[5, 7]], 5, 12), `the 7 bytes, less than a block, ${through}`);
  const both: [number, number][] = [
    [5, 507],
    [9728, 272],
  ];
  t.equal(words(both), `the first 507 and the last 272 bytes, each less than a block, ${through}`);
  t.equal(words([...both, [600, 100]]), `879 bytes in 3 parts of blocks ${through}`);
  const twice: [number, number][] = [
    [5, 7],
    [5, 7],
  ];
  t.equal(words(twice, 5, 12), `14 bytes in 2 parts of blocks ${through}`, 'one part is not first and last');
});
