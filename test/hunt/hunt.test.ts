/**
 * A small hunt, with a seed of its own each time: no byte that is not the source's, nothing acknowledged and missing, no
 * hang, no leak. `npm run hunt` hunts longer, and a line of this test's output runs one case again.
 */
import './poisoned.js';
import t from 'tap';
import { bytesOfContent, firstForeign } from '../../lib/sim/content.js';
import { skipNative } from '../helpers/native.js';
import { seed } from '../helpers/random.js';
import { hunt, tell } from './hunt.js';

const COPIES = 100;

for (const backend of ['native', 'emulator'] as const) {
  t.test(
    `${COPIES} copies, ${backend}`,
    { skip: backend === 'native' && skipNative, timeout: 240_000 },
    async (t) => {
      const options = { backend, first: 0, count: COPIES, lanes: 3, patience: 60_000 };
      const { cases, outcomes, failures, left } = await hunt({ ...options, seed: Math.abs(seed) });
      for (const failure of failures) t.fail(tell(failure));
      t.equal(cases, COPIES);
      t.strictSame(left, []);
      t.comment(JSON.stringify(outcomes));
      t.ok((outcomes.complete ?? 0) > COPIES / 2, 'most of them are complete');
    },
  );
}

t.test('the hunt knows a foreign byte when it sees one', async (t) => {
  const content = { generation: 7, size: 5000, sparse: false };
  const allowed = [{ content, offset: 100 }];
  const bytes = bytesOfContent(content, 100, 4100);
  t.equal(firstForeign(bytes, 0, allowed), -1);
  bytes[1234]! ^= 1;
  t.equal(firstForeign(bytes, 0, allowed), 1234, 'a wrong one');
  t.equal(firstForeign(bytesOfContent(content, 104, 4104), 0, allowed), 0, 'from another place');
  t.equal(
    firstForeign(bytesOfContent({ ...content, generation: 8 }, 100, 4100), 0, allowed),
    0,
    'another file’s',
  );
  t.equal(firstForeign(bytesOfContent(content, 100, 5200), 0, allowed), 4900, 'behind the end');
});
