/** `explain` without arguments: every provider against every drive, and what prevents peer to peer. */

import { bootParameter, tooLong } from '../base/boot-line.js';
import type { ClientVerdict, Explanation, System } from '../index.js';
import { type Cell, type Cells, grouped, groupName, membersOf, ungrouped } from './explain-groups.js';
import { notesOn, overSeveralText } from './explain-notes.js';
import { isGuess, nameOf, paint, rules, type View } from './explain-view.js';
import { printable, visibleLength, wrap } from './format.js';
import { table } from './table.js';

export function matrix(view: View, all: readonly Explanation[]): string[] {
  const { colour, width, system } = view;
  if (all.length === 0) return ['no NVMe drive on PCIe and no provider: there is nothing to explain'];
  const { asIf, others } = notesOn(all);
  const over = overSeveral(system, all);
  const unknown = all.some(({ clients }) => clients.some(({ mapType }) => mapType === 'UNKNOWN'));
  return [
    ...(asIf === null ? [] : [colour.yellow(asIf), '']),
    ...drawn(view, all, over),
    ...wrap(
      'rows: whose memory; columns: who does the DMA. own: inside the drive; bus N: peer to peer, N hops; ' +
        `bridge N: through the host bridge; refused: the kernel will not; ${unknown ? 'unknown: not known; ' : ''}` +
        `?: ACS could not be read${overSeveralText(over)}`,
      width,
    ).map(colour.dim),
    ...rules(view, all),
    ...trials(view, all),
    ...others.flatMap((text) => wrap(printable(text), width).map(colour.yellow)),
    ...refusals(view, all, over),
    ...troubles(view, all),
    ...fabrics(system).flatMap((line) => wrap(line, width).map(colour.dim)),
  ];
}

/** A matrix with more columns than this is drawn by groups of drives. */
const MOST_COLUMNS = 16;
/** With more groups than this, no matrix is drawn. */
const MOST_GROUPS = 64;

function drawn(view: View, all: readonly Explanation[], over: readonly OverSeveral[]): string[] {
  const { colour, width } = view;
  const cells = cellsOf(view, all, over);
  const drives = all[0]!.clients.map(({ bdf }) => bdf);
  const clients = [...drives, ...over.map(({ name }) => name)];
  const short = shortNames(view);
  const isLarge = clients.length > MOST_COLUMNS;
  const { groups, rows, columns } = isLarge ? grouped(cells, clients) : ungrouped(cells, clients);
  if (groups.length > MOST_GROUPS) return counts(view, cells, groups.length);
  const called = (group: readonly string[]) => groupName(group.map(short));
  const lines = tables(
    isLarge ? rows.map(({ group }) => called(group)) : all.map(({ provider }) => nameOf(view, provider)),
    columns.map(called),
    rows.map((row) => row.cells),
    view,
  );
  if (!isLarge) return lines;
  const several = groups.filter((group) => group.length > 1);
  return [
    ...lines,
    ...several.flatMap((group) => {
      const names = group.map(short);
      return wrap(membersOf(names), width, `${groupName(names)}: `).map(colour.dim);
    }),
    ...wrap(
      'Drives with the same answers are one group; `own/…` gives its own memory’s answer, then that among its drives. ' +
        'Name a provider for each of its ways: p2pdma explain nvme0',
      width,
    ).map(colour.dim),
    '',
  ];
}

/** Only as many columns beside each other as fit. */
function tables(
  labels: readonly string[],
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  { colour, width }: View,
): string[] {
  const longest = (texts: readonly string[]) => Math.max(...texts.map(visibleLength));
  const cell = longest([...heads, ...rows.flat(), 'refused']) + 2;
  const most = Math.max(1, Math.floor((width - longest(['provider', ...labels]) - 2) / cell));
  const drawnTables: string[] = [];
  for (let from = 0; from < heads.length; from += most) {
    const head = ['provider', ...heads.slice(from, from + most)];
    const body = rows.map((row, i) => [labels[i]!, ...row.slice(from, from + most)]);
    drawnTables.push(table(head, body, colour), '');
  }
  return drawnTables;
}

function cellsOf({ colour }: View, all: readonly Explanation[], over: readonly OverSeveral[]): Cells {
  return new Map(
    all.map(({ provider, clients }) => {
      const cell = (client: ClientVerdict): Cell => ({
        text: short(provider, client),
        paint: paint(colour, client),
      });
      const row = new Map(clients.map((client) => [client.bdf, cell(client)]));
      for (const { name, worst } of over) {
        const client = worst.get(provider);
        if (client !== undefined) row.set(name, cell(client));
      }
      return [provider, row];
    }),
  );
}

