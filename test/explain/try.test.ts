/** `explain` with `try`: what the kernel answers, and what it leaves of a verdict. */
import t, { type Test } from 'tap';
import type { Backend, BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import { parseRelease } from '../../lib/backend/kernel-release.js';
import { openEmulator } from '../../lib/emulator/boot.js';
import { explain } from '../../lib/explain/explain.js';
import { tryEach } from '../../lib/explain/try.js';
import { openSystem } from '../../lib/index.js';
import { loadMachine } from '../../lib/machine/load.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { p2pdma, runCli } from '../helpers/cli.js';

async function tried(machine: string | object, asked: string[] = ['nvme1'], kernel?: string) {
  const system = await openSystem({ machine, ...(kernel === undefined ? {} : { kernel }) });
  try {
    const free = () => system.topology.functions.map(({ p2pmem }) => p2pmem?.available ?? null);
    const before = free();
    const explanation = await system.explain('nvme0', asked, { try: true });
    return { explanation, client: explanation.clients[0]!, before, after: free() };
  } finally {
    t.same(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
  }
}

t.test('a pair that works: read, compared, the pool as it was', async (t) => {
  const { client, explanation, before, after } = await tried('switch', ['nvme1', 'nvme1n1', 'nvme0']);
  t.match(client.tried, {
    outcome: 'works',
    did: /^One read of the first block of nvme1n1 \(512 bytes, O_DIRECT\) into 4096 bytes of the pool of 0000:03:00\.0, which are given back\. Nothing was written to a drive\.$/,
    answered: 'The kernel took it, and the bytes are those that host memory gets.',
    code: null,
  });
  t.match(
    client,
    { mapType: 'BUS_ADDR', rule: 'common-bridge', distance: 4 },
    'the verdict stays what it was',
  );
  t.same(
    explanation.clients.map((one) => one.tried?.outcome),
    ['works', 'works', 'works'],
  );
  t.equal(explanation.distance, 8);
  t.same(after, before);
});

t.test('a pair that is refused: by each release with its own errno', async (t) => {
  for (const [kernel, code] of [
    ['6.8.0', 'EREMOTEIO'],
    ['6.12.117', 'EREMOTEIO'],
    ['6.17.0', 'EINVAL'],
    ['7.2.0', 'EINVAL'],
  ] as const) {
    const { client, before, after } = await tried('root-ports', ['nvme1'], kernel);
    t.match(client.tried, {
      outcome: 'refused',
      code,
      answered: new RegExp(`^The kernel refused it: ${code}, `),
    });
    t.match(client, { mapType: 'NOT_SUPPORTED', rule: 'host-bridge-not-listed' });
    t.same(after, before);
  }
});

t.test('what is not known is settled: refused', async (t) => {
  const { client, explanation } = await tried('root-ports', ['nvme1'], '6.6.0-28.0.0.34.oe2403.x86_64');
  t.match(client, {
    mapType: 'NOT_SUPPORTED',
    rule: 'trial',
    distance: -1,
    reason: /^The kernel refused it: EREMOTEIO.* Without the trial: .*openEuler/,
    remedy: /^Put both devices below one PCIe switch/,
    kernelParameter: null,
  });
  t.match(
    client.hops.find(({ kind }) => kind === 'host-bridge'),
    { passes: false },
  );
  t.equal(explanation.distance, -1);
});

/** A machine whose kernel is one, computed by the rules of another. */
async function underOtherRules(t: Test, rules: string, change: Partial<Backend['memory']> = {}) {
  const machine = await loadMachine('root-ports-listed');
  const backend = await openEmulator({ machine });
  t.teardown(() => backend.close());
  const topology = {
    ...backend.topology,
    functions: backend.topology.functions,
    find: (bdf: string) => backend.topology.find(bdf),
    kernel: parseRelease(rules),
    hostBridges: backend.topology.hostBridges,
  };
  const memory = {
    mmapP2pmem: backend.memory.mmapP2pmem.bind(backend.memory),
    allocHost: backend.memory.allocHost.bind(backend.memory),
    allocBuffer: backend.memory.allocBuffer.bind(backend.memory),
    available: backend.memory.available.bind(backend.memory),
    ...change,
  };
  const here = {
    release: backend.release,
    controllers: backend.controllers,
    topology,
    memory,
    openTarget: backend.openTarget.bind(backend),
    inspect: backend.inspect.bind(backend),
  } as unknown as Backend;
  return { backend, here };
}

t.test('what is computed and what the kernel does are two things: the kernel is right', async (t) => {
  const { backend, here } = await underOtherRules(t, '6.12.117');
  const bridge = backend.topology.hostBridges[0]!.firstDevice!;
  const listed = bridge.device;
  const asIf = async (device: number, kernel: string) => {
    Object.assign(here.topology, { kernel: parseRelease(kernel) });
    Object.assign(bridge, { device });
    const computed = explain(here, 'nvme0', ['nvme1']);
    const answer = await tryEach(here, computed);
    Object.assign(bridge, { device: listed });
    return { computed: computed.clients[0]!, client: answer.clients[0]!, distance: answer.distance };
  };
  // The map type is asked once for a pair, and kept: this is the kernel's answer from here on.
  t.match(await asIf(listed, '6.12.117'), {
    client: { tried: { outcome: 'works' }, rule: 'host-bridge-listed' },
  });
  const unknown = await asIf(0x0a0b, '6.6.0-28.oe2403');
  t.match(unknown.computed, { mapType: 'UNKNOWN', rule: 'host-bridge-list-unknown', tried: null });
  t.match(unknown, {
    distance: 4,
    client: { mapType: 'THRU_HOST_BRIDGE', rule: 'trial', distance: 4, remedy: null },
  });
  t.match(
    unknown.client.hops.find(({ kind }) => kind === 'host-bridge'),
    { passes: true },
  );
  const against = await asIf(0x0a0b, '6.12.117');
  t.match(against.computed, { mapType: 'NOT_SUPPORTED' });
  t.match(against.client, {
    mapType: 'THRU_HOST_BRIDGE',
    rule: 'trial',
    reason: /That is not what was computed, and the kernel is right\. Without the trial: /,
  });
});

/** In place of the drive: what each read answers, and puts there. */
function scripted(here: Backend, answer: (call: number, view: Uint8Array) => number): void {
  const { openTarget } = here;
  let call = 0;
  here.openTarget = async (name, options) => {
    const target = await openTarget(name, options);
    const { size, limits, client, path, kind } = target;
    const submit = (io: IoRequest) => {
      io.result = answer(++call, io.segments[0]!);
      queueMicrotask(() => io.done(io));
    };
    const facts = { name, path, kind, size, limits, client, noP2pReason: null, unproven: null, ranges: [] };
    return { ...facts, readable: true, submit, close: () => target.close() } as unknown as BlockTarget;
  };
}

t.test('success that brings other bytes is no success', async (t) => {
  const { here } = await underOtherRules(t, '6.12.117');
  scripted(here, (_call, view) => view.length);
  const { clients } = await tryEach(here, explain(here, 'nvme0', ['nvme1']));
  t.match(clients[0]!.tried, {
    outcome: 'wrong',
    answered: /other bytes arrived.*use no peer memory here/,
    code: null,
  });
  t.equal(clients[0]!.rule, 'host-bridge-listed', 'it says nothing of the rule');
});

t.test('where the answer would not be about the pair, nothing is done and that is said', async (t) => {
  for (const [machine, asked, why] of [
    ['no-cmb', 'nvme1', /has no p2pmem/],
    ['cmb-read-only', 'nvme1', /is not published/],
    ['switch', '0000:02:01.0', /0000:02:01\.0 is no NVMe controller/],
  ] as const) {
    const { client } = await tried(machine, [asked]);
    t.match(client.tried, { outcome: 'none', did: why, answered: null, code: null }, machine);
    t.match(client.tried!.did, /^Nothing was done: /);
  }
});

t.test('answers that do not show whether the pair works', async (t) => {
  const { here, backend } = await underOtherRules(t, '7.2.0');
  const [first] = backend.topology.functions.filter(({ p2pmem }) => p2pmem !== null);
  const answer = async (result: number, on = 2) => {
    scripted(here, (call, view) => (call === on ? result : view.length));
    const { clients } = await tryEach(here, explain(here, 'nvme0', ['nvme1']));
    return clients[0]!;
  };
  Object.assign(here, { release: '7.2.0' });
  t.match((await answer(-121)).tried, {
    outcome: 'queue',
    code: 'EREMOTEIO',
    answered: /for a queue that takes no peer memory; a pair it refuses with EINVAL/,
  });
  t.match(await answer(-121), { refusal: /EREMOTEIO/, mapType: 'THRU_HOST_BRIDGE' });
  t.match((await answer(-22)).tried, { outcome: 'refused', code: 'EINVAL' });
  t.match((await answer(-5)).tried, {
    outcome: 'failed',
    code: 'EIO',
    answered: /this error does not show whether the pair works/,
  });
  t.match((await answer(-5, 1)).tried, { outcome: 'none', did: /^Nothing was done: EIO/ });
  let call = 0;
  scripted(here, (_, view) => {
    view.fill(++call);
    return view.length;
  });
  const { clients } = await tryEach(here, explain(here, 'nvme0', ['nvme1']));
  t.match(clients[0]!.tried, { outcome: 'works', answered: /Somebody wrote that block meanwhile/ });
  t.equal(
    here.memory.available(first!),
    first!.p2pmem!.available,
    'whatever the answer, the pool is as it was',
  );
});

t.test('what lies on several drives, or behind a queue that refuses, is not tried', async (t) => {
  const { here, backend } = await underOtherRules(t, '6.12.117');
  const drives = backend.controllers.flatMap(({ pdev }) => pdev ?? []);
  const place = {
    kind: 'block',
    layers: [{ name: 'md0', kind: 'md' }],
    unproven: null,
    inUse: null,
    partitions: [],
  };
  Object.assign(here, {
    inspect: (name: string) => ({
      place: {
        ...place,
        clients: name === 'md0' ? drives : drives.slice(1),
        noP2pReason: name === 'dm-0' ? 'dm-0 is a device-mapper device' : null,
      },
    }),
  });
  const asked = async (name: string) =>
    (await tryEach(here, explain(here, 'nvme0', [name]))).clients[0]!.tried;
  t.match(await asked('md0'), {
    outcome: 'none',
    did: /md0 may be on any of several drives; name a drive instead/,
  });
  t.match(await asked('dm-0'), {
    outcome: 'none',
    did: /device-mapper device; reading it does not show whether this pair works/,
  });
});

t.test('a machine that is only looked at cannot be asked', async (t) => {
  const root = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  const system = await openSystem({ root });
  await t.rejects(system.explain('nvme0', ['nvme1'], { try: true }), { code: 'ERR_BACKEND_UNAVAILABLE' });
  t.equal(system.explain('nvme0', ['nvme1'], { try: false }).clients[0]!.tried, null);
  await system.close();
});

t.test('on the command line', async (t) => {
  const root = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  for (const [args, why] of [
    [['--root', root], /a captured tree has no running kernel to ask/],
    [['--machine', 'switch', '--kernel', 'all'], /--kernel all computes/],
    [['--kernel', '7.2'], /the kernel that runs here is not Linux 7\.2/],
  ] as const) {
    const ran = p2pdma('explain', 'nvme0', 'nvme1', '--try', ...args);
    t.equal(ran.status, 2);
    t.match(ran.stderr, why);
    t.equal(ran.stdout, '');
  }
  const words = p2pdma(
    'explain',
    'nvme0',
    'nvme1',
    '--try',
    '--machine',
    'root-ports',
    '--kernel',
    '6.17',
  ).stdout;
  t.match(words, /tried +One read[\s\S]*answer +The kernel refused it: EINVAL[\s\S]*tried: yes/);
  t.match(p2pdma('explain', 'nvme0', 'nvme1', '--machine', 'root-ports').stdout, /tried: no/);
  const matrix = runCli(['explain', '--try', '--machine', 'four-drives'], { env: { COLUMNS: '80' } }).stdout;
  t.match(matrix, /tried, one block for each of 8 pairs:\n +8 work/);
  const data = JSON.parse(p2pdma('explain', '--try', '--machine', 'zen', '--json').stdout);
  t.match(data.providers[0].clients[1], { mapType: 'THRU_HOST_BRIDGE', tried: { outcome: 'works' } });
});
