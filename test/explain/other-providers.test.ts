/** Functions with peer memory that are no NVMe drives: shown for what they are, and nothing is taken of what is not published. */
import t, { type Test } from 'tap';
import { diagnose, openSystem } from '../../lib/index.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { p2pdma, runCli } from '../helpers/cli.js';

const GIB = 2 ** 30;
const GPU = '0000:07:00.0';

/** The two drives, and behind the same switch a GPU whose BAR of 8 GiB is registered. */
function withGpu(p2pmem: { size: number; available: number; published: boolean }): TreeDescription {
  const tree = twoDrivesBelowASwitch();
  const port = { bdf: '0000:02:02.0', upstream: '0000:01:00.0', type: 'downstream-port' as const, acs: 0 };
  tree.functions.push({ ...port, vendor: 0x104c, device: 0x8233 });
  tree.functions.push({
    ...{ bdf: GPU, upstream: port.bdf, type: 'endpoint', vendor: 0x1002, device: 0x740f, class: 0x038000 },
    bars: [{ index: 0, address: 0x1000000000, size: 8 * GIB, prefetchable: true }],
    p2pmem,
  });
  return tree;
}

const KEPT = { size: 8 * GIB, available: 8 * GIB, published: false };

async function opened(t: Test, tree: TreeDescription) {
  const root = writeSysfsTree(t.testdir(), tree);
  const system = await openSystem({ root });
  t.teardown(() => system.close());
  return { root, system };
}

t.test('a GPU that keeps its memory to itself: list, topo, explain, doctor', async (t) => {
  const { root, system } = await opened(t, withGpu(KEPT));
  const list = runCli(['list', '--root', root], { env: { COLUMNS: '80' } }).stdout;
  t.match(
    list,
    /other functions with peer memory:\n +0000:07:00\.0 +GPU, 8 GiB, not published: only\s+its own\s+driver\s+uses\s+it/,
  );
  t.same(JSON.parse(p2pdma('list', '--root', root, '--json').stdout).otherProviders, [
    { bdf: GPU, what: 'GPU', ...KEPT },
  ]);
  t.match(p2pdma('topo', '--root', root).stdout, /0000:07:00\.0.*GPU.*p2pmem 8 GiB, not published/);
  const [, gpu] = system.explainAll();
  t.match(gpu, {
    provider: GPU,
    notes: [{ kind: 'unpublished', text: /the driver of this function \(GPU\) keeps it to itself/ }],
  });
  const { findings, verdict } = await diagnose({ root });
  const said = findings.map(({ fact }) => fact).join('\n');
  t.match(said, /memory to lend, published: nvme0 16 MiB/);
  t.match(said, /so only their own drivers use it: 0000:07:00\.0 \(GPU\) 8 GiB/);
  t.notMatch(said, /◀─.*0000:07|0000:07:00\.0 ◀─/, 'it makes no pair');
  t.notMatch([list, said].join('\n'), /both readable and writable/, 'that is said of CMBs');
  const before = await diagnose({ root: writeSysfsTree(t.testdir({}), twoDrivesBelowASwitch()) });
  t.equal(verdict, before.verdict);
});

t.test('it is never chosen, and never allocated from', async (t) => {
  const { system } = await opened(t, withGpu(KEPT));
  const machine = system.snapshot() as { functions: { bdf: string; p2pmem?: object }[] };
  t.match(machine.functions.find(({ bdf }) => bdf === GPU)?.p2pmem, { size: 8 * GIB, published: false });
  const emulated = await openSystem({ machine });
  t.teardown(() => emulated.close());
  t.throws(() => emulated.allocate(GPU, 4096), {
    code: 'ENODEV',
    hint: /Nothing else may use the memory of 0000:07:00\.0: its memory is not published: the driver of this function \(GPU\)/,
  });
  t.equal(emulated.route(['nvme0n1', 'nvme1n1']).provider, '0000:03:00.0');
  const asked = await emulated.pipeline('nvme0n1', 'nvme1n1', { end: 4095, provider: GPU });
  t.match(asked, {
    transport: 'host-memory',
    reason: /provider 0000:07:00\.0: its memory is not published: the driver/,
  });
  t.match((await emulated.explain(GPU, ['nvme1'], { try: true })).clients[0]!.tried, {
    outcome: 'none',
    did: /nothing else may use the memory of 0000:07:00\.0/,
  });
});

t.test('alone: no CMB to lend, and the reason is not that of a CMB', async (t) => {
  const tree = withGpu(KEPT);
  delete tree.functions[6]!.p2pmem;
  delete tree.nvme![0]!.cmb;
  const { system } = await opened(t, tree);
  t.match(system.route(['nvme0n1', 'nvme1n1']), {
    transport: 'host-memory',
    reason: 'no drive has a CMB (p2pmem) to lend; 0000:07:00.0 (GPU) keeps its own to itself',
  });
});

t.test('published by a driver that lends it: a provider as any other', async (t) => {
  const tree = withGpu({ size: GIB, available: GIB, published: true });
  delete tree.functions[6]!.p2pmem;
  delete tree.nvme![0]!.cmb;
  const { root, system } = await opened(t, tree);
  t.match(system.route(['nvme0n1', 'nvme1n1']), { transport: 'p2p-bus', provider: GPU });
  t.match(p2pdma('list', '--root', root).stdout, /0000:07:00\.0 +GPU, 1 GiB, 1 GiB free/);
});

t.test('a p2pmem of size 0 is no provider', async (t) => {
  const { root, system } = await opened(t, withGpu({ size: 0, available: 0, published: true }));
  t.equal(system.topology.find(GPU)?.p2pmem, null);
  t.equal(system.explainAll().length, 1);
  t.notMatch(p2pdma('list', '--root', root).stdout, /other functions/);
});

t.test('captured memory that the emulator cannot register is left out, and the notice says so', async (t) => {
  const { system } = await opened(t, withGpu({ size: GIB, available: GIB, published: true }));
  const machine = system.snapshot() as { functions: { bdf: string; p2pmem?: { size: number } }[] };
  const as = async (size: number) => {
    const functions = machine.functions.map((f) =>
      f.bdf === GPU ? { ...f, p2pmem: { ...f.p2pmem, size, available: 0 } } : f,
    );
    const emulated = await openSystem({ machine: { ...machine, functions } });
    t.teardown(() => emulated.close());
    return emulated;
  };
  t.notMatch((await as(GIB)).notice, /left out/);
  const odd = await as(GIB + 4096);
  t.match(odd.notice, /; left out, because it cannot be registered: the peer memory of 0000:07:00\.0$/);
  t.equal(odd.topology.find(GPU)?.p2pmem, null);
});
