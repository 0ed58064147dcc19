/** `p2pdma sim`: what it plays, that a seed decides everything, and how it shows a failure. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { presets } from '../../lib/machine/presets.js';
import { runCli } from '../helpers/cli.js';
import { CANARIES } from '../sim/canaries.js';
import { runPlanted } from '../sim/planted.js';

t.setTimeout(240_000);
const env = { COLUMNS: '80', NO_COLOR: '1' };
const sim = (...args: string[]) => runCli(['sim', ...args], { env });
const widest = (text: string) => Math.max(...text.split('\n').map((line) => line.length));

t.test('a preset: what was played, in 80 columns', async (t) => {
  const { status, stdout, stderr } = sim('--machine', 'multipath', '--first', '5', '--seeds', '20');
  t.equal(status, 0, stderr);
  t.equal(stdout.split('\n')[0], "emulated machine 'multipath': its drives end with this process");
  t.match(stdout, /^seeds {7}5 to 24$/m);
  t.match(stdout, /^copy {8}\d+ complete/m);
  t.match(stdout, /^troubles {4}\d+ \S/m);
  t.match(stdout, /^hash {8}[0-9a-f]{64}$/m);
  t.match(stdout, /^speed {7}\d+ seeds per second$/m);
  t.match(stdout, /\nnothing failed\n$/);
  t.ok(widest(stdout) <= 80, `${widest(stdout)} columns`);
});

t.test('a machine file is the preset that it describes; one without a drive is refused', async (t) => {
  const folder = t.testdir({});
  const file = join(folder, 'machine.json');
  writeFileSync(file, JSON.stringify(presets.acs));
  const [own, preset] = [file, 'acs'].map((machine) =>
    JSON.parse(sim('--machine', machine, '--seeds', '5', '--json').stdout),
  );
  t.match(own, { type: 'sim', backend: 'emulator', machine: 'acs', first: 1, seeds: 5, failure: null });
  t.equal(own.hash, preset.hash);
  const functions = presets.acs.functions.filter(({ nvme }) => nvme === null);
  writeFileSync(file, JSON.stringify({ ...presets.acs, name: 'bare', functions }));
  const bare = sim('--machine', file);
  t.match(bare, { status: 2, stdout: '', stderr: /'bare' has no namespace to play on/ });
});

t.test('each seed draws a machine; the same seeds end in the same output, others in another', async (t) => {
  const text = () => sim('--seeds', '5').stdout.replace(/^speed.*\n/m, '');
  const first = text();
  t.match(first, /^emulated machines, drawn from the seeds: they end with this process\nseeds {7}1 to 5\n/);
  t.equal(text(), first);
  const { seconds: _, ...one } = JSON.parse(sim('--seed', '7', '--json').stdout);
  const { seconds: __, ...again } = JSON.parse(sim('--first', '7', '--seeds', '1', '--json').stdout);
  t.match(one, { first: 7, seeds: 1, backend: 'emulator', machine: null });
  t.strictSame(again, one);
  t.not(JSON.parse(sim('--seed', '8', '--json').stdout).hash, one.hash);
});

t.test('power cuts and faults are counted', async (t) => {
  const { troubles } = JSON.parse(sim('--seeds', '100', '--json').stdout);
  for (const kind of ['power-cut', 'media-error', 'reset', 'remove']) t.ok(troubles[kind] > 0, kind);
});

t.test('usage errors', async (t) => {
  for (const [pattern, ...args] of [
    [/there is no preset 'swich'\nDid you mean 'switch'\?/, '--machine', 'swich'],
    [/ENOENT/, '--machine', './nowhere.json'],
    [/--seeds and --seed cannot be used together/, '--seed', '1', '--seeds', '2'],
    [/Give a whole number of 1 or more/, '--seeds', '0'],
    [/Give a whole number/, '--seed', 'x'],
    [/Give at most 4294967295/, '--first', '4294967296'],
  ] as const) {
    const { status, stdout, stderr } = sim(...args);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, pattern);
  }
  const { stderr } = sim('--machine', 'swich', '--json');
  t.match(JSON.parse(stderr), { type: 'error', code: 'ERR_MACHINE_INVALID' });
});

t.test(
  'a fault that is planted in the package: the seed, what is wrong, the program; exit code 1',
  async (t) => {
    const fault = CANARIES.find(({ name }) => name === 'slot-leak')!;
    const planted = (...args: string[]) => {
      process.env.COLUMNS = '80';
      return runPlanted(fault, 'dist/lib/cli/main.js', [
        'sim',
        '--machine',
        'switch',
        '--seeds',
        '50',
        ...args,
      ]);
    };
    const { status, stdout } = planted();
    t.equal(status, 1);
    const [, seed] = /^seed (\d+) failed$/m.exec(stdout)!;
    t.match(stdout, new RegExp(`^seeds {7}(1 to )?${seed}$`, 'm'), 'the first one that fails is the last');
    t.match(stdout, /^ {2}invariant \d: /m);
    t.match(stdout, /^ {2}lanes: \[/m);
    t.match(stdout, `  p2pdma sim --machine switch --seed ${seed} --json\n`);
    t.notMatch(stdout, /nothing failed/);
    t.ok(widest(stdout) <= 80, `${widest(stdout)} columns`);
    const json = planted('--json');
    t.equal(json.status, 1);
    t.match(JSON.parse(json.stdout).failure, {
      seed: Number(seed),
      wrong: [/^invariant \d/],
      scenario: { seed: Number(seed), machine: { name: 'switch' }, lanes: Array, troubles: Array },
    });
  },
);
