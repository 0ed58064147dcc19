import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import t from 'tap';
import { openSystem, planCopy } from '../../lib/index.js';
import { p2pdma } from '../helpers/cli.js';
import { bytesOf } from '../helpers/copies.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-plan-'));
const file = (name: string) => join(folder, name);
t.teardown(() => rmSync(folder, { recursive: true }));

const content = bytesOf(3 * MIB + 77, 5);
writeFileSync(file('source'), content);
writeFileSync(file('old'), content);

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
  const passedOn = (options = {}) => planCopy('nvme0n1', [new PassThrough()], { system, ...options });
  t.match(await passedOn(), { queueDepth: 2 }, 'as many as 1 MiB holds, for a stream of another kind');
  t.match(await passedOn({ queueDepth: 3 }), { queueDepth: 3 });
  t.notOk('chunk' in (await plan()), 'and under no other');
  t.match(await plan({ verify: true, start: 512 }), { verify: true, start: 512, bytes: 2 ** 30 - 512 });
  await t.rejects(plan({ highWaterMark: 64 * MIB }), { code: 'ERR_CHUNK_TOO_LARGE' });
});

t.test('so does the command, whose own words are in the text only', async (t) => {
  const line = ['copy', 'nvme0n1', 'nvme1n1', '--machine', 'switch', '--chunk', '64KiB', '--depth', '3'];
  const { stdout } = p2pdma(...line, '--dry-run', '--json');
  const plan = JSON.parse(stdout) as Record<string, unknown>;
  t.match(plan, { highWaterMark: 64 * KIB, queueDepth: 3 });
  t.notOk('chunk' in plan);
  t.match(p2pdma(...line, '--dry-run').stdout, /^chunks +64 KiB, 3 in flight$/m);
});

t.test('planCopy opens nothing for writing, and foresees what the copy does', async (t) => {
  for (const machine of [
    'switch',
    'four-drives',
    'root-ports',
    'no-cmb',
    'acs',
    'iommu-unsupported',
    'zen',
  ]) {
    const system = await openSystem({ machine });
    const { backend } = system.context;
    const open = backend.openTarget.bind(backend);
    let writes = 0;
    backend.openTarget = (path, options) => {
      if (options.write || options.create || options.truncate) writes++;
      return open(path, options);
    };
    for (const [from, to] of [
      [file('source'), [file('planned')]],
      [file('source'), [file('planned-1'), file('planned-2')]],
      ['nvme0n1', ['nvme1n1']],
      [file('source'), ['nvme1n1']],
      ['nvme1n1', [file('planned')]],
    ] as const) {
      const options = { system, end: MIB - 1 };
      writes = 0;
      const plan = await planCopy(from, to, options);
      t.equal(writes, 0);
      const { bytes, transport, provider, reason } = await system.pipeline(from, to, options);
      t.match(
        { bytes, transport, provider, reason },
        {
          bytes: plan.bytes,
          transport: plan.transport,
          provider: plan.provider,
          reason: plan.reason,
        },
        `${machine}: ${plan.transport}`,
      );
    }
    await system.close();
  }
});

t.test('planCopy: what would stop it', async (t) => {
  const system = await openSystem({ machine: 'no-cmb' });
  const problems = async (to: string, options = {}) =>
    (await planCopy(file('source'), to, { system, ...options })).problems.map(({ code }) => code);
  t.same(await problems(file('new')), []);
  t.same(await problems(file('no/such')), ['ENOENT']);
  t.same(await problems(file('new'), { flags: 'r+' }), ['ENOENT']);
  t.same(await problems(file('old'), { flags: 'wx' }), ['EEXIST']);
  for (const name of ['nvme7n1', '/dev/nvme7n1', '/dev/sdzz', 'sdz', 'md9']) {
    t.same(await problems(name), ['ENOENT'], `${name}: no file is made for a slip of the keyboard`);
  }
  t.same(await problems('nvme1n1', { destinationStart: 1024 * MIB }), ['ENOSPC']);
  t.same(await problems(folder), ['EISDIR']);
  t.same(await problems(file('new'), { requireP2p: true }), ['ERR_P2P_REQUIRED']);
  const writer = await system.target('nvme1n1', { write: true });
  t.same(await problems('nvme1n1'), ['EBUSY']);
  t.same(await problems('nvme1n1', { force: true }), []);
  await writer.close();
  await t.rejects(planCopy(file('nothing'), file('new'), { system }), { code: 'ENOENT' });
  await t.rejects(planCopy(file('source'), file('source'), { system }), { code: 'ERR_OVERLAP' });
  await t.rejects(planCopy(file('source'), 'nvme1n1', { system, start: 2 ** 40 }), {
    code: 'ERR_OUT_OF_RANGE',
  });
  await t.rejects(planCopy(file('source'), [], { system }), { code: 'ERR_INVALID_ARG_VALUE' });
  await system.close();
});
