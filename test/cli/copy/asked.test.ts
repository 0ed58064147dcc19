/** How far a copy is: the bar, and the line that a signal asks for. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import t from 'tap';
import { askedLine, barLine } from '../../../lib/cli/copy/progress.js';
import { openSystem, type Progress } from '../../../lib/index.js';
import { main } from '../../helpers/cli.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-asked-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const now = (more: Partial<Progress>): Progress => ({
  ...{ type: 'progress', phase: 'copy', bytes: 512 * MIB, total: 1024 * MIB, bytesPerSecond: 100 * MIB },
  ...{ etaSeconds: 5.1, queueDepth: 8, transport: 'p2p-bus', provider: '0000:03:00.0' },
  ...{ backend: 'native', machine: null },
  ...more,
});

t.test('the bar: rate, time left, route, depth, in 80 columns', async (t) => {
  t.match(
    barLine(now({}), 0.5, 80),
    /^copying █+░+ 50% 512 MiB of 1 GiB 100 MiB\/s ETA 0:06 p2p-bus depth 8$/,
  );
  t.match(
    barLine(now({ transport: null, provider: null, phase: 'verify', queueDepth: 2 }), 0.5, 80),
    /^verifying .*host-memory depth 2$/,
  );
  t.match(
    barLine(now({ transport: null, provider: null, phase: 'recheck', queueDepth: 2 }), 0.5, 80),
    /^rechecking /,
  );
  t.match(barLine(now({ backend: 'emulator', machine: 'switch' }), 0.5, 80), /depth 8 emulated$/);
  t.equal(
    barLine(now({ total: null, etaSeconds: null }), 0, 80),
    'copying 512 MiB 100 MiB/s p2p-bus depth 8',
  );
  const long = now({
    bytes: 1023.5 * 1024 ** 2,
    total: 1023.5 * 1024 ** 3,
    etaSeconds: 36_000,
    transport: 'p2p-host-bridge',
    queueDepth: 1024,
  });
  for (const width of [80, 100, 200]) t.ok(barLine(long, 0.001, width).length <= width, `${width}`);
  for (const part of [0, 0.33, 1]) t.ok(barLine(now({}), part, 120).length <= 120);
});

t.test('the line for a signal', async (t) => {
  t.equal(
    askedLine(now({}), 5.25),
    'copying: 536870912 bytes, 5.3 s, 512 MiB of 1 GiB, 100 MiB/s, ETA 0:06, p2p-bus through the memory of 0000:03:00.0, depth 8',
  );
  t.equal(askedLine(null, 0.04), 'nothing is copied yet, 0.0 s');
});

t.test('the depth of each phase is in the progress', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  t.teardown(() => system.close());
  const seen = new Map<string, number>();
  const onProgress = ({ phase, queueDepth }: Progress) => seen.set(phase, queueDepth);
  await system.pipeline('nvme0n1', 'nvme1n1', { end: MIB - 1, verify: true, queueDepth: 3, onProgress });
  t.same(
    [...seen],
    [
      ['copy', 3],
      ['verify', 2],
    ],
  );
  seen.clear();
  await system.pipeline('nvme0n1', new PassThrough().resume(), { end: MIB - 1, onProgress });
  t.same([...seen], [['copy', 2]], 'for a stream of another kind');
});

/** Text on stderr so far; resolves when `pattern` is in it. */
function until(child: ChildProcess, pattern: RegExp): Promise<string> {
  let text = '';
  return new Promise((resolve, reject) => {
    child.stderr!.on('data', (chunk) => {
      text += chunk;
      if (pattern.test(text)) resolve(text);
    });
    child.once('close', () => reject(new Error(`it ended: ${text}`)));
  });
}

const SLOW = ['copy', 'nvme0n1', 'nvme1n1', '--machine', 'switch', '--bytes', '1GiB', '--bwlimit', '8MiB'];

for (const [how, extra, pattern] of [
  [
    'without a terminal',
    [],
    /^copying: \d+ bytes, [\d.]+ s, .* of 1 GiB, .*ETA .*, p2p-bus through the memory of 0000:03:00\.0, depth 8, emulated$/m,
  ],
  ['with --quiet', ['--quiet'], /^copying: \d+ bytes, /m],
] as const) {
  t.test(`SIGUSR1 ${how}`, { skip: process.platform === 'win32' }, async (t) => {
    const child = spawn(process.execPath, [main, ...SLOW, ...extra], { stdio: ['ignore', 'ignore', 'pipe'] });
    const said = until(child, pattern);
    // Before it copies nobody listens, and Node starts its inspector: ask again.
    const timer = setInterval(() => child.kill('SIGUSR1'), 1500);
    try {
      const text = await said;
      t.match(text, pattern);
    } finally {
      clearInterval(timer);
      child.kill('SIGKILL');
    }
  });
}

t.test(
  'SIGUSR1 with --json: a line of progress; and no inspector',
  { skip: process.platform === 'win32' },
  async (t) => {
    const child = spawn(process.execPath, [main, ...SLOW, '--json'], { stdio: ['ignore', 'ignore', 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    const first = await until(child, /"type":"progress","phase":"copy"/);
    t.match(JSON.parse(first.trim().split('\n')[0]!), {
      ...{ type: 'progress', phase: 'copy', backend: 'emulator', machine: 'switch', queueDepth: 8 },
    });
    child.kill('SIGUSR1');
    const more = await until(child, /("type":"progress".*\n.*){4}/);
    t.notMatch(more, /Debugger listening/);
    child.kill('SIGINT');
    const code = await new Promise((resolve) => child.once('close', resolve));
    t.equal(code, 130, 'and it can still be stopped');
  },
);
