/** The page's answer is the command's: on every preset, for every pair and kernel, from facts that went through JSON. */
import t from 'tap';
import { explain } from '../../lib/explain/explain.js';
import {
  describeMachine,
  KERNEL_RELEASES,
  MACHINE_PRESETS,
  openSystem,
  type System,
} from '../../lib/index.js';
import { AS_IT_IS, factsOf, type MachineFacts, machineOf, type PageFacts } from '../../lib/page/facts.js';
import { modelOf } from '../../lib/page/tree.js';
import { hexDump } from '../helpers/lspci-dump.js';

function pageOf(kernels: readonly System[], asked: readonly string[] = []): PageFacts {
  const [first] = kernels;
  const page: PageFacts = {
    name: 'test',
    backend: first!.backend,
    machine: first!.machine,
    notice: first!.notice,
    evidence: first!.evidence,
    version: '0',
    kernels: kernels.map(({ topology }, machine) => ({ release: topology.kernel?.text ?? null, machine })),
    machines: kernels.map((system): MachineFacts => factsOf(system, asked)),
    asked: { provider: null, clients: [] },
  };
  return JSON.parse(JSON.stringify(page)) as PageFacts;
}

async function withAll(
  open: (kernel: string | undefined) => Promise<System>,
  look: (systems: readonly System[]) => void,
): Promise<void> {
  const systems: System[] = [];
  try {
    for (const kernel of [undefined, ...KERNEL_RELEASES]) systems.push(await open(kernel));
    look(systems);
  } finally {
    for (const system of systems) await system.close();
  }
}

for (const preset of MACHINE_PRESETS) {
  t.test(preset, async (t) => {
    const open = (kernel: string | undefined) =>
      openSystem({ machine: preset, ...(kernel === undefined ? {} : { kernel }) });
    await withAll(open, (systems) => {
      const others = preset === 'mirror' ? ['md0'] : [];
      const page = pageOf(systems, others);
      for (const [kernel, system] of systems.entries()) {
        const machine = machineOf(page, { ...AS_IT_IS, kernel });
        const clients = [
          ...system.controllers.flatMap(({ name, namespaces }) => [name, ...namespaces.map((ns) => ns.name)]),
          ...others,
        ];
        for (const { bdf } of system.topology.functions) {
          t.strictSame(
            explain(machine, bdf, clients),
            system.explain(bdf, clients),
            `${bdf}, kernel ${kernel}`,
          );
        }
        const look = { name: preset, route: null, all: true };
        const plain = (of: object) =>
          JSON.parse(JSON.stringify(of, (key, value) => (key === 'dev' ? null : value)));
        t.strictSame(plain(modelOf(machine, look)), plain(modelOf(system, look)), 'the tree');
      }
    });
  });
}

t.test('changed ACS, IOMMU and kernel: as a machine that is like that', async (t) => {
  const system = await openSystem({ machine: 'acs' });
  t.teardown(() => system.close());
  const page = pageOf([system]);
  const ports = system.topology.functions.filter(({ acs }) => typeof acs === 'number');
  t.ok(ports.length >= 2, 'the preset has ports with ACS');
  const clear = machineOf(page, { ...AS_IT_IS, acs: new Map(ports.map(({ bdf }) => [bdf, 0])) });
  t.match(explain(clear, 'nvme0', ['nvme1']).clients, [{ mapType: 'BUS_ADDR', rule: 'common-bridge' }]);
  t.match(explain(machineOf(page), 'nvme0', ['nvme1']).clients, [{ mapType: 'NOT_SUPPORTED' }]);
  const legacy = machineOf(page, { ...AS_IT_IS, iommu: 'unsupported' });
  t.match(explain(legacy, 'nvme0', ['nvme1']), { notes: [{ kind: 'no-peer-mapping' }] });
});

t.test('what is not known stays not known', async (t) => {
  const emulated = await openSystem({ machine: 'switch' });
  const text = hexDump(emulated.topology, { bytes: 256 });
  await emulated.close();
  const system = await describeMachine(Buffer.from(text));
  t.teardown(() => system.close());
  const page = pageOf([system]);
  const machine = machineOf(page);
  t.equal(machine.topology.kernel, null);
  t.equal(machine.topology.peerMemory, 'unknown');
  t.ok(machine.topology.functions.some(({ acs }) => acs === 'unknown'));
  t.equal(explain(machine, '03:00.0', ['04:00.0']).clients[0]!.rule, 'acs-unknown');
  t.strictSame(explain(machine, '03:00.0', ['04:00.0']), system.explain('03:00.0', ['04:00.0']));
});
