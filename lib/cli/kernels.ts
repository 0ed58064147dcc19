/** `explain --kernel all`: the same pairs under the rules of each kernel, and the first kernel on which each pair works. */
import { type ClientVerdict, type Explanation, KERNEL_RELEASES, type System } from '../index.js';
import { type OverSeveral, overSeveral } from './explain-matrix.js';
import { notesOn, overSeveralText } from './explain-notes.js';
import { type Colours, colours, columns, printable, wrap } from './format.js';
import { inspectMachine, type MachineOptions } from './options.js';
import { table } from './table.js';
import { ownJson } from './whose.js';

/** One pair, and its verdict under each of KERNEL_RELEASES. */
export interface PairOverTime {
  readonly provider: string;
  readonly client: string;
  readonly verdicts: ClientVerdict[];
}

export async function everyKernel(
  provider: string | undefined,
  clients: readonly string[],
  options: MachineOptions,
): Promise<string> {
  const { kernel: _, ...rest } = options;
  const here = await inspectMachine(rest);
  const runs = here.topology.kernel?.text ?? null;
  await here.close();
  const pairs = new Map<string, PairOverTime>();
  let over: readonly OverSeveral[] = [];
  const releases: { kernel: string; providers: Explanation[] }[] = [];
  for (const kernel of KERNEL_RELEASES) {
    const system = await inspectMachine({ ...rest, kernel });
    try {
      const providers = answers(system, provider, clients);
      releases.push({ kernel, providers });
      gather(system, providers, pairs);
      if (provider === undefined) {
        over = overSeveral(system, providers);
        gatherStacked(system, over, pairs);
      }
    } finally {
      await system.close();
    }
  }
  if (options.json) return ownJson({ kernel: runs, releases });
  const { asIf, others } = notesOn(releases.flatMap(({ providers }) => providers));
  const notes = asIf === null ? others : [asIf, ...others];
  return draw([...pairs.values()], { notes, over, runs }).join('\n');
}

function answers(system: System, provider: string | undefined, clients: readonly string[]): Explanation[] {
  if (provider === undefined) return system.explainAll();
  const drives = system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []);
  return [system.explain(provider, clients.length > 0 ? clients : drives)];
}

export function gather(system: System, all: readonly Explanation[], pairs: Map<string, PairOverTime>): void {
  const label = labels(system);
  for (const { provider, clients } of all) {
    for (const verdict of clients) {
      const named = verdict.asked === verdict.bdf ? label(verdict.bdf) : verdict.asked;
      put(pairs, `${provider} ${verdict.bdf} ${verdict.asked}`, [label(provider), named], verdict);
    }
  }
}

/** Multipath heads and arrays: what they take depends on the kernel more than what their drives take. */
function gatherStacked(system: System, over: readonly OverSeveral[], pairs: Map<string, PairOverTime>): void {
  const label = labels(system);
  for (const { name, worst } of over) {
    for (const [provider, verdict] of worst) {
      put(pairs, `${provider} ${name}`, [label(provider), name], verdict);
    }
  }
}

export function labels(system: System): (bdf: string) => string {
  const names = new Map(system.controllers.map(({ name, pdev }) => [pdev?.bdf, name] as const));
  return (bdf) => names.get(bdf) ?? bdf;
}

function put(
  pairs: Map<string, PairOverTime>,
  key: string,
  [provider, client]: readonly [string, string],
  verdict: ClientVerdict,
): void {
  const pair = pairs.get(key) ?? { provider, client, verdicts: [] };
  pair.verdicts.push(verdict);
  pairs.set(key, pair);
}

interface Beside {
  readonly notes: readonly string[];
  readonly over: readonly OverSeveral[];
  readonly runs: string | null;
}

function draw(pairs: readonly PairOverTime[], { notes, over, runs }: Beside): string[] {
  const [colour, width] = [colours(process.stdout), columns(process.stdout)];
  if (pairs.length === 0) return ['no NVMe drive on PCIe and no provider: there is nothing to explain'];
  const groups = new Map<string, PairOverTime[]>();
  for (const pair of pairs) {
    const key = pair.verdicts.map(cell).join(' ');
    const group = groups.get(key) ?? [];
    group.push(pair);
    groups.set(key, group);
  }
  const rows = [...groups.values()].map((group) => [
    pairName(group),
    ...group[0]!.verdicts.map((verdict) => shade(colour, cell(verdict))),
  ]);
  const head = ['memory ◀─ DMA by', ...KERNEL_RELEASES.map((kernel) => kernel.replace(/\.0$/, ''))];
  const changes = [...groups.keys()].some((key) => new Set(key.split(' ')).size > 1);
  const lasts = KERNEL_RELEASES.at(-1)!.replace(/\.0$/, '');
  return [
    table(head, rows, colour),
    '',
    ...wrap(
      'bus: peer to peer below a common bridge (own: inside the drive); bridge: through the host bridge; no: the ' +
        `kernel refuses; ?: not known${overSeveralText(over)}. Each column holds until the next; of ${lasts} what was queued on 9 October 2026.`,
      width,
    ).map(colour.dim),
    ...notes.flatMap((text) => wrap(printable(text), width).map(colour.yellow)),
    ...doubts([...groups.values()]).flatMap((text) => wrap(printable(text), width).map(colour.yellow)),
    ...(changes ? [] : wrap('Of these pairs none depends on the kernel.', width)),
    ...wrap(
      runs === null ? 'Which kernel runs is not known.' : `This machine has Linux ${printable(runs)}.`,
      width,
    ),
  ];
}

/** Why there is a `?` in the table: for each rule, the text of one pair and the columns that it leaves open. */
function doubts(groups: readonly PairOverTime[][]): string[] {
  const said = new Map<string, string>();
  for (const [first] of groups) {
    const verdicts = first!.verdicts.map((verdict, i) => ({ verdict, release: KERNEL_RELEASES[i]! }));
    const open = verdicts.filter(({ verdict }) => cell(verdict) === '?');
    for (const rule of new Set(open.map(({ verdict }) => verdict.rule))) {
      const those = open.filter(({ verdict }) => verdict.rule === rule);
      const under = those.map(({ release }) => release.replace(/\.0$/, '')).join(', ');
      const text = `? (${pairName([first!])}, Linux ${under}): ${those[0]!.verdict.reason}`;
      if (!said.has(`${rule} ${under}`)) said.set(`${rule} ${under}`, text);
    }
  }
  return [...said.values()];
}

/** `nvme0 ◀─ nvme1`, and the number of other pairs with the same result. */
export function pairName([first, ...more]: readonly Pick<PairOverTime, 'provider' | 'client'>[]): string {
  const name = `${printable(first!.provider)} ◀─ ${printable(first!.client)}`;
  return more.length === 0 ? name : `${name}, ${more.length} more`;
}

export function cell({ bdf, mapType, refusal, rule, hops }: ClientVerdict): string {
  if (mapType === 'NOT_SUPPORTED' || refusal !== null) return 'no';
  if (mapType === 'UNKNOWN' || rule === 'acs-unknown') return '?';
  if (mapType === 'THRU_HOST_BRIDGE') return 'bridge';
  return hops.length === 1 && hops[0]!.at === bdf ? 'own' : 'bus';
}

export function shade(colour: Colours, text: string): string {
  if (text === 'no') return colour.red(text);
  return text === '?' || text === 'bridge' ? colour.yellow(text) : colour.green(text);
}
