/** `explain --kernel proposed`: the verdict on each pair with patches that are not merged, beside that of the queue for 7.4. */
import type { ClientVerdict, Explanation, System } from '../index.js';
import { type OverSeveral, overSeveral } from './explain-matrix.js';
import { notesOn, overSeveralText } from './explain-notes.js';
import { colours, columns, printable, wrap } from './format.js';
import { cell, labels, pairName, shade } from './kernels.js';
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
  '`explain --kernel all`; ?: not known';

const HMAT =
  'An HMAT of the firmware would be asked before the CPU and the host bridge allow-list (proposed as well): it is not ' +
  'read here, so what it says is not known.';

/** A provider and a client, or an array or multipath head, and what its columns say. */
interface Row {
  readonly provider: string;
  readonly client: string;
  readonly cells: readonly string[];
  /** Why a cell is `?`; null: none is. */
  readonly doubt: string | null;
}

export async function proposed(
  provider: string | undefined,
  clients: readonly string[],
  options: MachineOptions,
): Promise<string> {
  const system = await inspectMachine({ ...options, kernel: QUEUE });
  try {
    const providers = answers(system, provider, clients);
    if (options.json) return ownJson({ kernel: 'proposed', merged: false, basedOn: QUEUE, providers });
    const over = provider === undefined ? overSeveral(system, providers) : [];
    const rows = [...rowsOf(system, providers), ...over.flatMap((one) => rowsOver(system, providers, one))];
    return draw(rows, providers, over).join('\n');
  } finally {
    await system.close();
  }
}

const ASKS = { proposed: true } as const;

function answers(system: System, provider: string | undefined, clients: readonly string[]): Explanation[] {
  if (provider === undefined) return system.explainAll(ASKS);
  const drives = system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []);
  return [system.explain(provider, clients.length > 0 ? clients : drives, ASKS)];
}

function rowsOf(system: System, all: readonly Explanation[]): Row[] {
  const label = labels(system);
  return all.flatMap(({ provider, clients }) =>
    clients.map((verdict) => ({
      provider: label(provider),
      client: verdict.asked === verdict.bdf ? label(verdict.bdf) : verdict.asked,
      cells: cellsOf(verdict),
      doubt: doubtOf(verdict),
    })),
  );
}

/** In each column the worst of its drives: which one it is may differ from class to class. */
function rowsOver(system: System, all: readonly Explanation[], { name }: OverSeveral): Row[] {
  const label = labels(system);
  return all.map(({ provider }) => {
    const { clients } = system.explain(provider, [name], ASKS);
    const each = clients.map(cellsOf);
    const cells = HEAD.slice(1).map((_, i) => WORST.find((text) => each.some((one) => one[i] === text))!);
    const doubt = cells.includes('?') ? (clients.map(doubtOf).find((text) => text !== null) ?? null) : null;
    return { provider: label(provider), client: name, cells, doubt };
  });
}

const HEAD = ['memory ◀─ DMA by', 'queue', 'plain', 'ATS', 'RO', 'both'];
/** All that a cell can say. */
const WORST = ['no', '?', 'bridge', 'bus', 'own'];

function draw(
  rows: readonly Row[],
  providers: readonly Explanation[],
  over: readonly OverSeveral[],
): string[] {
  const [colour, width] = [colours(process.stdout), columns(process.stdout)];
  if (rows.length === 0) return ['no NVMe drive on PCIe and no provider: there is nothing to explain'];
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = row.cells.join(' ');
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  const drawn = [...groups.values()].map((those) => [
    pairName(those),
    ...those[0]!.cells.map((text) => shade(colour, text)),
  ]);
  const { asIf, others } = notesOn(providers);
  const notes = asIf === null ? others : [asIf, ...others];
  const doubts = [...groups.values()].flatMap(([first]) =>
    first!.doubt === null ? [] : [`? (${pairName([first!])}): ${first!.doubt}`],
  );
  return [
    ...wrap(NOT_MERGED, width).map(colour.yellow),
    '',
    table(HEAD, drawn, colour),
    '',
    ...wrap(`${LEGEND}${overSeveralText(over)}.`, width).map(colour.dim),
    ...wrap(HMAT, width).map(colour.dim),
    ...[...notes, ...doubts].flatMap((text) => wrap(printable(text), width).map(colour.yellow)),
  ];
}

/** Whatever the block stack refuses is refused with and without the patches. */
function cellsOf(verdict: ClientVerdict): string[] {
  const proposedCells = verdict.proposed!.classes.map(({ mapType, refusal }) =>
    cell({ ...verdict, mapType, refusal, rule: mapType === 'UNKNOWN' ? verdict.rule : 'common-bridge' }),
  );
  return [cell(verdict), ...proposedCells];
}

/** Why something about this pair is not known: what leaves the queue's verdict open, or else what only the patches read. */
function doubtOf(verdict: ClientVerdict): string | null {
  const [queue, ...classes] = cellsOf(verdict);
  if (queue === '?') return verdict.reason;
  return classes.includes('?')
    ? 'With the patches a port on the way may block addresses that the client translated; the ACS settings of some port ' +
        'on this way could not be read.'
    : null;
}
