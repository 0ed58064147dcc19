/** The ends of a copy are closed, all of them, also where closing one fails. */
import t from 'tap';
import type { BlockTarget, End } from '../../lib/backend/backend.js';
import { OpenEnds } from '../../lib/copy/open-ends.js';
import { PathEnd } from '../../lib/copy/request.js';
import type { StreamContext } from '../../lib/streams/session.js';

t.test('closing waits for every end, and then gives the first error', async (t) => {
  const closed: string[] = [];
  const context = {
    backend: { machine: null },
    openTarget: async (path: string) => ({ path, kind: 'file', made: false }) as unknown as BlockTarget,
    closeTarget: async ({ path }: BlockTarget) => {
      // The later, the longer it takes.
      for (let i = 0; i < path.length; i++) await new Promise((resolve) => setImmediate(resolve));
      closed.push(path);
      if (path !== 'ccc') throw new Error(`closing ${path}`);
    },
  } as unknown as StreamContext;
  const end = (path: string) => new PathEnd(context, path, { place: null } as End);
  const ends = new OpenEnds({
    source: end('a'),
    destinations: [end('bb'), end('ccc')],
    options: {},
    open: async () => context,
  });
  await Promise.all([ends.from, ...ends.to].map((one) => one!.open()));
  await t.rejects(ends.close(), { message: 'closing a' });
  t.strictSame(closed, ['a', 'bb', 'ccc'], 'nothing is closed later');
});
