/** `explain --kernel proposed`: the verdict on each pair with patches that are not merged, beside that of the queue for 7.4. */
import type { ClientVerdict, Explanation, System } from '../index.js';
import { notesOn } from './explain-notes.js';
import { colours, columns, printable, wrap } from './format.js';
import { cell, gather, type PairOverTime, pairName, shade } from './kernels.js';
import { inspectMachine, type MachineOptions } from './options.js';
import { table } from './table.js';
import { ownJson } from './whose.js';

/** The patches were posted on top of this release. */
const QUEUE = '7.4';

const NOT_MERGED =
  'PROPOSED, NOT MERGED: “Route peer-to-peer DMA by TLP class” (v9), as posted up to 9 October 2026, on top of what was ' +
  'queued for Linux 7.4. It may change, and no kernel has it.';

const LEGEND =
  'queue: Linux 7.4 as queued. Then the proposed verdict for four classes of requests: plain (what drives send), ATS: ' +
  'addresses that the client translated, RO: completions with Relaxed Ordering, both. bus, bridge, no, own: as in ' +
  '`explain --kernel all`; ?: not known, as a host bridge allow-list that is not released may still grow.';

const HMAT =
  'An HMAT of the firmware would be asked before the CPU and the host bridge allow-list (proposed as well): it is not ' +
  'read here, so what it says is not known.';

export async function proposed(
  provider: string | undefined,
  clients: readonly string[],
  options: MachineOptions,
): Promise<string> {
  const system = await inspectMachine({ ...options, kernel: QUEUE });
  try {
    const providers = answers(system, provider, clients);
    if (options.json) return ownJson({ kernel: 'proposed', merged: false, basedOn: QUEUE, providers });
    const pairs = new Map<string, PairOverTime>();
    gather(system, providers, pairs);
    return draw([...pairs.values()], providers).join('\n');
  } finally {
    await system.close();
  }
}

function answers(system: System, provider: string | undefined, clients: readonly string[]): Explanation[] {
  const asks = { proposed: true } as const;
  if (provider === undefined) return system.explainAll(asks);
  const drives = system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []);
  return [system.explain(provider, clients.length > 0 ? clients : drives, asks)];
}

function draw(pairs: readonly PairOverTime[], providers: readonly Explanation[]): string[] {
  const [colour, width] = [colours(process.stdout), columns(process.stdout)];
  if (pairs.length === 0) return ['no NVMe drive on PCIe and no provider: there is nothing to explain'];
  const groups = new Map<string, { cells: string[]; pairs: PairOverTime[] }>();
  for (const pair of pairs) {
    const cells = cellsOf(pair.verdicts[0]!);
    const group = groups.get(cells.join(' ')) ?? { cells, pairs: [] };
    group.pairs.push(pair);
    groups.set(cells.join(' '), group);
  }
  const rows = [...groups.values()].map(({ cells, pairs: those }) => [
    pairName(those),
    ...cells.map((text) => shade(colour, text)),
  ]);
  const { asIf, others } = notesOn(providers);
  const notes = asIf === null ? others : [asIf, ...others];
  return [
    ...wrap(NOT_MERGED, width).map(colour.yellow),
    '',
    table(['memory ◀─ DMA by', 'queue', 'plain', 'ATS', 'RO', 'both'], rows, colour),
    '',
    ...wrap(LEGEND, width).map(colour.dim),
    ...wrap(HMAT, width).map(colour.dim),
    ...notes.flatMap((text) => wrap(printable(text), width).map(colour.yellow)),
  ];
}

/** Whatever the block stack refuses is refused with and without the patches. */
function cellsOf(verdict: ClientVerdict): string[] {
  const proposedCells = verdict.proposed!.classes.map(({ mapType }) =>
    cell({ ...verdict, mapType, rule: mapType === 'UNKNOWN' ? verdict.rule : 'common-bridge' }),
  );
  return [cell(verdict), ...proposedCells];
}
