/** docs/simulation.md: what `npm run sim` does, and the planted faults that it finds. */
import { readFileSync } from 'node:fs';
import { CANARIES } from '../sim/canaries.js';
import { type Found, MOST_SEEDS, RESULTS } from '../sim/planted.js';

export function simulationDocument(): string {
  const results: Record<string, Found> = JSON.parse(readFileSync(RESULTS, 'utf8'));
  const rows = CANARIES.map(
    ({ name, what, breaks }) =>
      `| \`${name}\` | ${what} | ${breaks} | ${results[name]?.seeds ?? 'not found'} |`,
  );
  return `${ABOUT}
| name | planted fault | what it breaks | seeds needed |
|---|---|---|---|
${rows.join('\n')}
`;
}

const ABOUT = `# The simulation

\`npm run sim -- --seed N\` plays one scenario in which the seed decides everything:

- **the machine**: ports and switches, ACS, the IOMMU, the kernel's release, drives with or without a CMB, block sizes, multipath
  heads and md arrays;
- **the programs**: up to three lanes of copies, pipes, copies with a journal, reads with lent chunks, writes, positioned I/O, aborts,
  and files that somebody else changes meanwhile;
- **the troubles**: media errors, dropped peer writes, lost writes, commands that never complete, an exhausted CMB, resets, removal,
  short reads and writes of files, jumps of the clock, and power cuts. A power cut loses what no flush covered, piece by piece;
- **the order**: every turn, timer and completion is an event whose time the seed draws. No real time passes.

As in swarm testing, each seed first switches kinds of operation and of trouble on and off.

After each operation and at the end these are checked:

| name | promise |
|---|---|
| every byte | Each byte of a device or file is what a model says: after a success the new one, after a failure the old or the new one, and beside the operation always the old one. |
| invariant 1 | Memory is not reused while anything is in flight on it. Media move their data early or late, so that reuse shows. |
| invariant 2 | When all is over, each pool has as many free bytes as before. |
| invariant 3 | What was not read is not delivered, and what was not written is not counted. |
| invariant 4 | A write's callback means that the kernel has the bytes; \`finish\` means that they survive a power cut, unless \`flush\` is off. |
| invariant 5 | A chunk that is lent is detached when the system closes. |
| invariant 6 | A device in use is not written without \`force\`. |
| invariant 7 | \`close()\` reports no leak. |
| receipts | They say what the fabric counted. |
| journal | What a journal says is durable is there after a power cut; the copy goes on, is complete, and removes its journal. |
| progress | Every operation ends within a bounded number of events. |

Nothing may fail without a reason in the scenario. The same seed ends in the same hash (\`--twice\` checks that). A failing seed is made
small by fast-check, and printed as a test.

| command | what it plays |
|---|---|
| \`npm run sim -- --seed 7\` | one seed |
| \`npm run sim -- --from 1 --seeds 100000 --workers 2\` | these seeds, in two processes |
| \`npm run sim -- --machine multipath --seeds 500\` | on this machine, a preset or a JSON file, with small drives |
| \`npm run sim -- --seconds 180\` | new seeds for three minutes; the first one is printed |

\`.ci/run\` plays three minutes of seeds that are counted from the commit's own hash: each commit has new ones, and is judged alike
everywhere. Seeds that found a fault are kept in \`test/sim/recorded.json\` and played by \`npm test\`.

Programs of the simulation write anywhere, in any order. So no machine that is drawn has a zoned namespace or one of size 0, and of a
machine that a user brings these are left out. Zones are held to a booted kernel by the scenarios of \`npm run test:vm\` instead.

A user plays it with \`p2pdma sim\`, by default a hundred seeds, each on the machine that it draws; \`p2pdma sim --machine
machine.json\` plays on a topology of the user's own. It ends at the first seed that fails, and prints it as it was drawn.

The simulation replaces the clock and the files of its own process only: \`lib/sim\` has a world of events, a model of files, and media
with a volatile cache, and the emulator runs on them as it is. \`npm run hunt\` stays for the native backend and for files on real file
systems, which no model replaces.

## Planted faults

Who guards the guard: each of these faults is planted in a copy of the built package, by changing one place, and the simulation has to
find it within ${MOST_SEEDS} seeds, counted from seed 1. \`node dist/test/sim/planted.js\` counts again.
`;
