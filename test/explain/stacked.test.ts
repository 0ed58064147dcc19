import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { p2pdma } from '../helpers/cli.js';

t.test('multipath heads and md arrays of emulated machines', async (t) => {
  const over = async (machine: string) => {
    const system = await openSystem({ machine });
    const found = system.stacked().map(({ place, ...rest }) => ({ ...rest, layer: place.layers[0]?.kind }));
    await system.close();
    return found;
  };
  const size = 2 ** 30;
  t.strictSame(await over('multipath'), [
    {
      ...{ name: 'nvme2n1', kind: 'multipath-head', level: null, size },
      ...{ controllers: ['nvme2', 'nvme3'], layer: 'multipath-head' },
    },
  ]);
  t.strictSame(await over('mirror'), [
    { name: 'md0', kind: 'md', level: 'raid1', size, controllers: ['nvme1', 'nvme2'], layer: 'md' },
  ]);
  t.strictSame(await over('switch'), []);
});

t.test('those of a captured tree', async (t) => {
  const root = writeSysfsTree(t.testdir({}), twoDrivesBelowASwitch());
  const system = await openSystem({ root });
  t.match(system.stacked(), [
    { name: 'nvme2n1', kind: 'multipath-head', level: null, controllers: ['nvme2'] },
    { name: 'md0', kind: 'md', controllers: ['nvme0', 'nvme1'] },
  ]);
  await system.close();
});

const text = (...args: string[]) => p2pdma(...args).stdout;

t.test('list says of a head once what it refuses, on a line of its own', async (t) => {
  const listed = text('list', '--machine', 'multipath');
  t.equal(listed.match(/is an NVMe multipath head/g)?.length, 1);
  t.match(listed, /\nnvme2n1 +multipath head +1 GiB +nvme2, nvme3\n +└ no peer-to-peer: nvme2n1 is/);
  t.match(text('list', '--machine', 'mirror'), /\nmd0 +md raid1 +1 GiB +nvme1, nvme2\n/);
  t.match(JSON.parse(text('list', '--machine', 'mirror', '--json')), {
    overSeveral: [{ name: 'md0', level: 'raid1', controllers: ['nvme1', 'nvme2'], noP2pReason: null }],
  });
  t.notMatch(text('list', '--machine', 'switch'), 'over');
});

t.test('topo shows them below the tree, and in its other formats', async (t) => {
  t.match(text('topo', '--machine', 'mirror'), /\n\nmd0 {2}md raid1 1 GiB over nvme1, nvme2\n/);
  t.match(text('topo', '--machine', 'multipath', '--format', 'svg'), /nvme2n1 {2}multipath head 1 GiB over/);
  t.match(JSON.parse(text('topo', '--machine', 'multipath', '--format', 'json')), {
    overSeveral: [{ name: 'nvme2n1', kind: 'multipath-head', controllers: ['nvme2', 'nvme3'] }],
  });
});

t.test('the matrix has a column for each, with the verdict of the drive that comes off worst', async (t) => {
  const rows = (...args: string[]) =>
    text('explain', ...args)
      .split('\n')
      .filter((line) => line.startsWith('nvme') && line.includes('0000:'))
      .map((line) => line.split(/ {2,}/).at(-1));
  t.strictSame(rows('--machine', 'multipath'), ['refused', 'refused']);
  t.strictSame(rows('--machine', 'multipath', '--kernel', '7.2'), ['bus 4', 'bus 4']);
  t.strictSame(rows('--machine', 'mirror'), ['refused', 'refused'], 'one leg is on another root port');
  t.match(text('explain', '--machine', 'mirror'), /each leg of md0 \(raid1\) must be reachable/);
});

t.test(
  'a mirror with a leg out of reach: said once for all providers, and that this package refuses it',
  async (t) => {
    const flat = (kernel: string) =>
      text('explain', '--machine', 'mirror', '--kernel', kernel).replaceAll(/\s+/g, ' ');
    const said = flat('7.2');
    t.match(said, /md0: the worst of its drives; a mirror \(md0\) is refused by p2pdma unless/);
    t.equal(said.match(/each leg of md0/g)?.length, 1);
    t.match(
      said,
      /cannot reach the memory of 0000:03:00\.0; the kernel would report .* likewise for the memory of 0000:04:00\.0/,
    );
    t.match(
      flat('7.4'),
      /whether 0000:05:00\.0 can reach the memory of 0000:03:00\.0 is not known; if not, the kernel would report/,
    );
    t.notMatch(text('explain', '--machine', 'multipath', '--kernel', '7.2'), 'a mirror (');
  },
);

t.test('arrays and multipath heads with what is proposed', async (t) => {
  const asked = (machine: string, ...more: string[]) =>
    text('explain', ...more, '--machine', machine, '--kernel', 'proposed', '--color', 'never');
  t.match(asked('mirror'), /PROPOSED, NOT MERGED[\s\S]*\nnvme0 ◀─ md0, 1 more +no +no +no +no +no\n/);
  t.match(
    asked('mirror').replaceAll(/\s+/g, ' '),
    /\? \(nvme0 ◀─ nvme2\): .* host bridge allow-list is not known/,
  );
  t.match(asked('multipath'), /\nnvme0 ◀─ nvme1, 7 more +bus +bus +bus +bus +bus\n/, 'with the head');
  t.match(asked('multipath'), 'nvme2n1: the worst of its drives');
  const of = JSON.parse(asked('mirror', 'nvme0', 'md0', '--json')).providers[0].clients;
  t.match(of[0].proposed.classes[0].refusal, /each leg of md0/);
});

t.test('each class of requests has its own answer on an array', async (t) => {
  const system = await openSystem({ machine: 'acs' });
  const machine = structuredClone(system.snapshot()) as unknown as {
    kernel: string;
    arrays: object[];
    functions: { bdf: string; acs: unknown }[];
  };
  await system.close();
  machine.kernel = '7.2';
  machine.arrays = [{ name: 'md0', level: 'raid1', members: ['nvme0n1', 'nvme1n1'] }];
  // The completion of what nvme1 asks of nvme0 is redirected, unless it carries Relaxed Ordering; the request is not.
  for (const { bdf, acs } of [
    { bdf: '0000:02:00.0', acs: 0x08 },
    { bdf: '0000:02:01.0', acs: 0 },
  ]) {
    Object.assign(machine.functions.find((one) => one.bdf === bdf)!, { acs });
  }
  const file = join(t.testdir(), 'one-way.json');
  writeFileSync(file, JSON.stringify(machine));
  const said = text('explain', '--machine', file, '--kernel', 'proposed', '--color', 'never');
  t.match(said, /\nnvme0 ◀─ md0 +no +no +no +bus +bus\n/, said);
  t.match(said, /\nnvme1 ◀─ md0 +no +bus +bus +bus +bus\n/, said);
});