/** The number of pairs for each answer. */
function counts(view: View, cells: Cells, groups: number): string[] {
  const { colour, width } = view;
  const called = shortNames(view);
  const answers = new Map<string, { cell: Cell; count: number; first: string }>();
  for (const [provider, row] of cells) {
    for (const [client, cell] of row) {
      const first = `${called(provider)} ◀─ ${called(client)}`;
      const answer = answers.get(cell.text) ?? { cell, count: 0, first };
      answer.count++;
      answers.set(cell.text, answer);
    }
  }
  return [
    ...wrap(
      `${cells.size} providers are in ${groups} groups with different answers, too many for a matrix. Name one for its ` +
        'row: p2pdma explain nvme0; or --json for all of them.',
      width,
    ),
    '',
    table(
      ['answer', 'pairs', 'the first'],
      [...answers.values()].map(({ cell, count, first }) => [cell.paint(cell.text), String(count), first]),
      colour,
    ),
    '',
  ];
}

/** `nvme0`, without its address; whatever has no other name keeps it. */
function shortNames({ system }: View): (id: string) => string {
  const names = new Map(system.controllers.map(({ name, pdev }) => [pdev?.bdf ?? name, name] as const));
  return (id) => printable(names.get(id) ?? id);
}

/** A multipath head or an array: for each provider, the verdict of the drive that comes off worst. */
export interface OverSeveral {
  readonly name: string;
  /** Its members are copies of each other. */
  readonly mirror: boolean;
  readonly worst: ReadonlyMap<string, ClientVerdict>;
}

export function overSeveral(system: System, all: readonly Explanation[]): OverSeveral[] {
  const stacked = system.stacked().filter(({ controllers }) => controllers.length > 0);
  return stacked.map(({ name, place }) => {
    const worst = new Map<string, ClientVerdict>();
    for (const { provider } of all) {
      const clients = system.explain(provider, [name]).clients.toSorted((a, b) => badness(b) - badness(a));
      if (clients[0] !== undefined) worst.set(provider, clients[0]);
    }
    return { name, mirror: place.legs?.mirror ?? false, worst };
  });
}

function badness({ mapType, distance, refusal }: ClientVerdict): number {
  // An array refuses because of the drive that is not reached, and its others have that refusal too.
  if (mapType === 'NOT_SUPPORTED') return 4000;
  if (refusal !== null) return 3000;
  return { UNKNOWN: 2000, THRU_HOST_BRIDGE: 1000, BUS_ADDR: 0 }[mapType] + distance;
}

const OUTCOMES = {
  works: 'work, as the kernel showed',
  refused: 'refused by the kernel',
  queue: 'refused for the queue',
  wrong: 'report success and bring other bytes: use no peer memory there',
  unproven: 'succeeded, which proves nothing',
  failed: 'failed with another error',
  none: 'could not be tried',
} as const;

/** The number of pairs for each outcome, and why some pairs could not be tried. */
function trials({ width }: View, all: readonly Explanation[]): string[] {
  const tried = all.flatMap(({ clients }) => clients.flatMap((client) => client.tried ?? []));
  const lines = Object.entries(OUTCOMES).flatMap(([outcome, words]) => {
    const those = tried.filter((trial) => trial.outcome === outcome);
    if (those.length === 0) return [];
    const why = [...new Set(those.map(({ did, answered }) => answered ?? did))];
    const more = outcome === 'works' || outcome === 'refused' ? '' : `: ${why.join(' ')}`;
    return wrap(printable(`${those.length} ${words}${more}`), width, '   ');
  });
  return lines.length === 0 ? [] : ['', `tried, one block for each of ${tried.length} pairs:`, ...lines];
}

function short(provider: string, client: ClientVerdict): string {
  const { bdf, mapType, distance, refusal, tried } = client;
  if (tried?.outcome === 'wrong') return 'wrong!';
  if (mapType === 'NOT_SUPPORTED' || refusal !== null) return 'refused';
  if (mapType === 'UNKNOWN') return 'unknown';
  const doubt = isGuess(client) ? ' ?' : '';
  if (bdf === provider && mapType === 'BUS_ADDR') return `own${doubt}`;
  return `${mapType === 'BUS_ADDR' ? 'bus' : 'bridge'} ${distance}${doubt}`;
}

