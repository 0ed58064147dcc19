/**
 * One pair below a switch, whose client's namespace is of each kind in turn: what the matrix of `explain` and the count of
 * `doctor` make of it; and what the plan of a copy does. The plans for zones and size 0 are in test/copy/zones.test; test/vm/guest/namespaces.test and multipath.test see the same on a kernel.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { diagnose, openSystem, planCopy, type System } from '../../lib/index.js';
import type { Machine, MachineInput } from '../../lib/machine/machine.js';
import { presets } from '../../lib/machine/presets.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { p2pdma } from '../helpers/cli.js';

const MIB = 2 ** 20;

type Namespace = NonNullable<ReturnType<typeof twoDrivesBelowASwitch>['nvme']>[number]['namespaces'][number];

/** nvme0 with a CMB, nvme1 with the namespace in question, nothing else. */
function tree(t: Test, change: Partial<Namespace>): string {
  const whole = twoDrivesBelowASwitch();
  const nvme = whole.nvme!.slice(0, 2);
  Object.assign(nvme[1]!.namespaces[0]!, change);
  const functions = whole.functions.filter(({ bdf }) => bdf !== '0000:05:00.0');
  return writeSysfsTree(t.testdir({}), {
    ...whole,
    functions,
    nvme,
    blocks: [],
    mounts: [],
    swaps: [],
  });
}

interface Said {
  /** The cell of the matrix, provider nvme0 and client nvme1. */
  readonly cell: string;
  /** The pairs that doctor counts as usable. */
  readonly pairs: string;
  readonly refusal: string | null;
}

async function said(root: string): Promise<Said> {
  const system = await openSystem({ root });
  try {
    const { findings } = await diagnose({ root });
    const pairs = findings.filter(({ check, level }) => check === 'pairs' && level === 'ok');
    const line = p2pdma('explain', '--root', root)
      .stdout.split('\n')
      .find((one) => one.startsWith('nvme0 '))!;
    return {
      cell: line.split(/ {2,}/).at(-1)!.trim(),
      pairs: pairs.map(({ fact }) => fact).join('; '),
      refusal: system.explain('nvme0', ['nvme1']).clients[0]!.refusal,
    };
  } finally {
    await system.close();
  }
}

const COUNTED = /^1 pair on the bus: nvme0 ◀─ nvme1$/;

t.test('plain, and with metadata beside the blocks: a usable pair', async (t) => {
  for (const change of [{}, { metadata: 8 }, { metadata: 64 }]) {
    const { cell, pairs, refusal } = await said(tree(t, change));
    t.equal(cell, 'bus 4');
    t.match(pairs, COUNTED);
    t.equal(refusal, null);
  }
});

t.test('zoned: a usable pair, because it can be read', async (t) => {
  const { cell, pairs, refusal } = await said(tree(t, { zoneSize: 64 * MIB }));
  t.equal(cell, 'bus 4');
  t.match(pairs, COUNTED);
  t.equal(refusal, null);
});

t.test('size 0, as the kernel leaves it for metadata within the blocks: no usable pair', async (t) => {
  for (const metadata of [8, 64, null]) {
    const { cell, pairs, refusal } = await said(tree(t, { bytes: 0, metadata }));
    t.equal(cell, 'refused');
    t.equal(pairs, '');
    t.match(refusal, /nvme1n1 has size 0/);
  }
});

t.test('a multipath head: no usable pair before 7.2', async (t) => {
  const { cell, pairs, refusal } = await said(tree(t, { subsystem: 1 }));
  t.equal(cell, 'refused');
  t.equal(pairs, '');
  t.match(refusal, /multipath head.*Linux 7\.2.*engine 'passthrough'/);
});

t.test('an emulated multipath head: the engine that the emulator does not have is not offered', async (t) => {
  const system = await openSystem({ machine: 'multipath' });
  t.teardown(() => system.close());
  t.match(system.locate('nvme2n1')?.noP2pReason, /multipath head.*Linux 7\.2/);
  t.notMatch(system.locate('nvme2n1')?.noP2pReason, /passthrough/);
  const { findings } = await diagnose({ machine: 'multipath' });
  const [head] = findings.filter(({ check }) => check === 'multipath');
  t.match(head, { level: 'warning', remedy: /make them plain disks/ });
  t.notMatch(head!.remedy, /passthrough/);
});

