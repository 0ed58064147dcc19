import t from 'tap';
import { type Cells, grouped, groupName, membersOf } from '../../lib/cli/explain-groups.js';
import { p2pdma } from '../helpers/cli.js';
import { largeMachine } from '../helpers/large-machine.js';

function cellsOf(rows: Record<string, Record<string, string>>): Cells {
  const cell = (text: string) => ({ text, paint: (shown: string) => shown });
  return new Map(
    Object.entries(rows).map(([provider, row]) => [
      provider,
      new Map(Object.entries(row).map(([client, text]) => [client, cell(text)])),
    ]),
  );
}

t.test('drives with the same answers are one row and one column', async (t) => {
  const cells = cellsOf({
    a: { a: 'own', b: 'bus 4', c: 'bridge 8', d: 'bridge 8' },
    b: { a: 'bus 4', b: 'own', c: 'bridge 8', d: 'bridge 8' },
    c: { a: 'bridge 8', b: 'bridge 8', c: 'own', d: 'bus 4' },
    d: { a: 'bridge 8', b: 'bridge 8', c: 'bus 4', d: 'own' },
  });
  t.same(grouped(cells, ['a', 'b', 'c', 'd']).rows, [
    { group: ['a', 'b'], cells: ['own/bus 4', 'bridge 8'] },
    { group: ['c', 'd'], cells: ['bridge 8', 'own/bus 4'] },
  ]);
});

t.test('one other answer, in one direction, parts them', async (t) => {
  const cells = cellsOf({
    a: { a: 'own', b: 'bus 4', c: 'bus 4' },
    b: { a: 'bus 4', b: 'own', c: 'refused' },
    c: { a: 'bus 4', b: 'bus 4', c: 'own' },
  });
  t.same(grouped(cells, ['a', 'b', 'c']).groups, [['a'], ['b'], ['c']]);
});

t.test('a provider that is no client has a row only', async (t) => {
  const cells = cellsOf({ a: { a: 'own', b: 'bus 4' }, gpu: { a: 'bus 4', b: 'bus 4' } });
  const { rows, columns } = grouped(cells, ['a', 'b']);
  t.same(
    rows.map(({ group }) => group),
    [['a'], ['gpu']],
  );
  t.same(columns, [['a'], ['b']]);
});

t.test('names of groups', async (t) => {
  t.equal(groupName(['nvme0']), 'nvme0');
  t.equal(groupName(['nvme0', 'nvme1']), 'nvme0 +1');
  t.equal(membersOf(['nvme0', 'nvme1', 'nvme2', 'nvme4', 'nvme5']), 'nvme0 to nvme2, nvme4, nvme5');
});

t.test('explain draws a large machine by groups', async (t) => {
  const machine = largeMachine({ hostBridges: 1, switches: 3, drives: 8 });
  const file = `${t.testdir({ 'large.json': JSON.stringify(machine) })}/large.json`;
  const { status, stdout } = p2pdma('explain', '--machine', file);
  t.equal(status, 0);
  t.match(stdout, /^provider +nvme0 \+7 +nvme8 \+7 +nvme16 \+7$/m);
  t.match(stdout, /^nvme8 \+7 +bridge 8 +own\/bus 4 +bridge 8$/m);
  t.match(stdout, /^nvme16 \+7: nvme16 to nvme23$/m);
});
