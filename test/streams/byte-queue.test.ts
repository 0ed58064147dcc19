import t from 'tap';
import { ByteQueue, joined, lengthOf } from '../../lib/streams/byte-queue.js';
import { fc } from '../helpers/random.js';

t.test('the bytes of its chunks, cut and copied anywhere', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 8 }),
      fc.array(fc.tuple(fc.boolean(), fc.nat(25)), { maxLength: 10 }),
      (chunks, steps) => {
        const all = Buffer.concat(chunks);
        const queue = new ByteQueue(chunks);
        let at = 0;
        return steps.every(([copy, wanted]) => {
          const bytes = Math.min(wanted, all.length - at);
          let got: Uint8Array = new Uint8Array(bytes);
          if (copy) queue.fill(got);
          else got = joined(queue.cut(bytes));
          const right = all.subarray(at, at + bytes).equals(got);
          at += bytes;
          return right && queue.length === all.length - at;
        });
      },
    ),
  );
});

t.test('what lies together is not copied', async (t) => {
  const chunk = new Uint8Array(10);
  const queue = new ByteQueue([chunk, new Uint8Array(5)]);
  t.equal(joined(queue.cut(4)).buffer, chunk.buffer);
  t.equal(lengthOf(queue.cut(100)), 11, 'no more than there is');
});

t.test('a chunk whose memory is gone', async (t) => {
  const [kept, lost] = [new Uint8Array(4), new Uint8Array(6)];
  const queue = new ByteQueue([kept, lost]);
  t.equal(queue.isGone, false);
  structuredClone(lost.buffer, { transfer: [lost.buffer] });
  t.equal(queue.isGone, true);
});
