/** The commands on a real kernel: those that look, trace and measure, and a copy that is killed and goes on. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import t from 'tap';
import { asked, p2pdma, start } from './command.js';
import { guest, guestDrive, p2pmem, sh, witnessed, writePattern } from './guest.js';

const MIB = 2 ** 20;
const { drives, release } = guest();
const [a, b] = [guestDrive('nvme0'), guestDrive('nvme1')];
const [source, destination] = [a.disks[0]!, b.disks[0]!];
const free = () => drives.map((drive) => p2pmem(drive, 'available'));
const before = free();

t.test('doctor', async (t) => {
  const { findings, unchecked, verdict, exitCode } = await asked('doctor');
  t.match({ verdict, exitCode, unchecked }, { verdict: 'works', exitCode: 0, unchecked: [] });
  const facts = new Map<string, string>();
  for (const { check, level, fact } of findings) {
    t.equal(level, 'ok', `${check}: ${fact}`);
    facts.set(check, fact);
  }
  t.match(facts.get('kernel'), `Linux ${release}`);
  t.match(facts.get('config'), 'CONFIG_PCI_P2PDMA=y');
  for (const { kernelName, bdf } of drives) {
    t.match(facts.get('cmb'), `${kernelName} 16 MiB (15.9 MiB free)`);
    t.match(facts.get('permissions'), `${bdf}/p2pmem/allocate`);
  }
  t.match(facts.get('pairs'), /^2 pairs on the bus/);
  t.match(facts.get('io_uring'), /^allowed/);
});

t.test('list', async (t) => {
  const { backend, controllers } = await asked('list');
  t.equal(backend, 'native');
  const found = controllers.map(({ name, bdf, cmb }: { name: string; bdf: string; cmb: object }) => ({
    ...{ name, bdf, cmb },
  }));
  const cmb = { size: 16 * MIB, published: true, unusable: null, available: 16646144 };
  const there = drives.map(({ kernelName, bdf }) => ({ name: kernelName, bdf, cmb }));
  t.strictSame(
    found,
    there.sort((left, right) => left.name.localeCompare(right.name)),
  );
});

t.test('topo, with the route; explain', async (t) => {
  const [topo, explain] = await Promise.all([
    p2pdma('topo', '--route', a.kernelName, b.kernelName),
    p2pdma('explain'),
  ]);
  t.equal(topo.status, 0, topo.stderr);
  for (const { kernelName, bdf } of drives) {
    t.match(topo.stdout, new RegExp(`${bdf}  ${kernelName}  .*CMB 16 MiB`));
    t.match(explain.stdout, bdf);
  }
  t.match(topo.stdout, /downstream-port/);
  t.equal(explain.status, 0, explain.stderr);
});

t.test('explain --try: one block is read into the provider’s memory, and nothing is written', async (t) => {
  const written = () =>
    sh(`cut -c1- /sys/block/${destination.slice(5)}/stat`)
      .text.trim()
      .split(/\s+/)[6];
  const first = written();
  const { provider, clients } = await witnessed(
    'explain --try',
    {
      bytes: 512,
      source: b.name,
      provider: a.name,
      besides: MIB,
      commands: { nvme0: { write: 0 }, nvme1: { write: 0 } },
    },
    () => asked('explain', '--try', a.kernelName, b.kernelName),
  );
  t.equal(provider, a.bdf);
  t.match(clients[0], {
    mapType: 'BUS_ADDR',
    tried: {
      outcome: 'works',
      did: /^One read of the first block of/,
      answered: /the bytes are those/,
      code: null,
    },
  });
  t.equal(written(), first, 'nothing was written');
  t.same(free(), before, 'the page went back');
  const { stdout, status } = await p2pdma('explain', '--try', a.kernelName, b.kernelName);
  t.equal(status, 0);
  t.match(stdout.replace(/\s+/g, ' '), /The kernel took it, and the bytes are those that host memory gets\./);
  const whole = await asked('explain', '--try');
  const outcomes = whole.providers.flatMap((one: { clients: { tried: { outcome: string } }[] }) =>
    one.clients.map(({ tried }) => tried.outcome),
  );
  t.same(outcomes, ['works', 'works', 'works', 'works'], 'each pair of the matrix');
});

t.test('trace copy: down to the kernel and back, once for the read and once for the write', async (t) => {
  writePattern(source, 65536, 4710);
  const { around, requests } = await asked('trace', 'copy', source, destination, '--require-p2p');
  t.match(
    around.find(({ event }: { event: string }) => event === 'route'),
    { transport: 'p2p-bus' },
  );
  // biome-ignore lint/suspicious/noExplicitAny: what a command prints
  const ladders = requests.map(({ op, bytes, events }: any) => [op, bytes, events.map((e: any) => e.event)]);
  t.strictSame(ladders, [
    ['read', 65536, ['submit', 'complete']],
    ['write', 65536, ['submit', 'complete']],
  ]);
  t.equal(sh(`cmp -n 65536 ${source} ${destination}`).status, 0);
});

t.test('bench', async (t) => {
  const once = ['--bytes', '1MiB', '--chunks', '64K', '--rounds', '1'];
  const { backend, providers, rows } = await asked('bench', source, ...once);
  t.equal(backend, 'native');
  t.match(providers, [{ provider: a.bdf, reason: null }]);
  t.equal(rows.length, 1);
  for (const way of ['p2p', 'host']) {
    t.match(rows[0][way].samples, [{ bytes: MIB }], way);
    t.ok(rows[0][way].bytesPerSecond > 0);
  }
  t.ok(rows[0].ratio > 0);
});

t.test('a copy that is killed amid its work goes on where its journal says', async (t) => {
  const bytes = 3 * MIB;
  const journal = '/tmp/tools.journal';
  writePattern(source, bytes, 4711);
  t.not(sh(`cmp -n ${bytes} ${source} ${destination}`).status, 0);
  const whole = ['--end', String(bytes - 1), '--resume', journal, '--require-p2p', '--verify', '--json'];
  const copy = ['copy', source, destination, ...whole];
  const child = start(...copy, '--chunk', '64K', '--bwlimit', '512K');
  const exited = once(child, 'exit');
  for await (const line of createInterface({ input: child.stderr })) {
    const said = JSON.parse(line);
    if (said.type !== 'progress') t.fail(line);
    if (said.bytes > 1.5 * MIB) break;
  }
  child.kill('SIGKILL');
  t.equal((await exited)[1], 'SIGKILL');
  t.ok(existsSync(journal));
  t.same(free(), before, 'the kernel took the CMB back');

  const { status, stdout, stderr } = await p2pdma(...copy);
  t.equal(status, 0, stderr);
  t.match(JSON.parse(stderr.split('\n')[0]!), { type: 'resuming', done: MIB });
  t.match(JSON.parse(stdout), {
    ...{ resumedFrom: MIB, bytes: 2 * MIB, transport: 'p2p-bus', provider: a.bdf, verified: true },
    path: { internal: 2 * MIB, peerBus: 2 * MIB, hostBridge: 0, hostDram: 0 },
  });
  t.equal(sh(`cmp -n ${bytes} ${source} ${destination}`).status, 0, 'identical');
  t.notOk(existsSync(journal), 'the journal is gone');
});

t.test('the pools are whole again', async (t) => {
  t.same(free(), before);
});
