import t from 'tap';
import { openSystem, planCopy } from '../../lib/index.js';
import { p2pdma } from '../helpers/cli.js';

const KIB = 1024;

t.test('a plan says what an option came to under the name of the option', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  t.teardown(() => system.close());
  const plan = (options = {}) => planCopy('nvme0n1', ['nvme1n1'], { system, ...options });
  t.match(await plan(), { highWaterMark: 512 * KIB, queueDepth: 8 }, 'defaults');
  for (const [asked, rounded] of [
    [1, 512],
    [512, 512],
    [513, 1024],
    [64 * KIB, 64 * KIB],
  ] as const) {
    const { highWaterMark, queueDepth } = await plan({ highWaterMark: asked, queueDepth: 3 });
    t.same([highWaterMark, queueDepth], [rounded, 3], `${asked}: whole blocks`);
  }
  t.notOk('chunk' in (await plan()), 'and under no other');
  t.match(await plan({ verify: true, start: 512 }), { verify: true, start: 512, bytes: 2 ** 30 - 512 });
  await t.rejects(plan({ highWaterMark: 64 * KIB * KIB }), { code: 'ERR_CHUNK_TOO_LARGE' });
});

t.test('so does the command, whose own words are in the text only', async (t) => {
  const line = ['copy', 'nvme0n1', 'nvme1n1', '--machine', 'switch', '--chunk', '64KiB', '--depth', '3'];
  const { stdout } = p2pdma(...line, '--dry-run', '--json');
  const plan = JSON.parse(stdout) as Record<string, unknown>;
  t.match(plan, { highWaterMark: 64 * KIB, queueDepth: 3 });
  t.notOk('chunk' in plan);
  t.match(p2pdma(...line, '--dry-run').stdout, /^chunks +64 KiB, 3 in flight$/m);
});
