import type { Command } from 'commander';
import { list } from '../base/words.js';
import type { ClientVerdict, Explanation, Hop, System, Unreachable } from '../index.js';
import { arrow, kindOf as hopKind, remarksOn } from '../page/hops.js';
import { CommandError, resolving } from './errors.js';
import { notesOn } from './explain-notes.js';
import {
  type Colours,
  colours,
  columns,
  PAGE_WIDTH,
  printable,
  uncoloured,
  visibleLength,
  wrap,
} from './format.js';
import { LOOKS, type Manual, manual } from './help.js';
import { everyKernel } from './kernels.js';
import { contradiction } from './line.js';
import { flag, type OptionsOf, oneOf, row, withOptions } from './option-table.js';
import {
  inspectMachine,
  type MachineOptions,
  openMachine,
  withKernel,
  withMachine,
  withSent,
} from './options.js';
import { proposed } from './proposed.js';
import { table } from './table.js';
import { ownJson, tell } from './whose.js';

const ASKED = {
  try: row(flag, {
    text: 'ask the kernel too: read one block of each client into the memory; nothing is written to a drive',
  }),
  format: row(oneOf(['text', 'html', 'json']), {
    takes: '<format>',
    text: 'text (the default), html (a page to ask in: one file that fetches nothing) or json',
    conflicts: 'json',
  }),
};

export function addExplain(command: Command): void {
  manual(command, MANUAL);
  withOptions(command, 'Options:', ASKED);
  withKernel(
    withSent(withMachine(command)),
    '; all: one after another, what changes; proposed: what is not merged',
  ).action(async (provider: string | undefined, clients: string[], given: ExplainOptions) => {
    const options = given.format === 'json' ? { ...given, json: true } : given;
    await resolving(() => assertTriable(options));
    if (options.format === 'html') {
      await resolving(() => assertPage(options));
      const { explainPage } = await import('./page/explain.js');
      const look = { colour: uncoloured, width: PAGE_WIDTH };
      const text = (system: System) => answer(system, provider, clients, {}, look);
      tell(await explainPage({ provider, clients, options, text }));
      return;
    }
    if (options.kernel === 'all') {
      tell(await resolving(() => everyKernel(provider, clients, options)));
      return;
    }
    if (options.kernel === 'proposed') {
      tell(await resolving(() => proposed(provider, clients, options)));
      return;
    }
    const system = await (options.try ? openMachine(options) : inspectMachine(options));
    try {
      const lines = await resolving(() => answer(system, provider, clients, options));
      tell(lines.join('\n'));
    } finally {
      await system.close();
    }
  });
}

interface ExplainOptions extends MachineOptions, OptionsOf<typeof ASKED> {}

/** Only an existing kernel can be asked: this machine's, or that of an emulated machine. */
function assertTriable({ try: asks, root, from, machine, kernel }: ExplainOptions): void {
  if (!asks) return;
  const why =
    root !== undefined || from !== undefined
      ? 'a captured tree has no running kernel to ask'
      : kernel === 'all' || kernel === 'proposed'
        ? `--kernel ${kernel} computes what others would say`
        : kernel !== undefined && machine === undefined
          ? `the kernel that runs here is not Linux ${kernel}`
          : null;
  if (why === null) return;
  throw new CommandError(
    'ERR_INVALID_ARG_VALUE',
    `--try asks the kernel, but ${why}`,
    'Drop one of them; or try it on that machine, or on an emulated one (--machine).',
  );
}

/** A page computes: it has every kernel in it, and asks none. */
function assertPage({ try: asks, kernel }: ExplainOptions): void {
  if (asks) throw contradiction('--format html computes, and --try asks the kernel');
  if (kernel !== 'all' && kernel !== 'proposed') return;
  throw contradiction(`--format html has a choice of kernels, and --kernel ${kernel} compares them`);
}

