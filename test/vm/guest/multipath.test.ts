/**
 * Two controllers of one subsystem before Linux 7.2: the head takes no peer memory for block I/O, and takes it by NVMe
 * commands, by ioctl and through its generic device. What the command and the library say of it must be so.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { openSystem } from '../../../lib/index.js';
import { asked, p2pdma } from './command.js';
import { guestDrive, Probe, p2pmem, sh, witnessed, writePattern } from './guest.js';

const MIB = 2 ** 20;
const EREMOTEIO = 'err 121';
const [A, B] = [guestDrive('nvme0'), guestDrive('nvme1')];
const [diskA, diskB] = [A.disks[0]!, B.disks[0]!];
const subsystem = '/sys/class/nvme-subsystem';
/** The one disk that belongs to a subsystem and to no controller. */
const name = readdirSync(subsystem)
  .flatMap((one) => readdirSync(`${subsystem}/${one}`))
  .find((entry) => /^nvme\d+n\d+$/.test(entry) && ![diskA, diskB].includes(`/dev/${entry}`))!;
const head = `/dev/${name}`;
const generic = `/dev/${name.replace('nvme', 'ng')}`;
const before = p2pmem(A, 'available');

t.test('there is a head with two paths', (t) => {
  const paths = sh(`ls -d /sys/class/nvme/nvme*/nvme*c*n* | wc -l`);
  t.equal(paths.text, '2', paths.text);
  t.end();
});

t.test('what the kernel answers', async (t) => {
  const probe = new Probe();
  for (const [question, answer] of [
    [`map 0 ${A.allocate} 65536 0 shared`, /^ok/],
    [`open 0 ${head} rw,direct`, /^ok/],
    [`open 1 ${generic} rw`, /^ok/],
    ['pread 0 0 0 0 65536', EREMOTEIO],
    ['pwrite 0 0 0 0 65536', EREMOTEIO],
    ['uring_read 0 0 0 0 65536', EREMOTEIO],
    ['fill 0 0 65536 21', /^ok/],
    ['iowrite 0 1 256 128 0 0 65536', 'ok 0'],
    ['fill 0 0 65536 22', /^ok/],
    ['ioread 0 1 256 128 0 0 65536', 'ok 0'],
    ['check 0 0 65536 21', 'ok 0'],
    ['fill 0 0 65536 22', /^ok/],
    ['uring_cmd_read 1 1 256 128 0 0 65536', 'ok 0'],
    ['check 0 0 65536 21', 'ok 0'],
    ['uring_cmd_write 1 1 512 128 0 0 65536', 'ok 0'],
  ] as const) {
    t.match(await probe.ask(question), answer, question);
  }
  await probe.end();
});

t.test('a copy to the head', async (t) => {
  writePattern(diskA, MIB, 31);
  const range = ['--end', String(MIB - 1), '--force'];
  const refused = await p2pdma('copy', diskA, head, ...range, '--require-p2p');
  t.equal(refused.status, 1);
  t.match(refused.stderr.replace(/\s+/g, ' '), /multipath head/);
  t.match(refused.stderr.replace(/\s+/g, ' '), /passthrough/, 'and what would');
  const host = await asked('copy', diskA, head, ...range, '--verify');
  t.match(host, { transport: 'host-memory', provider: null, reason: /multipath head/, verified: true });

  for (const [from, to, seed] of [
    [diskA, head, 32],
    [head, diskB, 33],
  ] as const) {
    writePattern(from, MIB, seed);
    await using system = await openSystem({ backend: 'native', engine: 'uring' });
    const receipt = await witnessed(
      `passthrough: ${from} → ${to}`,
      ({ path }) => ({ bytes: MIB, provider: A.name, path, besides: 4 * MIB }),
      () =>
        system.pipeline(from, to, {
          ...{ end: MIB - 1, engine: 'passthrough', provider: A.bdf, requireP2p: true, force: true },
        }),
    );
    t.match(receipt, { transport: 'p2p-bus', bytes: MIB, unproven: null, path: { hostDram: 0 } });
    sh('echo 3 > /proc/sys/vm/drop_caches');
    t.equal(sh(`cmp -n ${MIB} ${from} ${to}`).status, 0, `${from} → ${to}: identical`);
  }
  writePattern(diskA, MIB, 34);
  const cli = ['--engine', 'passthrough', '--require-p2p', '--verify'];
  t.match(await asked('copy', diskA, head, ...range, ...cli), { transport: 'p2p-bus', verified: true });
  t.equal(p2pmem(A, 'available'), before, 'the pool is whole');
});

t.test('explain, explain --try, the dry run and doctor do not count it', async (t) => {
  const { clients } = await asked('explain', A.kernelName, head);
  t.equal(clients.length, 2, 'each path');
  for (const { refusal } of clients) t.match(refusal, /multipath head.*Linux 7\.2/);
  const tried = await asked('explain', '--try', A.kernelName, head);
  for (const client of tried.clients) {
    t.match(client.tried, { outcome: 'none', did: /multipath head|several drives/ });
  }
  const dry = await asked('copy', diskA, head, '--end', String(MIB - 1), '--dry-run', '--force');
  t.match(JSON.stringify(dry), /"transport":"host-memory"/);
  t.match(JSON.stringify(dry), /multipath head/);
  const newer = await asked('explain', '--kernel', '7.2', A.kernelName, head);
  for (const { refusal } of newer.clients) t.equal(refusal, null, 'from 7.2 on it takes it');
  const { findings } = JSON.parse((await p2pdma('doctor', '--json')).stdout);
  const pairs = findings.find(({ check }: { check: string }) => check === 'pairs');
  t.match(pairs.fact, /^2 pairs on the bus/, pairs.fact);
  const { stdout } = await p2pdma('explain');
  const rows = stdout.split('\n').filter((line) => line.startsWith(`${A.kernelName} `));
  t.match(rows[0], /refused$/, 'in the matrix its column, the last, is refused');
});

t.test('a snapshot keeps it, and the emulator of that refuses what the machine refuses', async (t) => {
  const machine = await asked('snapshot');
  t.equal(machine.subsystems.length, 1);
  writeFileSync('/tmp/machine.json', JSON.stringify(machine));
  const system = await openSystem({ machine: '/tmp/machine.json' });
  try {
    const emulated = machine.subsystems[0].name.replace('-subsys', '');
    const [provider] = system.topology.functions.filter(({ p2pmem }) => p2pmem !== null);
    const memory = system.allocate(provider!.bdf, 4096);
    const target = await system.target(`${emulated}n1`);
    await t.rejects(target.read(memory.buffer, 0), { code: 'EREMOTEIO' });
    await target.close();
  } finally {
    await system.close();
  }
});
