/** `p2pdma bench`: peer to peer beside host memory, in turn. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type BenchRow, compare, type Job } from '../../../lib/cli/bench/run.js';
import { benchSvg } from '../../../lib/cli/bench/svg.js';
import { p2pdma } from '../../helpers/cli.js';
import { skipNative } from '../../helpers/native.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-bench-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const bench = (...args: string[]) => p2pdma('bench', ...args);

const SMALL = ['--bytes', '1MiB', '--rounds', '3', '--chunks', '16K,64K'];

t.test('reads, both ways, each size; with CPU time', async (t) => {
  const run = bench('nvme0n1', 'nvme1n1', '--machine', 'switch', '--json', ...SMALL);
  t.equal(run.status, 0, run.stderr);
  const { backend, queueDepth, rows, providers } = JSON.parse(run.stdout);
  t.equal(backend, 'emulator');
  t.equal(queueDepth, 8);
  t.same(
    rows.map(({ what, highWaterMark }: BenchRow) => [what, highWaterMark]),
    [
      ['read nvme0n1', 16384],
      ['read nvme0n1', 65536],
      ['read nvme1n1', 16384],
      ['read nvme1n1', 65536],
    ],
  );
  for (const { p2p, host, ratio, faster } of rows as BenchRow[]) {
    t.match([p2p!.samples.length, host.samples.length], [3, 3]);
    t.ok(p2p!.bytesPerSecond > 0 && host.cpuSecondsPerGiB > 0);
    t.equal(p2p!.samples[0]!.bytes, 1024 * 1024);
    t.ok(ratio! > 0);
    t.match(faster, /^(p2p|host|same)$/);
  }
  t.match(providers, [{ provider: '0000:03:00.0', reason: null }, { provider: '0000:04:00.0' }]);
});

t.test('for people: a table, whose CMB, and that it is emulated', async (t) => {
  const { status, stdout, stderr } = bench('nvme0n1', '--machine', 'switch', ...SMALL);
  t.equal(status, 0, stderr);
  t.equal(stderr, '');
  t.match(stdout, /^emulated machine 'switch': .*\nwhat +chunk +peer to peer +CPU +host memory +CPU/);
  t.match(stdout, /read nvme0n1 +16 KiB +\S+ \S+\/s +\d+ ms\/GiB .*(as fast|no difference)/);
  t.match(stdout, /by the CMB of 0000:03:00\.0/);
  t.match(stdout, /say nothing about drives/);
});

t.test('no CMB, or too small a one: host memory alone, and why', async (t) => {
  const none = bench('nvme0n1', '--machine', 'no-cmb', ...SMALL);
  t.equal(none.status, 0, none.stderr);
  t.match(none.stdout, /not possible/);
  t.match(none.stdout, /no peer to peer: \S/);
  const small = bench(
    'nvme0n1',
    '--machine',
    'switch',
    '--depth',
    '64',
    '--chunks',
    '1MiB',
    '--bytes',
    '1MiB',
    '--json',
  );
  t.match(JSON.parse(small.stdout), { rows: [{ p2p: null, ratio: null, faster: null }] });
});

t.test('--write copies the first over the second; without it nothing is written', async (t) => {
  const [a, b] = [join(folder, 'a'), join(folder, 'b')];
  const [first, second] = [randomBytes(1024 * 1024), Buffer.alloc(1024 * 1024)];
  writeFileSync(a, first);
  writeFileSync(b, second);
  t.equal(bench(a, b, '--machine', 'switch', ...SMALL).status, 0);
  t.ok(readFileSync(b).equals(second), 'read only');
  const run = bench(a, b, '--machine', 'switch', '--write', '--json', ...SMALL);
  t.equal(run.status, 0, run.stderr);
  t.ok(readFileSync(b).equals(first), 'copied');
  t.match(JSON.parse(run.stdout).rows[0], { what: `copy ${a} → ${b}`, p2p: { bytesPerSecond: Number } });
  t.match(bench(a, '--machine', 'switch', '--write'), { status: 2, stderr: /one device was named/ });
});

t.test('natively: files', { skip: skipNative }, async (t) => {
  const { status, stdout, stderr } = bench(join(folder, 'a'), '--backend', 'native', '--json', ...SMALL);
  t.equal(status, 0, stderr);
  t.match(JSON.parse(stdout), { backend: 'native', rows: [{ host: { bytesPerSecond: Number } }, {}] });
});

t.test('--svg: the picture', async (t) => {
  const svg = join(folder, 'bench.svg');
  t.equal(bench('nvme0n1', '--machine', 'switch', '--svg', svg, ...SMALL).status, 0);
  const text = readFileSync(svg, 'utf8');
  t.match(text, /^<svg [^>]*viewBox="0 0 \d+ \d+"/);
  t.match(text, /prefers-color-scheme: dark/);
  t.equal(text.match(/<rect class="p2p"/g)?.length, 2);
  t.equal(text.match(/<rect class="host"/g)?.length, 2);
});

t.test('--svg: names from outside are escaped, and what is not possible is said', async (t) => {
  const host = { bytesPerSecond: 1e9, cpuSecondsPerGiB: 0.1, userCpuSecondsPerGiB: 0.05, samples: [] };
  const row = {
    what: 'read <b>&\u001b[31m',
    highWaterMark: 4096,
    p2p: null,
    host,
    ratio: null,
    faster: null,
  };
  const svg = benchSvg([row], 'title', null);
  t.match(svg, 'read &lt;b&gt;&amp;\\x1b[31m');
  t.match(svg, 'peer to peer: not possible here');
});

t.test('compare: who is faster is what the rounds agree on', async (t) => {
  // A clock of its own: on a busy machine real waits would be of any length.
  let now = 0;
  t.intercept(performance, 'now', { value: () => now });
  const job = (p2p: number[], host: number[]): Job => {
    const waits = { p2p: [0, ...p2p], host: [0, ...host] };
    const run = async (way: 'p2p' | 'host', _chunk: number, bytes: number) => {
      now += waits[way].shift()!;
      return bytes;
    };
    return { what: 'x', size: 8192, run };
  };
  const settings = { chunks: [4096], bytes: 10_000, depth: 1, rounds: 3 };
  const slow = [40, 40, 40];
  const fast = [5, 5, 5];
  t.match(await compare(job(fast, slow), 4096, true, settings), {
    faster: 'p2p',
    p2p: { samples: [{ bytes: 8192 }] },
  });
  t.match(await compare(job(slow, fast), 4096, true, settings), { faster: 'host' });
  t.match(await compare(job([5, 40, 40], [40, 5, 40]), 4096, true, settings), { faster: 'same' });
  t.match(await compare(job([], slow), 4096, false, settings), { faster: null, p2p: null, ratio: null });
  const shrinking = { what: 'x', size: 8192, run: async () => 4096 };
  await t.rejects(compare(shrinking, 4096, true, settings), {
    code: 'ERR_SHORT_TRANSFER',
    message: 'x: 4096 of 8192 bytes were moved',
  });
});

t.test('what is shorter than a chunk has no figures', async (t) => {
  const folder = t.testdir({ empty: '', short: 'x'.repeat(3879) });
  for (const [name, length] of [
    ['empty', 0],
    ['short', 3879],
  ] as const) {
    const { status, stderr, stdout } = bench(join(folder, name), '--machine', 'switch', '--rounds', '1');
    t.equal(status, 2, stdout);
    t.match(stderr, `there are ${length} bytes, which is less than a chunk of 1 MiB`);
  }
  t.match(bench('nvme0n1', '--machine', 'switch', '--bytes', '64KiB'), {
    status: 2,
    stderr: /option --bytes: 64 KiB is less than a chunk of 1 MiB/,
  });
});

t.test('mistakes', async (t) => {
  t.match(bench('nvme0n1', '--machine', 'switch', '--chunks', '1000'), {
    status: 2,
    stderr: /multiple of the block size/,
  });
  t.match(bench('nvme0n1', '--machine', 'switch', '--rounds', '0'), { status: 2, stderr: /1 or more/ });
  t.match(bench('nvme9n1', '--machine', 'switch'), {
    status: 2,
    stderr: /^emulated machine 'switch': .*\nerror ENOENT: /,
  });
  t.equal(bench().status, 2);
});
