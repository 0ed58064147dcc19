/** What the page shows for a choice: the pair with and without the changes, and every drive with the same memory. */
import type { Bdf } from '../backend/topology.js';
import { PCI_ACS_CR, PCI_ACS_EC, PCI_ACS_RR } from '../backend/topology.js';
import { type ClientVerdict, type Explanation, explain, type Unreachable } from '../explain/explain.js';
import { AS_IT_IS, type Changes, type ExplainedMachine, machineOf, type PageFacts } from './facts.js';
import { legOf, Marks, Roles, type RouteKind, type RouteView, routeWords, worse } from './way.js';

/** The ACS bits that send peer traffic up. */
export const REDIRECTS = PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC;

export interface Choice {
  /** A PCI address, or what else was asked about. */
  readonly provider: string;
  readonly client: string;
  readonly changes: Changes;
}

export interface Answer {
  readonly machine: ExplainedMachine;
  readonly pair: Explanation;
  /** The same pair on the machine as it is; null: nothing is changed. */
  readonly before: Explanation | null;
  /** All drives, with and without the changes. */
  readonly drives: readonly { readonly now: ClientVerdict; readonly before: ClientVerdict }[];
  readonly route: RouteView;
}

export function answer(page: PageFacts, { provider, client, changes }: Choice): Answer {
  const machine = machineOf(page, changes);
  const asItIs = machineOf(page, AS_IT_IS);
  const pair = explain(machine, provider, [client]);
  const all = (of: ExplainedMachine) => explain(of, provider, drivesOf(of)).clients;
  const before = all(asItIs);
  return {
    machine,
    pair,
    before: isChanged(changes) ? explain(asItIs, provider, [client]) : null,
    drives: all(machine).map((now) => ({
      now,
      before: before.find(({ bdf }) => bdf === now.bdf) ?? now,
    })),
    route: routeOf(machine, pair),
  };
}

export function isChanged({ kernel, iommu, acs }: Changes): boolean {
  return kernel !== 0 || iommu !== null || acs.size > 0;
}

/** The NVMe controllers' functions, each once. */
export function drivesOf({ controllers }: Pick<ExplainedMachine, 'controllers'>): Bdf[] {
  return [...new Set(controllers.flatMap(({ pdev }) => pdev?.bdf ?? []))];
}

/** The functions with peer memory; all drives where there is none. */
export function providersOf(machine: ExplainedMachine): Bdf[] {
  const own = machine.topology.functions.filter(({ p2pmem }) => p2pmem !== null).map(({ bdf }) => bdf);
  return own.length > 0 ? own : drivesOf(machine);
}

/** The way of a verdict; what is refused beside it (a queue, a leg of an array) has none. */
export function kindOfWay(client: ClientVerdict): RouteKind {
  return client.refusal === null ? legOf(client) : 'refused';
}

/** `'peer-to-peer on the bus, distance 4'` */
export function verdictWords(client: ClientVerdict): string {
  if (client.refusal !== null && client.mapType !== 'NOT_SUPPORTED') return 'refused';
  const words = routeWords[legOf(client)];
  return client.distance < 0 ? words : `${words}, distance ${client.distance}`;
}

export function sameVerdict(a: ClientVerdict, b: ClientVerdict): boolean {
  return a.mapType === b.mapType && a.distance === b.distance && a.refusal === b.refusal && a.rule === b.rule;
}

/** ACS with the bits cleared that `pci=disable_acs_redir` clears in these functions. */
export function withoutRedirects(machine: ExplainedMachine, { acs }: ClientVerdict): Map<Bdf, number> {
  return new Map(
    acs.flatMap((bdf) => {
      const control = machine.topology.find(bdf)!.acs;
      return typeof control === 'number' ? [[bdf, control & ~REDIRECTS] as const] : [];
    }),
  );
}

export function unreachableIn({ unreachable }: Explanation): Unreachable | null {
  return unreachable?.[0] ?? null;
}

function routeOf(machine: ExplainedMachine, { provider, clients, distance }: Explanation): RouteView {
  const roles = new Roles();
  const marks = new Marks(machine);
  roles.add(provider, 'provider');
  let kind: RouteKind = clients.length === 0 ? 'refused' : 'bus';
  for (const client of clients) {
    roles.add(client.bdf, 'client');
    const leg = kindOfWay(client);
    marks.leg(provider, client, leg);
    kind = worse(kind, leg);
  }
  return {
    question: '',
    kind,
    provider,
    clients: clients.map(({ bdf }) => bdf),
    distance,
    reason: clients[0]?.reason ?? '',
    remedies: [],
    notes: [],
    roles: roles.byAddress,
    nodes: marks.nodes,
    links: marks.links,
  };
}
