/**
 * Decides which memory a transfer uses, before its first byte. Every published provider (or the requested one) is checked
 * against all the drives that will do DMA, and the nearest provider is chosen. The receipt later reports the same route and
 * the same reason.
 */
import type { Backend, BlockTarget, End } from '../backend/backend.js';
import { findController, knownControllers } from '../backend/backend.js';
import { isNvme, whyNotPublished } from '../backend/names.js';
import type { PciDev, Topology } from '../backend/topology.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { classWords } from '../base/pci-class.js';
import { type Naming, type Sentence, said } from '../base/sentence.js';
import { type DistanceWalk, reasonFor, walkDistance } from '../kernel/pci-p2pdma-distance.js';
import { legRefusal } from '../kernel/pci-p2pdma-legs.js';
import { type Transport, worse } from './receipt.js';

export interface Route {
  readonly transport: Transport;
  /** The function whose CMB is used; null for host memory. */
  readonly provider: PciDev | null;
  readonly reason: string;
  readonly unproven: string | null;
}

export interface RouteOptions {
  /** `'auto'`, `'none'`, a BDF or a controller's name. */
  readonly provider?: string | undefined;
  readonly memory?: 'auto' | 'cmb' | 'host' | undefined;
  /** A route that is not proven to be direct is used only with `allowUnproven`. */
  readonly requireP2p?: boolean | undefined;
  readonly allowUnproven?: boolean | undefined;
}

/** Why a writer uses host memory, in words. */
export const FOREIGN_SOURCE = 'the source is not a p2pdma stream, so its chunks are in host memory';

export function hostRoute(reason: Sentence): Route {
  return { transport: 'host-memory', provider: null, reason: said(reason), unproven: null };
}

/** The options that demand peer-to-peer, and how each is written. */
const DEMANDS = {
  requireP2p: { option: 'requireP2p', given: (name) => name('requireP2p') },
  'memory: cmb': { option: 'memory', given: (name) => name('memory', 'cmb') },
} as const satisfies Record<string, { option: string; given: (name: Naming) => string }>;

/** The error if peer-to-peer was demanded and is not possible. */
export function p2pRequired(
  path: string,
  reason: Sentence,
  demand: keyof typeof DEMANDS = 'requireP2p',
): P2pdmaError {
  const { option, given } = DEMANDS[demand];
  const message: Sentence = (name) =>
    `${given(name)}: '${path}' cannot go peer-to-peer: ${said(reason, name)}`;
  return new P2pdmaError('ERR_P2P_REQUIRED', message, { path, option });
}

/** Find the PCI function of a provider named like `'nvme0'` or `'0000:03:00.0'`. `option`: the option with the name, if any. */
export function findFunction(backend: Backend, nameOrBdf: string, option: string | null = null): PciDev {
  const controller = findController(backend.controllers, nameOrBdf);
  const found = controller === null ? backend.topology.find(nameOrBdf) : controller.pdev;
  if (found === null) {
    const what = `there is no PCI function or NVMe controller '${nameOrBdf}'`;
    const facts = { received: nameOrBdf, hint: knownControllers(backend.controllers, nameOrBdf) };
    if (option !== null) throw optionError('ERR_INVALID_ARG_VALUE', option, what, facts);
    throw new P2pdmaError('ERR_INVALID_ARG_VALUE', `provider: ${what}`, facts);
  }
  return found;
}

/**
 * Choose the route for these targets. Sources come first, so that among equally near providers the source's own CMB is used.
 * (The kernel's pci_p2pmem_find_many() breaks ties at random to spread load over many orchestrators; a single
 * copy needs the same answer every time.)
 */
export function chooseRoute(backend: Backend, targets: readonly RouteTarget[], options: RouteOptions): Route {
  const asked = options.provider === 'none' ? 'provider' : options.memory === 'host' ? 'memory' : null;
  if (asked !== null) {
    return hostRoute((option) => `host memory was asked for (${option(asked, options[asked])})`);
  }

  const { topology } = backend;
  const named =
    options.provider === undefined || options.provider === 'auto'
      ? null
      : findFunction(backend, options.provider, 'provider');
  const obstacle =
    firstOf(targets, (target) => whyNotDirect(target, options)) ??
    (named === null ? null : whyNotLent(named));
  if (obstacle !== null) return hostRoute(obstacle);

  const clients = clientsOf(targets);
  const published = topology.functions.filter((f) => f.p2pmem?.published === true);
  const candidates = named === null ? nearestFirst(published, clients) : [named];
  if (candidates.length === 0) return hostRoute(whyNoneLent(topology));
  const { best, refusal } = nearestOf(topology, candidates, targets);
  if (best === null) return hostRoute(refusal ?? 'no provider suits');

  const { provider, ways } = best;
  const transport = ways
    .map(
      ({ walk }): Transport =>
        walk.possible.includes('PCI_P2PDMA_MAP_BUS_ADDR') ? 'p2p-bus' : 'p2p-host-bridge',
    )
    .reduce(worse, 'p2p-bus');
  const farthest = ways.reduce((a, b) => (b.walk.distance > a.walk.distance ? b : a));
  const guessed = ways.find(({ walk }) => walk.mapType === 'PCI_P2PDMA_MAP_UNKNOWN');
  const reasonOf = ({ client, walk }: Way) => reasonFor(topology, provider, client, walk);
  const unproven = firstOf(targets, (target) => target.unproven) ?? (guessed ? reasonOf(guessed) : null);
  return { transport, provider, reason: reasonOf(farthest), unproven };
}