t.test(
  'the plan of a copy: metadata beside the blocks hinders nothing, a head takes host memory',
  async (t) => {
    const machine = structuredClone(presets.switch);
    const drive = machine.functions.find(({ nvme }) => nvme?.name === 'nvme1')!;
    Object.assign(drive.nvme!.namespaces[0]!, { metadata: 8 });
    for (const [of, to, expected] of [
      [machine, 'nvme1n1', { transport: 'p2p-bus', provider: '0000:03:00.0' }],
      [presets.multipath, 'nvme2n1', { transport: 'host-memory', provider: null, reason: /multipath head/ }],
    ] as const) {
      const system = await openSystem({ machine: of });
      const plan = await planCopy('nvme0n1', [to], { system, end: 4095, force: true });
      t.match({ ...plan, problems: plan.problems.length }, { ...expected, problems: 0 }, to);
      await system.close();
    }
  },
);

t.test('a snapshot keeps them: the emulated machine says of each what the kernel said', async (t) => {
  const kinds: [string, Partial<Namespace>][] = [
    ['plain', {}],
    ['zoned', { zoneSize: 64 * MIB }],
    ['8 bytes within the blocks', { bytes: 0, metadata: 8 }],
    ['64 bytes within the blocks', { bytes: 0, metadata: 64, blockSize: 4096 }],
    ['size 0 before 6.8', { bytes: 0, metadata: null }],
  ];
  for (const [what, change] of kinds) {
    const root = tree(t, change);
    const native = await openSystem({ root });
    const machine = JSON.parse(JSON.stringify(native.snapshot())) as Machine;
    const emulated = await openSystem({ machine });
    const again = emulated.snapshot() as unknown as Machine;
    const [kept, keptAgain] = [machine, again].map(({ functions }) =>
      functions.flatMap(({ nvme }) => (nvme?.name === 'nvme1' ? nvme.namespaces : [])),
    );
    const { zoneSize } = change;
    t.match(kept, [zoneSize === undefined ? {} : { zoned: { zoneSize } }], what);
    t.match(keptAgain, kept, `${what}: a snapshot of that one too`);
    const answers = (system: System) => ({
      place: placeOf(system),
      client: system.explain('nvme0', ['nvme1n1']).clients[0]!,
      size: system.controllers[1]!.namespaces[0]!.size,
    });
    const [left, right] = [answers(native), answers(emulated)];
    t.same(right.place, left.place, what);
    t.equal(right.size, left.size, what);
    for (const key of ['zones', 'refusal', 'verdict', 'help'] as const) {
      t.same(right.client[key as never], left.client[key as never], `${what}: ${key}`);
    }
    await native.close();
    await emulated.close();
    const file = join(root, 'machine.json');
    writeFileSync(file, JSON.stringify(machine));
    const lines = (...from: string[]) =>
      ['list', 'doctor', 'explain'].map((command) =>
        p2pdma(command, ...from)
          .stdout.split('\n')
          .filter((line) => /zoned:|has size 0|^nvme0 .*own/.test(line)),
      );
    t.same(lines('--machine', file), lines('--root', root), `${what}: list, doctor, explain`);
  }
});

function placeOf(system: System) {
  const { zones, noP2pReason, kind } = system.locate('nvme1n1')!;
  return { zones, noP2pReason, kind };
}

t.test('an emulated namespace of size 0 is not opened, for the reason that is said of it', async (t) => {
  const machine = structuredClone(presets.switch) as unknown as MachineInput;
  const drive = machine.functions.find(({ nvme }) => nvme?.name === 'nvme1')!;
  Object.assign(drive.nvme!.namespaces![0]!, { size: 0, extendedLba: { metadata: 64 } });
  const system = await openSystem({ machine });
  t.teardown(() => system.close());
  await t.rejects(system.target('nvme1n1'), {
    code: 'ENXIO',
    hint: 'It reports size 0: each of its blocks has 64 bytes of metadata, in a format that the kernel cannot carry. `nvme format --lbaf=…` gives it another format, and erases it.',
  });
  await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', { end: 4095 }), { code: 'ENXIO' });
  const { problems } = await planCopy('nvme0n1', ['nvme1n1'], { system, end: 4095 });
  t.ok(problems.length > 0, 'and a plan says so');
});
