/** The comparison itself: what is not equal is not passed, whatever is missing or changed. */
import t from 'tap';
import { COUNTS_AS, compare, differences, readRecorded, table, totals } from '../differential.js';
import { normalised, type Outcomes } from '../scenarios.js';

const machine = 'no-cmb';
const { release, answers: recorded } = readRecorded('6.12')!;
const answered = (answers: Outcomes) => ({ release, answers });

t.test('a kernel that was not asked is not equal', async (t) => {
  const rows = await compare(machine, answered({}));
  t.ok(rows.length > 0);
  for (const row of rows) {
    t.equal(row.verdict, 'unequal');
    t.same(differences(row), ['the kernel was not asked']);
  }
  t.match(table(rows)[0], /not asked \| unequal$/);
});

t.test('an excuse is for a difference, not for a missing answer', async (t) => {
  for (const { verdict } of await compare('small-cmb', answered({}))) t.equal(verdict, 'unequal');
});

t.test('one answer, one word of the kernel or one byte of a pool more is a difference', async (t) => {
  const name = Object.keys(recorded).find((key) => key.startsWith(`${machine}: no-memory`))!;
  const right = recorded[name]!;
  const wrongs = [
    { ...right, answers: ['ok 0', ...right.answers.slice(1)] },
    { ...right, answers: right.answers.slice(1) },
    { ...right, said: ['nvme1 cannot reach nvme0'] },
    { ...right, after: { ...right.after, nvme0: 4096 } },
  ];
  for (const wrong of wrongs) {
    const kernel: Outcomes = { ...recorded, [name]: wrong };
    const unequal = (await compare(machine, answered(kernel))).filter(({ verdict }) => verdict === 'unequal');
    t.same(
      unequal.map(({ scenario }) => scenario.name),
      [name],
    );
    t.ok(differences(unequal[0]!).length > 0, differences(unequal[0]!).join('; '));
  }
  const rows = await compare(machine, answered(recorded));
  t.ok(rows.every(({ verdict }) => verdict === 'equal'));
});

t.test('spelling of answers', async (t) => {
  t.equal(normalised('check 0 0 1 1', 'differs 17'), 'differs');
  t.equal(normalised('ioread 0', `status ${0x4080}`), 'status 128', 'without "do not retry"');
  t.equal(normalised('map 0 nvme0:allocate 1 0 shared', 'err 2'), 'err 19');
  t.equal(normalised('open 0 nvme9:disk ro', 'err 2'), 'err 2');
});

t.test('what is excused is skipped, not passed; an excuse that nobody needs fails', async (t) => {
  const rows = await compare('small-cmb', answered(recorded));
  const excused = rows.filter(({ scenario }) => scenario.excused !== null);
  t.ok(excused.length > 0);
  for (const row of excused) {
    t.equal(row.verdict, 'excused');
    t.equal(COUNTS_AS[row.verdict], 'skip');
  }
  const passed = rows.length - excused.length;
  t.equal(totals(rows), `${passed} passed, 0 failed, ${excused.length} skipped`);

  const { scenario, emulator } = excused[0]!;
  const again = await compare('small-cmb', answered({ ...recorded, [scenario.name]: emulator }));
  const needless = again.find((row) => row.scenario.name === scenario.name)!;
  t.equal(needless.verdict, 'needless');
  t.match(differences(needless), [/^they are equal, and need no excuse: /]);
  t.equal(totals(again), `${passed} passed, 1 failed, ${excused.length - 1} skipped`);
});

t.test('what newer kernels do otherwise is excused answer by answer', async (t) => {
  const newer = readRecorded('stock-7.2')!;
  const name = Object.keys(newer.answers).find((key) => key.startsWith('root-ports: copy-ioctl'))!;
  const right = newer.answers[name]!;
  const verdictOn = async (outcome: typeof right) => {
    const rows = await compare('root-ports', { ...newer, answers: { ...newer.answers, [name]: outcome } });
    return rows.find(({ scenario }) => scenario.name === name)!.verdict;
  };
  t.equal(await verdictOn(right), 'excused');
  const at = right.answers.indexOf('status 18');
  for (const wrong of [
    { ...right, answers: right.answers.with(at, 'status 19') },
    { ...right, answers: right.answers.with(at, 'err 5') },
    { ...right, answers: right.answers.with(0, 'err 19') },
    { ...right, answers: right.answers.slice(0, -1) },
    { ...right, said: ['nvme0 cannot reach nvme1'] },
    { ...right, after: { ...right.after, nvme0: 4096 } },
  ]) {
    t.equal(await verdictOn(wrong), 'unequal', JSON.stringify(wrong).slice(0, 120));
  }
});
