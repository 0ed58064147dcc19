/**
 * npm run bench [-- emulator | native] [--json] [--rounds N] [--only PART]
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
  },
});

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
  for (const [name, figures] of Object.entries(report)) {
    const table = new Table({ head: [name, 'reached', 'goal', ''], style: { head: [] } });
    for (const { figure, value, unit, goal, reached } of figures) {
      table.push([figure, `${value.toPrecision(3)} ${unit}`, goal, reached ? 'ok' : 'SHORT']);
    }
    console.log(table.toString());
  }
}