const MANUAL: Manual = {
  about: [
    'Computes the verdict that the kernel will come to for the memory of a provider and the drives that are to do DMA to ' +
      'it, before any I/O: the way hop by hop, ACS redirection, host bridges, what lies between a file and its drive, ' +
      'the rule that decided, and the remedy with what it costs. Without arguments: a matrix of all providers and drives.',
    'BUS_ADDR goes from drive to drive below a common switch; THRU_HOST_BRIDGE up to the root complex and down again, ' +
      'which only some of them pass on; NOT_SUPPORTED is refused by the kernel; UNKNOWN could not be told from what was read, or from what is known of this ' +
      'kernel’s host bridge allow-list.',
    '--try settles it: of each pair one block is read into the provider’s memory (O_DIRECT), and compared with what ' +
      'host memory gets. It takes one page of the pool and gives it back. A kernel refuses with EREMOTEIO, from Linux ' +
      '6.17 on with EINVAL.',
  ],
  exitCodes: [
    ['0', 'there is an answer, whatever it is (doctor has exit codes that judge)'],
    ['1', 'the machine could not be inspected'],
    ['2', 'usage error, or a name that does not exist'],
  ],
  environment: LOOKS,
  examples: [
    ['Every provider against every drive.', 'p2pdma explain'],
    ['The memory of nvme0, DMA by nvme1.', 'p2pdma explain nvme0 nvme1'],
    ['Whatever drive the file is on, and what lies between.', 'p2pdma explain nvme0 ./disk.img'],
    ['An emulated machine whose switch has ACS redirection.', 'p2pdma explain nvme0 nvme1 --machine acs'],
    ['Another machine, by what was captured of it.', 'p2pdma explain --root ./captured'],
    ['Ask the kernel, where the answer is UNKNOWN.', 'p2pdma explain nvme0 nvme1 --try --machine switch'],
    ['What another kernel would say.', 'p2pdma explain --machine root-ports --kernel 7.2'],
    ['From which kernel on each pair works.', 'p2pdma explain --machine root-ports --kernel all'],
    [
      'A page to ask in: other pairs, ACS bits, kernels.',
      'p2pdma explain nvme0 nvme1 --machine acs --format html > acs.html',
    ],
    ['What patches that are not merged would change.', 'p2pdma explain --machine acs --kernel proposed'],
  ],
};

/** What explain prints: of one provider, or of all of them. */
export async function answer(
  system: System,
  provider: string | undefined,
  clients: readonly string[],
  options: Pick<ExplainOptions, 'try' | 'json'>,
  look: Pick<View, 'colour' | 'width'> = { colour: colours(process.stdout), width: columns(process.stdout) },
): Promise<string[]> {
  const ask = (of: string, by: readonly string[]): Explanation | Promise<Explanation> =>
    options.try ? system.explain(of, by, { try: true }) : system.explain(of, by);
  const view: View = { system, ...look };
  if (provider === undefined) {
    const all: Explanation[] = [];
    for (const row of system.explainAll()) {
      all.push(
        await ask(
          row.provider,
          row.clients.map(({ bdf }) => bdf),
        ),
      );
    }
    return options.json ? [ownJson({ kernel: kernelOf(system), providers: all })] : matrix(view, all);
  }
  const drives = system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []);
  const explanation = await ask(provider, clients.length > 0 ? clients : drives);
  return options.json ? [ownJson({ kernel: kernelOf(system), ...explanation })] : describe(view, explanation);
}

/** The kernel whose rules were applied. */
function kernelOf({ topology }: System): string | null {
  return topology.kernel?.text ?? null;
}

function rules({ system, colour, width }: View, all: readonly Explanation[]): string[] {
  const kernel = kernelOf(system);
  const whose = kernel === null ? 'which kernel this is is not known' : `rules of Linux ${printable(kernel)}`;
  const tried = all.some(({ clients }) => clients.some((client) => client.tried !== null));
  return wrap(`${whose}; tried: ${tried ? 'yes' : 'no'}`, width).map(colour.dim);
}

interface View {
  readonly system: System;
  readonly colour: Colours;
  readonly width: number;
}

/** `nvme0 0000:03:00.0`, or only the address. */
function nameOf({ system }: View, bdf: string): string {
  const controller = system.controllers.find(({ pdev }) => pdev?.bdf === bdf);
  return controller === undefined || controller.name === bdf ? bdf : `${printable(controller.name)} ${bdf}`;
}

function paint(colour: Colours, client: ClientVerdict): (text: string) => string {
  const { mapType, refusal } = client;
  if (mapType === 'NOT_SUPPORTED' || refusal !== null) return colour.red;
  return mapType === 'BUS_ADDR' && !isGuess(client) ? colour.green : colour.yellow;
}

/** The verdict depends on ACS settings that could not be read. */
function isGuess({ rule }: ClientVerdict): boolean {
  return rule === 'acs-unknown';
}

// --- one provider ---