/** What decides about the route of a target. */
export type RouteTarget = Pick<BlockTarget, 'name' | 'client' | 'legs' | 'noP2pReason' | 'unproven'>;

/** The target that an end would be. @param byCommand its I/O is done by NVMe commands (engine 'passthrough') */
export function targetOf(name: string, end: End, byCommand = false): RouteTarget {
  const { client, legs = null, noP2pReason, noP2pByCommand = noP2pReason, unproven } = end;
  return { name, client, legs, noP2pReason: byCommand ? noP2pByCommand : noP2pReason, unproven };
}

/** Every function that does DMA for these targets, without duplicates. */
function clientsOf(targets: readonly RouteTarget[]): PciDev[] {
  return [...new Set(targets.flatMap(({ client, legs }) => legs?.clients ?? client ?? []))];
}

function firstOf<Said extends Sentence>(
  targets: readonly RouteTarget[],
  say: (target: RouteTarget) => Said | null,
): Said | null {
  for (const target of targets) {
    const said = say(target);
    if (said !== null) return said;
  }
  return null;
}

function whyNotDirect(target: RouteTarget, options: RouteOptions): Sentence | null {
  const { name, noP2pReason, unproven } = target;
  if (noP2pReason !== null) return `${name}: ${noP2pReason}`;
  if (clientsOf([target]).length === 0) return `${name}: no single PCI function does its DMA`;
  if (unproven !== null && options.requireP2p === true && options.allowUnproven !== true) {
    return (option) => `${name}: ${unproven}. Pass ${option('allowUnproven')} to take its word for it`;
  }
  return null;
}

function whyNotLent(provider: PciDev): string | null {
  const { bdf, p2pmem } = provider;
  if (p2pmem === null) return `provider ${bdf} has no peer-to-peer memory (no CMB)`;
  return p2pmem.published ? null : `provider ${bdf}: ${whyNotPublished(provider)}`;
}

function whyNoneLent({ functions }: Topology): string {
  const there = functions.filter((f) => f.p2pmem !== null);
  if (there.some(isNvme)) return 'no CMB is published: none of them is both readable and writable';
  const others = there.map((f) => `; ${f.bdf} (${classWords(f.class)}) keeps its own to itself`).join('');
  return `no drive has a CMB (p2pmem) to lend${others}`;
}

/** From a client to a provider. Only the verdicts that are reported are put into words: each copy chooses a route. */
interface Way {
  readonly client: PciDev;
  readonly walk: DistanceWalk;
}

interface Lender {
  readonly provider: PciDev;
  readonly ways: readonly Way[];
  readonly distance: number;
}

/** The nearest candidate; of equally near ones, the first. `refusal`: why the first unsuitable candidate was rejected. */
function nearestOf(
  topology: Topology,
  candidates: readonly PciDev[],
  targets: readonly RouteTarget[],
): { best: Lender | null; refusal: string | null } {
  let best: Lender | null = null;
  let refusal: string | null = null;
  const clients = clientsOf(targets);
  for (const provider of candidates) {
    const ways = clients.map((client) => ({ client, walk: walkDistance(topology, provider, client) }));
    const leg = firstOf(targets, ({ legs }) => {
      const refused = legs ? legRefusal(topology, provider, legs) : null;
      return refused === null ? null : `${refused.what}. ${refused.why}`;
    });
    const refused = ways.find(({ walk }) => walk.mapType === 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
    if (leg !== null || refused !== undefined) {
      refusal ??= leg ?? reasonFor(topology, provider, refused!.client, refused!.walk);
      continue;
    }
    const distance = ways.reduce((sum, { walk }) => sum + walk.distance, 0);
    if (best === null || distance < best.distance) best = { provider, ways, distance };
  }
  return { best, refusal };
}

/** The providers in order of preference: first those that are clients themselves, in the order of the clients. */
function nearestFirst(published: readonly PciDev[], clients: readonly PciDev[]): PciDev[] {
  const own = clients.filter((client) => published.includes(client));
  return [...own, ...published.filter((f) => !own.includes(f))];
}