/** What the drives' own disks and the arrays refuse, unless a note has said it already; for several providers once. */
function refusals(
  { colour, width }: View,
  all: readonly Explanation[],
  over: readonly OverSeveral[],
): string[] {
  const told = new Set(all.flatMap(({ notes }) => notes.map(({ refusal }) => refusal)));
  const ofDisks = all.flatMap(({ clients }) => clients.flatMap(({ refusal }) => refusal ?? []));
  const refused = [...ofDisks, ...over.flatMap(refusalsOfArray)].filter((text) => !told.has(text));
  return [...new Set(refused)].flatMap((text) => ['', ...wrap(printable(text), width).map(colour.yellow)]);
}

/** Where one drive fails by one rule, the words differ by the provider only: those for the first one. */
function refusalsOfArray({ worst }: OverSeveral): string[] {
  const byCause = new Map<string, { provider: string; refusal: string }[]>();
  for (const [provider, { bdf, rule, refusal }] of worst) {
    const cause = `${bdf} ${rule}`;
    if (refusal !== null) byCause.set(cause, [...(byCause.get(cause) ?? []), { provider, refusal }]);
  }
  return [...byCause.values()].map((alike) => {
    const { refusal } = alike[0]!;
    if (alike.every((one) => one.refusal === refusal)) return refusal;
    const others = alike.length === 2 ? alike[1]!.provider : `${alike.length - 1} more providers`;
    return `${refusal}; likewise for the memory of ${others}`;
  });
}

/** For each rule and remedy that prevents peer to peer: the text of one pair, and the number of pairs. */
function troubles(view: View, all: readonly Explanation[]): string[] {
  const { colour, width } = view;
  const byCause = new Map<string, { provider: string; clients: ClientVerdict[] }>();
  for (const { provider, clients } of all) {
    for (const client of clients) {
      if (client.remedy === null || client.refusal !== null) continue;
      const key = `${client.rule} ${client.kernelParameter === null ? client.remedy : ''}`;
      const cause = byCause.get(key) ?? { provider, clients: [] };
      cause.clients.push(client);
      byCause.set(key, cause);
    }
  }
  return [...byCause.values()].flatMap(({ provider, clients }) => {
    const [first] = clients;
    const more = clients.length > 1 ? ` (${clients.length} pairs; the first: ${nameOf(view, provider)})` : '';
    const redirecting = [
      ...new Set(clients.flatMap(({ acs, kernelParameter }) => (kernelParameter ? acs : []))),
    ];
    const isMore = redirecting.some((bdf) => !first!.acs.includes(bdf));
    const paste = isMore ? forAll(view, redirecting) : [];
    return [
      '',
      colour.bold(`${first!.rule}${more}`),
      ...wrap(printable(first!.reason), width, '   '),
      ...wrap(printable(first!.remedy!), width, `   ${colour.yellow('remedy')}  `),
      ...paste,
    ];
  });
}

/** The boot parameter for the functions of all these pairs. */
function forAll({ system, colour, width }: View, functions: readonly string[]): string[] {
  const all = system.topology.functions;
  const boot = bootParameter(
    all.filter(({ bdf }) => functions.includes(bdf)),
    { all },
  );
  const head = `   ${colour.dim('all of them')}  `;
  return boot === null
    ? wrap(tooLong(functions.length), width, head)
    : [`${head}${colour.bold(`"${boot.parameter}"`)}`];
}

function fabrics(system: System): string[] {
  const hasCard = ({ namespaces }: System['controllers'][number]): boolean =>
    namespaces.some(({ name }) => (system.locate(name)?.clients.length ?? 0) > 0);
  const all = system.controllers.filter(({ pdev }) => pdev === null);
  const far = all.filter((controller) => !hasCard(controller));
  const near = all
    .filter(hasCard)
    .map(({ name, transport }) => `${printable(name)} (${printable(transport)})`);
  const byName =
    near.length === 0 ? [] : ['', `left out, because a card does their DMA; ask by name: ${near.join(', ')}`];
  if (far.length === 0) return byName;
  const names = far.map(({ name, transport }) => `${printable(name)} (${printable(transport)})`).join(', ');
  return [...byName, '', `left out, because no PCI function here does their DMA: ${names}`];
}
