/**
 * The route that a picture of the tree shows: the functions that it touches, the links that it uses, and the reasons.
 *
 *     --route nvme0 nvme1          a provider's memory and its clients: the kernel's verdict, nothing is opened
 *     --route nvme0n1 nvme1n1      a source and its destinations: what a copy would do
 */

import { didYouMean } from '../../base/nearest.js';
import type { Explanation, System } from '../../index.js';
import { legOf, Marks, Roles, type RouteKind, type RouteView, worse } from '../../page/way.js';
import { CommandError } from '../errors.js';

/** @throws P2pdmaError, CommandError for a name that is not known */
export function findRoute(system: System, names: readonly string[]): RouteView {
  const [first, ...others] = names;
  if (first === undefined || others.length === 0) {
    throw new CommandError(
      'ERR_INVALID_ARG_VALUE',
      `option --route: needs two names (received ${names.length})`,
      'Name a provider and its client (nvme0 nvme1), or a source and a destination (nvme0n1 nvme1n1).',
    );
  }
  return isFunction(system, first) ? verdictRoute(system, first, others) : copyRoute(system, names);
}

function namesOn({ controllers }: System): string[] {
  return controllers.flatMap(({ name, namespaces }) => [name, ...namespaces.map((ns) => ns.name)]);
}

function isFunction({ controllers, topology }: System, name: string): boolean {
  return controllers.some((c) => c.name === name) || topology.find(name) !== null;
}

function verdictRoute(system: System, provider: string, names: readonly string[]): RouteView {
  const explanation = system.explain(provider, names);
  const roles = new Roles();
  roles.add(explanation.provider, 'provider');
  for (const client of explanation.clients) roles.add(client.bdf, 'client');
  const question = `${names.join(', ')} ⇄ memory of ${provider}`;
  const notes = explanation.notes.map(({ text }) => text);
  return peerRoute(system, explanation, { question, roles, reason: null, notes });
}

function copyRoute(system: System, names: readonly string[]): RouteView {
  for (const name of names) {
    if (system.locate(name) !== null) continue;
    throw new CommandError(
      'ERR_INVALID_ARG_VALUE',
      `option --route: there is no '${name}'`,
      `${didYouMean(name, namesOn(system))} \`p2pdma list\` shows the namespaces and controllers.`.trimStart(),
    );
  }
  const choice = system.route(names);
  const question = `${names[0]} → ${names.slice(1).join(', ')}`;
  const notes = choice.unproven === null ? [] : [`unproven: ${choice.unproven}`];
  const roles = new Roles();
  for (const [i, client] of choice.clients.entries()) {
    if (client !== null) roles.add(client, i === 0 ? 'source' : 'destination');
  }
  const drives = [...new Set(choice.clients.filter((client) => client !== null))];
  if (choice.provider !== null) {
    roles.add(choice.provider, 'provider');
    const { reason } = choice;
    return peerRoute(system, system.explain(choice.provider, drives), { question, roles, reason, notes });
  }
  const marks = new Marks(system);
  for (const drive of drives) marks.upToHost(drive);
  return {
    question,
    kind: 'host-memory',
    provider: null,
    clients: drives,
    distance: null,
    reason: choice.reason,
    remedies: remediesFor(system, drives, choice.reason),
    notes,
    roles: roles.byAddress,
    nodes: marks.nodes,
    links: marks.links,
  };
}

/** The remedies, if the reason for host memory is the kernel's verdict on some provider. */
function remediesFor(system: System, drives: readonly string[], reason: string): string[] {
  for (const { bdf, p2pmem } of system.topology.functions) {
    if (p2pmem?.published !== true) continue;
    const decided = system.explain(bdf, drives).clients.find((client) => client.reason === reason);
    if (decided !== undefined) return decided.remedy === null ? [] : [decided.remedy];
  }
  return [];
}

interface Asked {
  readonly question: string;
  readonly roles: Roles;
  /** The reason for the route; null: the worst of the clients' reasons. */
  readonly reason: string | null;
  readonly notes: readonly string[];
}

function peerRoute(
  system: System,
  { provider, distance, clients }: Explanation,
  { question, roles, reason, notes }: Asked,
): RouteView {
  const marks = new Marks(system);
  let kind: RouteKind = clients.length === 0 ? 'refused' : 'bus';
  for (const client of clients) {
    const leg = legOf(client);
    marks.leg(provider, client, leg);
    kind = worse(kind, leg);
  }
  const worst = clients.find((c) => c.distance < 0) ?? clients.toSorted((a, b) => b.distance - a.distance)[0];
  return {
    question,
    kind,
    provider,
    clients: clients.map((client) => client.bdf),
    distance,
    reason: reason ?? worst?.reason ?? 'no PCI function does the DMA of what was named',
    remedies: [...new Set(clients.flatMap((client) => client.remedy ?? []))],
    notes,
    roles: roles.byAddress,
    nodes: marks.nodes,
    links: marks.links,
  };
}
