/** What a process says of its streams to whoever asks, and that nothing is opened unless it is wanted. */
import { spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { type AnsweredFlow, askAll } from '../../lib/observe/ask.js';
import { observe } from '../../lib/observe/serve.js';
import { folders } from '../../lib/observe/socket.js';
import type { StreamContext } from '../../lib/streams/session.js';

const MIB = 1024 * 1024;
const skip = process.platform === 'win32' && 'no Unix sockets';

/** Runs `work` with a runtime directory of its own. */
async function inside(
  work: (folder: string) => Promise<void>,
  observe: string | undefined = '1',
): Promise<void> {
  const runtime = mkdtempSync(join(tmpdir(), 'p2pdma-run-'));
  const before = { XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR, P2PDMA_OBSERVE: process.env.P2PDMA_OBSERVE };
  process.env.XDG_RUNTIME_DIR = runtime;
  if (observe === undefined) delete process.env.P2PDMA_OBSERVE;
  else process.env.P2PDMA_OBSERVE = observe;
  try {
    await work(join(runtime, 'p2pdma'));
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(runtime, { recursive: true });
  }
}

const sumOf = (flows: readonly AnsweredFlow[]) =>
  flows.reduce((sum, { path }) => sum + Object.values(path).reduce((a, b) => a + b, 0), 0);

t.test('unless it is wanted, nothing is opened', { skip }, async (t) => {
  for (const value of [undefined, '', '0']) {
    await inside(async (folder) => {
      if (value === undefined) delete process.env.P2PDMA_OBSERVE;
      const system = await openSystem({ machine: 'switch' });
      t.notOk(existsSync(folder), `P2PDMA_OBSERVE=${value}`);
      await system.close();
    }, value);
  }
  await inside(async (folder) => {
    const system = await openSystem({ machine: 'switch', inspect: true } as object);
    t.notOk(existsSync(folder), 'nor by what only looks');
    await system.close();
  });
});

t.test('what is open and what has closed, by provider and client', { skip }, async (t) => {
  await inside(async (folder) => {
    const system = await openSystem({ machine: 'switch' });
    const [name] = readdirSync(folder);
    t.equal(statSync(folder).mode & 0o777, 0o700);
    t.equal(statSync(join(folder, name!)).mode & 0o777, 0o600);
    const ask = async () => (await askAll()).processes.find(({ pid }) => pid === process.pid)!;
    t.match(await ask(), {
      flows: [],
      inFlight: 0,
      memory: [{ machine: 'switch', provider: '0000:03:00.0' }, {}],
    });

    await system.pipeline('nvme0n1', 'nvme1n1', { end: MIB - 1 });
    const of = (client: string, path: object, open: number) => ({
      ...{ backend: 'emulator', machine: 'switch', provider: '0000:03:00.0', client, path, open },
    });
    const [read, written] = (await ask()).flows;
    t.match(read, of('0000:03:00.0', { internal: MIB, peerBus: 0, hostDram: 0 }, 0));
    t.match(written, of('0000:04:00.0', { internal: 0, peerBus: MIB, hostDram: 0 }, 0));

    await system.pipeline('nvme0n1', 'nvme1n1', { end: MIB - 1, provider: 'none' });
    const host = (await ask()).flows.filter(({ provider }) => provider === null);
    t.same(
      host.map(({ client, path }) => [client, path.hostDram]),
      [
        ['0000:03:00.0', MIB],
        ['0000:04:00.0', MIB],
      ],
    );

    const slow = system.pipeline('nvme0n1', 'nvme1n1', { end: 8 * MIB - 1, bandwidth: 16 * MIB });
    await new Promise((resolve) => setTimeout(resolve, 250));
    const live = (await ask()).flows.find(
      ({ client, provider }) => provider !== null && client === '0000:04:00.0',
    )!;
    t.equal(live.open, 1);
    const soFar = live.path.peerBus!;
    t.ok(soFar > MIB && soFar < 9 * MIB, `${soFar} bytes so far`);
    await slow;
    t.equal(
      (await ask()).flows.find(({ client, provider }) => provider !== null && client === '0000:04:00.0')!.path
        .peerBus,
      9 * MIB,
    );

    const other = await openSystem({ machine: 'acs' });
    await system.close();
    t.equal(readdirSync(folder).length, 1, 'as long as one of its systems is open');
    await other.close();
    t.same((await askAll()).processes, []);
    t.same(readdirSync(folder), [], 'and then nothing is left');
    const again = await openSystem({ machine: 'switch' });
    t.same((await ask()).flows, [], 'a new beginning');
    t.match(await again.close(), { handles: 0, slots: 0, requests: 0 });
  });
});

t.test('a small file, which is copied without streams', { skip }, async (t) => {
  await inside(async () => {
    await using system = await openSystem({ machine: 'no-cmb' });
    const small = join(t.testdir({ from: 'x'.repeat(4096) }), 'from');
    const { path } = await system.pipeline(small, `${small}-to`);
    const { flows } = (await askAll()).processes.find(({ pid }) => pid === process.pid)!;
    t.equal(sumOf(flows), path.hostDram, 'as the receipt says');
    t.match(flows, [
      { machine: 'no-cmb', provider: null },
      { machine: 'no-cmb', provider: null },
    ]);
  });
});

t.test('what a killed process left behind is removed, what gives no answer is said', { skip }, async (t) => {
  await inside(async (folder) => {
    mkdirSync(folder, { mode: 0o700 });
    const stale = join(folder, '999999.0.sock');
    const script = `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await new Promise((resolve) => spawn(process.execPath, ['-e', script]).once('close', resolve));
    t.ok(existsSync(stale), 'killed, so it is still there');
    writeFileSync(join(folder, 'other'), '', { flag: 'w' });
    const mute = createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(join(folder, '999998.0.sock'), resolve));
    const odd = createServer((socket) => socket.end('what?\n'));
    await new Promise<void>((resolve) => odd.listen(join(folder, '999997.0.sock'), resolve));
    const { processes, silent } = await askAll();
    t.same(processes, []);
    t.same(silent.map((path) => path.slice(folder.length + 1)).sort(), ['999997.0.sock', '999998.0.sock']);
    t.same(
      readdirSync(folder).sort(),
      ['999997.0.sock', '999998.0.sock', 'other'],
      'only what nobody listens on',
    );
    mute.close();
    odd.close();
  });
});

/** Its file is there a moment before it accepts connections. */
async function connected(path: string): Promise<Socket> {
  for (;;) {
    const client = connect({ path, allowHalfOpen: true });
    const refused = await new Promise((resolve) =>
      client.once('connect', () => resolve(null)).once('error', resolve),
    );
    if (refused === null) return client;
    await pause(20);
  }
}

t.test('what does not listen yet is not taken for stale', { skip }, async (t) => {
  await inside(async (folder) => {
    mkdirSync(folder, { mode: 0o700 });
    // Nobody listens on it, but the process of its name is there.
    const path = join(folder, `${process.pid}.7.sock`);
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await new Promise((resolve) => spawn(process.execPath, ['-e', script]).once('close', resolve));
    const { silent } = await askAll();
    t.same(silent, [path]);
    t.ok(existsSync(path));
  });
});

t.test('whoever asks and does not hang up keeps nobody alive', { skip }, async (t) => {
  await inside(async (folder) => {
    const lib = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href);
    const script = `await (await import(${lib})).openSystem({ machine: 'switch' }); process.stdin.once('data', () => process.stdin.destroy());`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'pipe' });
    t.teardown(() => child.kill('SIGKILL'));
    const name = `${child.pid}.0.sock`;
    while (!existsSync(folder) || !readdirSync(folder).includes(name)) await pause(20);
    const client = await connected(join(folder, name));
    await new Promise((resolve) => client.once('data', resolve));
    child.stdin.write('end\n');
    const late = pause(20_000, 'it is still there', { ref: false });
    t.equal(await Promise.race([new Promise((resolve) => child.once('exit', resolve)), late]), 0);
    client.destroy();
  });
});

t.test('each thread answers for itself', { skip }, async (t) => {
  await inside(async () => {
    const lib = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href);
    const script = `import(${lib}).then(async ({ openSystem }) => {
      const system = await openSystem({ machine: 'switch' });
      await system.pipeline('nvme0n1', 'nvme1n1', { end: ${MIB - 1} });
      const { parentPort } = require('worker_threads');
      parentPort.on('message', () => {});
      parentPort.postMessage('done');
    })`;
    await using system = await openSystem({ machine: 'switch' });
    const worker = new Worker(script, { eval: true });
    await new Promise((resolve) => worker.once('message', resolve));
    const { processes } = await askAll();
    t.same(
      processes.map(({ pid, thread, flows }) => [pid, thread, sumOf(flows)]),
      [
        [process.pid, 0, 0],
        [process.pid, worker.threadId, 2 * MIB],
      ],
    );
    t.same(system.metrics().bytes, { read: 0, write: 0 });
    await worker.terminate();
  });
});

t.test('a folder that others may enter, or a link, is refused and not looked into', { skip }, async (t) => {
  await inside(async (folder) => {
    mkdirSync(folder);
    chmodSync(folder, 0o755);
    await t.rejects(openSystem({ machine: 'switch' }), {
      code: 'EACCES',
      message: /a directory of this user that nobody else may enter/,
    });
    t.same((await askAll()).silent, []);
    rmSync(folder, { recursive: true });
    symlinkSync(t.testdir(), folder);
    await t.rejects(openSystem({ machine: 'switch' }), { code: 'EACCES' });
  });
  await inside(async () => {
    process.env.XDG_RUNTIME_DIR = 'relative';
    t.same(folders(), [join(tmpdir(), `p2pdma-${process.geteuid!()}`)], 'only an absolute path is one');
    process.env.XDG_RUNTIME_DIR = '/nowhere/at/all';
    await t.rejects(openSystem({ machine: 'switch' }), { code: 'ENOENT', syscall: 'mkdir' });
  });
});

t.test('a system that opens at the moment when the last one closes is observed', { skip }, async (t) => {
  await inside(async (folder) => {
    /** Begins to be observed; closing it is returned. */
    const begin = (): { begun: Promise<void>; close: () => Promise<void> } => {
      let close!: () => Promise<void>;
      const context = {
        add: ({ shutdown }: { shutdown: () => Promise<void> }) => {
          close = shutdown;
        },
        ...{
          origin: { backend: 'native', machine: null },
          flows: () => [],
          metrics: () => ({ inFlight: 1 }),
        },
      };
      const begun = observe(context as unknown as StreamContext);
      return { begun, close };
    };
    const inFlight = async () => (await askAll()).processes.map((one) => one.inFlight);
    let last = begin();
    await last.begun;
    for (const together of [1, 2, 3]) {
      const closing = last.close();
      const next = Array.from({ length: together }, begin);
      await Promise.all([closing, ...next.map(({ begun }) => begun)]);
      t.same(await inFlight(), [together]);
      last = next.pop()!;
      await Promise.all(next.map(({ close }) => close()));
      t.same(await inFlight(), [1]);
    }
    // Closed before it was there.
    const never = begin();
    await Promise.all([last.close(), never.close(), never.begun]);
    t.same(readdirSync(folder), [], 'nothing is left');
  });
});

t.test('a connection that cannot be accepted does not end the process', { skip }, async (t) => {
  await inside(async () => {
    await using _system = await openSystem({ machine: 'switch' });
    const servers = new Set<Server>();
    const accepted = (message: unknown) => {
      const { server } = (message as { socket: { server?: Server } }).socket;
      if (server !== undefined) servers.add(server);
    };
    subscribe('net.server.socket', accepted);
    await askAll();
    unsubscribe('net.server.socket', accepted);
    t.equal(servers.size, 1);
    // An error event that nobody listens for is thrown.
    for (const server of servers)
      server.emit('error', Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' }));
    t.equal((await askAll()).processes.length, 1);
  });
});

t.test('closing waits for nobody who does not hang up', { skip }, async (t) => {
  await inside(async (folder) => {
    const system = await openSystem({ machine: 'switch' });
    const client = await connected(join(folder, `${process.pid}.0.sock`));
    client.on('error', () => {});
    await new Promise((resolve) => client.once('data', resolve));
    await system.close();
    t.same(readdirSync(folder), []);
    client.destroy();
  });
});

t.test('the answer of another version: what it does not say is not known', { skip }, async (t) => {
  await inside(async (folder) => {
    mkdirSync(folder, { mode: 0o700 });
    const answers: [string, object][] = [
      ['999990.3.sock', { pid: 999990, flows: [{ backend: 'native', path: { hostDram: 5, relay: 7 } }] }],
      ['999991.0.sock', { pid: 999991, flows: [{ path: 'all' }] }],
      ['999992.0.sock', { flows: [] }],
    ];
    const servers = answers.map(([name, answer]) =>
      createServer((socket) => socket.end(`${JSON.stringify(answer)}\n`)).listen(join(folder, name)),
    );
    const { processes, silent } = await askAll();
    const unknown = { machine: null, provider: null, client: null, open: null };
    t.same(processes, [
      {
        ...{ pid: 999990, thread: 3, command: null, inFlight: null, memory: null },
        flows: [{ backend: 'native', path: { hostDram: 5, relay: 7 }, ...unknown }],
      },
    ]);
    t.same(silent.map((path) => basename(path)).sort(), ['999991.0.sock', '999992.0.sock']);
    for (const server of servers) server.close();
  });
});
