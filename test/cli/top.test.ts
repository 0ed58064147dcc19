/** `p2pdma top` beside two real copies: one of files on this machine, one on an emulated machine. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { main, runCli } from '../helpers/cli.js';

const MIB = 1024 * 1024;
const runtime = mkdtempSync(join(tmpdir(), 'p2pdma-top-'));
const sockets = join(runtime, 'p2pdma');
t.teardown(() => rmSync(runtime, { recursive: true }));
const env = { ...process.env, XDG_RUNTIME_DIR: runtime, COLUMNS: '80', NO_COLOR: '1' };
const skip = process.platform !== 'linux' && 'Linux only';

function top(...args: string[]) {
  return runCli(['top', ...args], { env });
}

async function seen(count: number): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (existsSync(sockets) && readdirSync(sockets).length >= count) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`there are no ${count} observed processes`);
}

t.test('with nobody: what to do', { skip }, async (t) => {
  const { status, stdout } = top('--once');
  t.equal(status, 0);
  t.match(stdout, /No observed process in .*p2pdma/s);
  t.match(stdout, /`p2pdma copy --observe`/);
  t.match(JSON.parse(top('--once', '--json').stdout), {
    type: 'top',
    backend: null,
    processes: [],
    silent: [],
  });
});

t.test('the runtime directory of another user, as after `su`', { skip }, async (t) => {
  const other = join(runtime, 'other');
  mkdirSync(other, { mode: 0 });
  t.teardown(() => rmdirSync(other));
  // Root may enter it all the same.
  const who = process.geteuid!() === 0 ? { uid: 65534, gid: 65534 } : {};
  chmodSync(runtime, 0o755);
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [main, ...args], {
      ...{ env: { ...env, XDG_RUNTIME_DIR: other }, encoding: 'utf8', ...who },
    });
  const { status, stdout, stderr } = run('top', '--once');
  t.equal(status, 0, stderr);
  t.match(stdout, /No observed process in/);
  const copy = run('copy', 'nvme0n1', 'nvme1n1', '--machine', 'switch', '--bytes', '1MiB', '--observe');
  t.equal(copy.status, 2);
  t.match(copy.stderr, /EACCES.*mkdir.*Set XDG_RUNTIME_DIR to a directory of this user/s);
});

t.test(
  'a process with another version: what it does not say is said to be not known',
  { skip },
  async (t) => {
    mkdirSync(sockets, { recursive: true, mode: 0o700 });
    const path = join(sockets, '999990.0.sock');
    const flow = { backend: 'native', provider: null, client: null, path: { hostDram: 4096, relay: 8192 } };
    const answer = JSON.stringify({ pid: 999990, flows: [flow] });
    const script = `require('net').createServer((socket) => socket.end(process.argv[2])).listen(process.argv[1], () => console.log())`;
    const child = spawn(process.execPath, ['-e', script, path, answer], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => {
      child.kill('SIGKILL');
      rmSync(path);
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const { stdout } = top('--once');
    const text = stdout.replace(/\s+/g, ' ');
    t.match(text, '999990 (command not known, it runs another version of p2pdma), in flight: not known');
    t.match(text, 'host memory not known not known not known not known 4 KiB -');
    t.match(text, "8 KiB more by 'relay', a route that this version of p2pdma does not know");
    t.match(text, 'memory of emulated machines of process 999990: not known');
    t.ok(Math.max(...stdout.split('\n').map((line) => line.length)) <= 80, stdout);
  },
);

t.test('the rate of each thread is its own', { skip }, async (t) => {
  const lib = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href);
  const work = `import(${lib}).then(async ({ openSystem }) => {
    const system = await openSystem({ machine: 'switch' });
    await system.pipeline('nvme0n1', 'nvme1n1', { end: ${256 * MIB - 1} });
    await system.pipeline('nvme0n1', 'nvme1n1', { bandwidth: ${MIB} });
  })`;
  const script = `const { openSystem } = await import(${lib}); await openSystem({ machine: 'switch' });
    new (await import('node:worker_threads')).Worker(${JSON.stringify(work)}, { eval: true });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    ...{ env: { ...env, P2PDMA_OBSERVE: '1' }, stdio: 'ignore' },
  });
  t.teardown(() => child.kill('SIGKILL'));
  await seen(2);
  const looks = spawn(process.execPath, [main, 'top', '--json', '--interval', '0.5'], {
    ...{ env, stdio: ['ignore', 'pipe', 'inherit'] },
  });
  t.teardown(() => looks.kill('SIGKILL'));
  let rate = Number.POSITIVE_INFINITY;
  let isSlow = false;
  for await (const line of createInterface({ input: looks.stdout! })) {
    const { processes } = JSON.parse(line);
    const { flows } = processes.find(({ thread }: { thread: number }) => thread > 0);
    const slow = flows.find(({ open }: { open: number }) => open > 0);
    if (slow === undefined || slow.path.internal + slow.path.peerBus < 257 * MIB) continue;
    rate = slow.bytesPerSecond;
    // The end of the fast copy may belong to the first of these intervals.
    if (isSlow) break;
    isSlow = true;
  }
  t.ok(rate < 16 * MIB, `${rate} bytes/s of 1 MiB/s`);
});

t.test('with two copies', { skip }, async (t) => {
  const [from, to] = [join(runtime, 'from'), join(runtime, 'to')];
  writeFileSync(from, Buffer.alloc(64 * MIB, 7));
  const copy = (...args: string[]): ChildProcess =>
    spawn(process.execPath, [main, 'copy', ...args, '--observe', '--quiet'], { env, stdio: 'ignore' });
  const copies = [
    copy(from, to, '--bwlimit', '1MiB'),
    copy('nvme0n1', 'nvme1n1', '--machine', 'switch', '--bytes', '1GiB', '--bwlimit', '4MiB'),
  ];
  t.teardown(() => {
    for (const child of copies) child.kill('SIGKILL');
  });
  await seen(2);
  // Two looks, a second apart: the second knows the rate.
  const child = spawn(process.execPath, [main, 'top', '--json', '--interval', '1'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  type Flow = { client: string | null; bytesPerSecond: number | null };
  type Line = {
    processes: { pid: number; flows: Flow[] }[];
    memory: { machine: string | null }[];
  };
  const lines: Line[] = [];
  for await (const chunk of child.stdout!) {
    text += chunk;
    lines.splice(
      0,
      lines.length,
      ...text
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Line),
    );
    if (
      lines.at(-1)?.processes.filter(({ flows }) => flows.some((flow) => (flow.bytesPerSecond ?? 0) > 0))
        .length === 2
    )
      break;
    if (lines.length > 60) break;
  }
  const last = lines.at(-1)!;
  t.ok(lines.length >= 2, `${lines.length} lines`);
  t.equal(lines[0]!.processes[0]?.flows[0]?.bytesPerSecond ?? null, null, 'not known at first');
  const of = (i: number) => last.processes.find(({ pid }) => pid === copies[i]!.pid)!;
  t.match(of(0), { command: /copy .*from .*to --bwlimit 1MiB --observe/ });
  t.match(of(0).flows[0], { backend: 'native', machine: null, provider: null });
  t.match(
    of(1).flows.find(({ client }) => client === '0000:04:00.0'),
    {
      backend: 'emulator',
      machine: 'switch',
      provider: '0000:03:00.0',
      path: { internal: 0, hostDram: 0 },
      open: 1,
    },
  );
  const rate = of(1).flows.find(({ client }) => client === '0000:04:00.0')?.bytesPerSecond ?? 0;
  t.ok(rate > MIB && rate < 12 * MIB, `${rate} bytes/s of 4 MiB/s`);
  t.ok(
    last.memory.some(({ machine }) => machine === 'switch'),
    'and what of the provider’s memory is free',
  );

  const { stdout } = top('--once');
  t.match(stdout, /^provider +client +in drive +bus +bridge +DRAM +rate$/m);
  t.match(stdout, /^0000:03:00\.0 +0000:03:00\.0 +[\d.]+ [KM]iB +- +- +- +-$/m);
  t.match(stdout, /^0000:03:00\.0 +0000:04:00\.0 +- +[\d.]+ [KM]iB +- +- +-$/m);
  t.match(stdout, /^host memory +.* [\d.]+ [KM]iB +-$/m);
  t.match(stdout, /emulated machine 'switch'/);
  t.match(stdout, /memory of 0000:03:00\.0 of the emulated machine 'switch':\s+16 MiB,\s+[\d.]+ MiB free/);
  const widest = Math.max(...stdout.split('\n').map((line) => line.length));
  t.ok(widest <= 80, `${widest} columns\n${stdout}`);

  for (const one of copies) one.kill('SIGTERM');
  await Promise.all(
    copies.map((one) => one.exitCode ?? new Promise((resolve) => one.once('close', resolve))),
  );
  t.same(readdirSync(sockets), [], 'they leave nothing behind');
});

t.test(
  'on a terminal it draws over itself',
  { skip: skip || spawnSync('script', ['--version']).status !== 0 },
  async (t) => {
    const line = `stty cols 80; timeout -s INT 4 '${process.execPath}' '${main}' top --interval 0.2`;
    const { stdout } = spawnSync('script', ['-qec', line, '/dev/null'], { encoding: 'utf8', env });
    t.ok(stdout.split('\x1b[H\x1b[J').length > 2, JSON.stringify(stdout.slice(0, 300)));
  },
);
