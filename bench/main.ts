/**
 * npm run bench [-- emulator | native] [--json] [--rounds N] [--only PART]: see README.md
 */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import type { Figure, Settings } from './harness.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  console.log('npm run bench [-- emulator | native] [--json] [--rounds N] [--only PART]');
  console.log('What it measures, and what it needs, is in bench/README.md.');
  process.exit();
}

/** Everything that cli-table3 draws around the cells. */
const EDGES = [
  ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
  ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
];

const suites: Record<string, () => Promise<{ figures(settings: Settings): Promise<Figure[]> }>> = {
  emulator: () => import('./emulator/figures.js'),
  native: () => import('./native/figures.js'),
};

const chosen = positionals.length > 0 ? positionals : Object.keys(suites);
const report: Record<string, Figure[]> = {};
for (const name of chosen) {
  const suite = suites[name];
  if (suite === undefined)
    throw new Error(`there is no benchmark '${name}'; there are: ${Object.keys(suites).join(', ')}`);
  const settings = {
    rounds: Number(values.rounds),
    only: values.only,
    log: (text: string) => console.error(text),
  };
  report[name] = await (await suite()).figures(settings);
}

if (values.json) console.log(JSON.stringify(report));
else {
  const short = (value: number) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));
  for (const [name, figures] of Object.entries(report)) {
    // 80 columns.
    const table = new Table({
      head: [name, 'reached', 'of the rounds', 'goal', ''],
      colWidths: [40, 11, 13, 9, 7],
      style: { head: [], 'padding-left': 0 },
      wordWrap: true,
      chars: Object.fromEntries(EDGES.map((edge) => [edge, ''])),
    });
    for (const { figure, value, unit, spread, goal, reached } of figures) {
      const rounds = spread === null ? '' : spread.map(short).join('–');
      table.push([figure, `${short(value)} ${unit}`, rounds, goal, reached ? 'ok' : 'SHORT']);
    }
    console.log(table.toString());
  }
}
