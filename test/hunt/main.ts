/** `npm run hunt -- [--seed N] [--count M] [--first I] [--backend native|emulator] [--lanes L]` */
import './poisoned.js';
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import type { BackendName } from './draw.js';
import { hunt, tell } from './hunt.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
    count: { type: 'string', default: '1000' },
    first: { type: 'string', default: '0' },
    backend: { type: 'string', default: 'native' },
    lanes: { type: 'string', default: '3' },
    patience: { type: 'string', default: '30' },
    verbose: { type: 'boolean', default: false },
  },
});
const number = (name: 'seed' | 'count' | 'first' | 'lanes' | 'patience') => {
  const n = Number(values[name]);
  if (Number.isSafeInteger(n) && n >= 0) return n;
  process.stderr.write(`--${name}: a whole number (received '${values[name]}')\n`);
  process.exit(2);
};
if (values.backend !== 'native' && values.backend !== 'emulator') {
  process.stderr.write(`--backend: native or emulator (received '${values.backend}')\n`);
  process.exit(2);
}
const [seed, count] = [number('seed'), number('count')];
process.stdout.write(`hunt: seed ${seed}, ${count} copies, ${values.backend}\n`);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
let done = 0;
const began = performance.now();
const { cases, outcomes, failures, left } = await hunt({
  ...{ seed, count, first: number('first'), lanes: number('lanes'), patience: number('patience') * 1000 },
  backend: values.backend as BackendName,
  onCase: (drawn, outcome, wrong) => {
    done++;
    if (wrong.length > 0) process.stdout.write(`${tell({ drawn, wrong })}\n`);
    if (values.verbose)
      process.stdout.write(`${drawn.index} ${drawn.way} ${drawn.disturbance.kind} ${outcome}\n`);
    else if (done % 500 === 0) process.stdout.write(`${done}\n`);
  },
});
for (const words of left) process.stdout.write(`left over: ${words}\n`);
process.stdout.write(`${JSON.stringify(outcomes)}\n`);
const seconds = Math.round((performance.now() - began) / 1000);
process.stdout.write(`${cases} copies in ${seconds} s, ${failures.length} wrong; seed ${seed}\n`);
process.exit(failures.length + left.length === 0 ? 0 : 1);