function describe(view: View, explanation: Explanation): string[] {
  const { provider, distance, notes, clients, unreachable = [] } = explanation;
  const { colour, width } = view;
  const rows = clients.map((client) => [
    client.bdf,
    paint(colour, client)(client.mapType),
    client.distance < 0 ? '-' : String(client.distance),
    acsText(client),
    printable(
      client.asked === client.bdf || client.asked === client.name ? (client.name ?? '') : client.asked,
    ),
  ]);
  const unknown = clients.some(({ mapType }) => mapType === 'UNKNOWN');
  const none = unknown ? 'not known for all of these' : 'none: not supported for all of these';
  const sum = distance < 0 ? none : String(distance);
  return [
    `provider ${colour.bold(nameOf(view, provider))}, distance ${sum}`,
    ...notes.flatMap(({ text }) => wrap(printable(text), width).map(colour.yellow)),
    '',
    ...(rows.length > 0
      ? [table(['client', 'map type', 'distance', 'ACS redirect', 'name'], rows, colour)]
      : []),
    ...unreachable.flatMap((one) => ['', ...wayless(view, one)]),
    ...clients.flatMap((client) => ['', ...walk(view, provider, client)]),
    '',
    ...rules(view, [explanation]),
  ];
}

function acsText({ acs, acsKnown }: ClientVerdict): string {
  const some = acs.length > 2 ? `${acs[0]} and ${acs.length - 1} more` : acs.join(' ');
  return acsKnown ? some || 'clear' : `unknown ${some}`.trim();
}

/** The path hop by hop, and the rule that decided. */
function walk(view: View, provider: string, client: ClientVerdict): string[] {
  const { colour, width } = view;
  const places = client.hops.map(({ at }) => at.length);
  const kinds = client.hops.map((hop) => visibleLength(kindOf(hop)));
  const hops = client.hops.flatMap((hop) => {
    const text = `   ${arrow(hop)}  ${hop.at.padEnd(Math.max(...places))}  ${kindOf(hop).padEnd(Math.max(...kinds))}`;
    return wrap(remark(view, hop, client), width, `${text}  `).map((line) => line.trimEnd());
  });
  const facts: Fact[] = [
    ['stack', client.stack.length > 1 ? printable(client.stack.join(' ─▶ ')) : '', plain],
    ['refused', client.refusal === null ? '' : printable(client.refusal), colour.red],
    ['rule', client.rule, plain],
    ['why', printable(client.reason), plain],
    ['unproven', printable(client.unproven ?? ''), colour.yellow],
    ['zoned', printable(client.zones ?? ''), colour.yellow],
    ...trialFacts(view, client),
    ['remedy', printable(client.remedy ?? ''), plain],
    ['paste', client.kernelParameter === null ? '' : `"${client.kernelParameter}"`, colour.bold],
  ];
  return [
    colour.bold(`${nameOf(view, client.bdf)} ─▶ memory of ${nameOf(view, provider)}`),
    ...(hops.length > 0 ? ['', ...hops, ''] : []),
    ...labelled(view, facts),
  ];
}

/** What was done, and what the kernel answered. */
function trialFacts({ colour }: View, { tried }: ClientVerdict): Fact[] {
  if (tried === null) return [];
  const tint = {
    works: colour.green,
    refused: colour.red,
    queue: colour.red,
    wrong: colour.red,
    unproven: colour.yellow,
    failed: colour.yellow,
    none: colour.yellow,
  }[tried.outcome];
  return [
    ['tried', printable(tried.did), plain],
    ['answer', printable(tried.answered ?? ''), tint],
  ];
}

type Fact = [label: string, text: string, tint: (text: string) => string];

function labelled({ colour, width }: View, facts: readonly Fact[]): string[] {
  return facts
    .filter(([, text]) => text !== '')
    .flatMap(([label, text, tint]) => {
      const first = `   ${label.padEnd(8)}  `;
      return wrap(text, width, first).map(
        (line, i) =>
          (i === 0 ? colour.dim(first) : line.slice(0, first.length)) + tint(line.slice(first.length)),
      );
    });
}

function wayless(view: View, { asked, reason, remedy, stack }: Unreachable): string[] {
  return [
    view.colour.bold(`${printable(asked)}: no PCI client`),
    ...labelled(view, [
      ['stack', stack.length > 1 ? printable(stack.join(' ─▶ ')) : '', plain],
      ['why', printable(reason), view.colour.red],
      ['remedy', remedy, plain],
    ]),
  ];
}

const plain = (text: string): string => text;

function kindOf(hop: Hop): string {
  return printable(hopKind(hop));
}

