import type { Command } from 'commander';
import type { ClientVerdict, Explanation, Hop, System, Unreachable } from '../index.js';
import { arrow, kindOf as hopKind, remarksOn } from '../page/hops.js';
import { CommandError, resolving } from './errors.js';
import { matrix } from './explain-matrix.js';
import { kernelOf, nameOf, paint, rules, type View } from './explain-view.js';
import { colours, columns, PAGE_WIDTH, printable, uncoloured, visibleLength, wrap } from './format.js';
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
    const all = options.try ? await system.explainAll({ try: true }) : system.explainAll();
    return options.json ? [ownJson({ kernel: kernelOf(system), providers: all })] : matrix(view, all);
  }
  const drives = system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []);
  const explanation = await ask(provider, clients.length > 0 ? clients : drives);
  return options.json ? [ownJson({ kernel: kernelOf(system), ...explanation })] : describe(view, explanation);
}

// --- one provider ---

function describe(view: View, explanation: Explanation): string[] {
  const { provider, distance, notes, clients, unreachable = [] } = explanation;
  const { colour, width } = view;
  const rows = clients.map((client) => [
    client.bdf,
    paint(colour, client)(client.refusal === null ? client.mapType : 'refused'),
    client.distance < 0 ? '-' : String(client.distance),
    acsText(client),
    printable(
      client.asked === client.bdf || client.asked === client.name ? (client.name ?? '') : client.asked,
    ),
  ]);
  const unknown = clients.some(({ mapType }) => mapType === 'UNKNOWN');
  const none = unknown ? 'not known for all of these' : 'none: not supported for all of these';
  const refused = clients.length > 0 && clients.every(({ refusal }) => refusal !== null);
  const sum = distance < 0 ? none : `${distance}${refused ? ', but refused for all of these' : ''}`;
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