function remark({ colour }: View, hop: Hop, client: ClientVerdict): string {
  const tints = { good: colour.green, bad: colour.red, doubt: colour.yellow, aside: colour.dim };
  const said = remarksOn(hop, client).map(({ text, tone }) => (tone === null ? text : tints[tone](text)));
  return `${said.join(', ')}${hop.note === null ? '' : ` (${hop.note})`}`.trimStart();
}

// --- all of them ---

function matrix(view: View, all: readonly Explanation[]): string[] {
  const { colour, width, system } = view;
  if (all.length === 0) return ['no NVMe drive on PCIe and no provider: there is nothing to explain'];
  const { asIf, others } = notesOn(all);
  const drives = all[0]!.clients;
  const label = (bdf: string) => nameOf(view, bdf).split(' ')[0]!;
  const over = system
    .stacked()
    .filter(({ controllers }) => controllers.length > 0)
    .map(({ name }) => overSeveral(system, name, all));
  const heads = [...drives.map(({ bdf }) => label(bdf)), ...over.map(({ name }) => printable(name))];
  const first = Math.max('provider'.length, ...all.map(({ provider }) => nameOf(view, provider).length));
  const cell = Math.max(...heads.map((head) => head.length), 'refused'.length) + 2;
  const most = Math.max(1, Math.floor((width - first - 2) / cell));
  const tables: string[] = [];
  for (let from = 0; from < drives.length; from += most) {
    const rows = all.map(({ provider, clients }) => {
      const columns = [...clients, ...over.map(({ worst }) => worst.get(provider)!)];
      const shown = columns.slice(from, from + most);
      return [
        nameOf(view, provider),
        ...shown.map((client) => paint(colour, client)(short(provider, client))),
      ];
    });
    tables.push(table(['provider', ...heads.slice(from, from + most)], rows, colour), '');
  }
  const unknown = all.some(({ clients }) => clients.some(({ mapType }) => mapType === 'UNKNOWN'));
  return [
    ...(asIf === null ? [] : [colour.yellow(asIf), '']),
    ...tables,
    ...wrap(
      'rows: whose memory; columns: who does the DMA. own: inside the drive; bus N: peer to peer, N hops; ' +
        `bridge N: through the host bridge; refused: the kernel will not; ${unknown ? 'unknown: not known; ' : ''}` +
        '?: ACS could not be read' +
        (over.length === 0
          ? ''
          : `; ${list(over.map(({ name }) => printable(name)))}: the worst of its drives`),
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

/** A multipath head or an array: for each provider, the verdict of the drive that comes off worst. */
interface OverSeveral {
  readonly name: string;
  readonly worst: ReadonlyMap<string, ClientVerdict>;
}

function overSeveral(system: System, name: string, all: readonly Explanation[]): OverSeveral {
  const worst = new Map<string, ClientVerdict>();
  for (const { provider } of all) {
    const clients = system.explain(provider, [name]).clients.toSorted((a, b) => badness(b) - badness(a));
    if (clients[0] !== undefined) worst.set(provider, clients[0]);
  }
  return { name, worst };
}

function badness({ mapType, distance, refusal }: ClientVerdict): number {
  if (mapType === 'NOT_SUPPORTED' || refusal !== null) return 3000;
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

/** What the drives' own disks refuse on every path, unless a note has said it already. */
function refusals(
  { colour, width }: View,
  all: readonly Explanation[],
  over: readonly OverSeveral[],
): string[] {
  const told = new Set(all.flatMap(({ notes }) => notes.map(({ refusal }) => refusal)));
  const clientsOf = [
    ...all.flatMap(({ clients }) => clients),
    ...over.flatMap(({ worst }) => [...worst.values()]),
  ];
  const refused = clientsOf.flatMap(({ refusal }) => refusal ?? []);
  const untold = new Set(refused.filter((text) => !told.has(text)));
  return [...untold].flatMap((text) => ['', ...wrap(printable(text), width).map(colour.yellow)]);
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
    const paste = redirecting.length > 0 ? `"pci=disable_acs_redir=${redirecting.sort().join(';')}"` : null;
    return [
      '',
      colour.bold(`${first!.rule}${more}`),
      ...wrap(printable(first!.reason), width, '   '),
      ...wrap(printable(first!.remedy!), width, `   ${colour.yellow('remedy')}  `),
      ...(paste === null || clients.length === 1
        ? []
        : [`   ${colour.dim('all of them')}  ${colour.bold(paste)}`]),
    ];
  });
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
