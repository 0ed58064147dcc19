/**
 * `explain`: the kernel's verdict on a provider's memory and the clients that are to do DMA to it, computed before any
 * I/O, with the path hop by hop. A client may be named by what the user has: a file, a block device, a controller or an
 * address. The block stack leads to the PCI function:
 *
 *     /mnt/data/file ─▶ dm-0 ─▶ nvme0n1p1 ─▶ nvme0n1 ─▶ 0000:03:00.0        nvme0 ─▶ 0000:03:00.0
 *                       (refuses: said beside the verdict)
 */

import type { Backend, Controller, End, Place } from '../backend/backend.js';
import { findController, knownControllers } from '../backend/backend.js';
import { bareName, deviceId, rootBusName } from '../backend/names.js';
import type { HostBridge, PciDev, PciePortType, Topology } from '../backend/topology.js';
import { P2pdmaError } from '../base/errors.js';
import {
  calcMapTypeAndDist,
  type DistanceRule,
  type DistanceVerdict,
  disableAcsRedir,
  hostBridgeVerdict,
  pciBridgeHasAcsRedir,
} from '../kernel/pci-p2pdma-distance.js';
import { legRefusal } from '../kernel/pci-p2pdma-legs.js';
import { type ExplanationNote, NO_PEER_MAPPING, notesOn } from './notes.js';
import { mapTypeName, type ProposedVerdict, proposedOn } from './proposed.js';

/** One stop of a request on its way from the client to the provider's memory. */
export interface Hop {
  /** PCI address; of a host bridge its root bus, `'0000:00'`. */
  readonly at: string;
  /** What is there: the type of PCIe port, or a host bridge. */
  readonly kind: PciePortType | 'host-bridge';
  /** The controller's name, if it is one. */
  readonly name: string | null;
  /** Its part in this request. `turn`: the common bridge, where the request turns from up to down. */
  readonly role: 'client' | 'up' | 'turn' | 'host-bridge' | 'down' | 'provider';
  /** Whether it sends peer traffic up (ACS P2P redirection). `none`: it cannot; of a host bridge `none`. */
  readonly acs: 'redirects' | 'clear' | 'none' | 'unknown';
  /** For a host bridge: whether it forwards the request; null: not known. */
  readonly passes: boolean | null;
  /** Any other remark on it, in words, or null. */
  readonly note: string | null;
}

/** One client's verdict against a provider: the answer to "why is this pair (not) peer-to-peer?". */
export interface ClientVerdict {
  /** As the caller named it: a name, an address, a path. */
  asked: string;
  /** PCI address. */
  bdf: string;
  /** The controller's name, or null. */
  name: string | null;
  /** Hops, as pci_p2pdma_distance() counts them; −1 if the pair is not supported, or if that is not known. */
  distance: number;
  /**
   * The kernel's map type (drivers/pci/p2pdma.c, pci_p2pdma_map_type) without its prefix. UNKNOWN: it depends on the
   * CPU, which could not be read; or the kernel's host bridge allow-list may be longer than the one known here.
   */
  mapType: 'BUS_ADDR' | 'THRU_HOST_BRIDGE' | 'NOT_SUPPORTED' | 'UNKNOWN';
  /** Functions on the path that redirect peer traffic upwards (ACS). */
  acs: string[];
  /**
   * False: some ACS registers that matter could not be read. With the rule `acs-unknown`, `mapType` is the verdict if
   * these registers are clear, and `reason` says so. With any other rule, they only affect the list `acs`.
   */
  acsKnown: boolean;
  /** The rule that decided; `trial`: the kernel's answer when it was tried, where no rule could decide. */
  rule: DistanceRule | 'trial';
  /** The reason for the verdict, in words. */
  reason: string;
  /** What would help and what it costs, or null. */
  remedy: string | null;
  /** The kernel parameter that the remedy names, ready to paste (quote it: it may contain semicolons); or null. */
  kernelParameter: string | null;
  /** Block devices between the named client and its disks, top first. */
  stack: string[];
  /** What in the block stack refuses peer-to-peer memory whatever the route, in words; or null. */
  refusal: string | null;
  /** Null when success proves where the bytes went. */
  unproven: string | null;
  /** For a zoned device, how it must be written, as a clause; otherwise null. A copy to it is refused. */
  zones: string | null;
  /** From the client to the provider's memory. */
  hops: Hop[];
  /** The result of asking the kernel itself (`try`); null: it was not asked. */
  tried: {
    /**
     * `works`: accepted, and the right bytes arrived. `refused`: the kernel refuses this pair. `queue`: the block queue
     * accepts no peer memory, whatever the pair. `wrong`: accepted, but other bytes arrived. `unproven`: it succeeded,
     * which does not prove where the bytes went. `failed`: another error. `none`: there was nothing to try it with.
     */
    outcome: 'works' | 'refused' | 'queue' | 'wrong' | 'unproven' | 'failed' | 'none';
    /** What was done, or why nothing was. */
    did: string;
    /** What the kernel answered, in words; null: it was not asked. */
    answered: string | null;
    /** The error that it answered with: `'EREMOTEIO'`, from Linux 6.17 on `'EINVAL'`; or null. */
    code: string | null;
  } | null;
  /**
   * Only with `proposed`: the verdict under “Route peer-to-peer DMA by TLP class” (v9, not merged on 9 October 2026),
   * for each class of requests: whether the client translated their addresses (ATS), and whether their completions carry
   * Relaxed Ordering. What an HMAT of the firmware would add is not known: none is read.
   */
  proposed?: ProposedVerdict;
}

/** Something that was named, but no PCI function here does DMA for it: it cannot be a client at all. */
export interface Unreachable {
  /** As the caller named it. */
  asked: string;
  /** Why nothing here does its DMA, in words. */
  reason: string;
  /** What would help. */
  remedy: string;
  /** Block devices between the named client and its disks, top first. */
  stack: string[];
}

/** The verdicts for one provider's memory. */
export interface Explanation {
  /** PCI address. */
  provider: string;
  /** Sum over the clients; −1 if any is not supported, or not known. */
  distance: number;
  /**
   * What to know before using the answer: its kind, and the same in words. `no-p2pmem`: the provider has no peer memory,
   * and the answer assumes that it has some; `p2pmem-unknown`: it is not known whether it has any; `unpublished`: streams
   * will not choose it; `no-peer-mapping`: the machine's DMA operations cannot map peer memory; `kernel-bug`: a known bug
   * of the kernel can bring wrong data.
   */
  notes: ExplanationNote[];
  /** One for each PCI function that does DMA for a named client. */
  clients: ClientVerdict[];
  /** Present only if not empty: what was named but has no PCI function. */
  unreachable?: Unreachable[];
}

/** What is asked of a machine: its functions, its controllers, and what lies below a name. */
type Machine = Pick<Backend, 'topology' | 'controllers'> & Located;
interface Located {
  inspect(nameOrPath: string): Pick<End, 'place'>;
}

/** A machine, with what is determined once for all pairs. */
interface Known extends Machine {
  /** The controllers' names. */
  readonly names: ReadonlyMap<PciDev, string>;
  /** What the disks of a function refuse. */
  readonly refusals: Map<PciDev, string | null>;
  /** Most hops are part of many ways. */
  readonly hops: Map<PciDev, Map<Hop['role'], Hop>>;
  readonly proposed: boolean;
}

/** `proposed`: each verdict also says what patches that are not merged would change. */
interface Asked {
  readonly proposed?: boolean;
}

function knownOf(machine: Machine, { proposed = false }: Asked): Known {
  // Backends build this list each time they are asked.
  const controllers = machine.controllers;
  const named = controllers.flatMap(({ name, pdev }) => (pdev === null ? [] : [[pdev, name] as const]));
  return {
    topology: machine.topology,
    controllers,
    inspect: (nameOrPath) => machine.inspect(nameOrPath),
    // If two have the same function, the first counts.
    names: new Map(named.reverse()),
    refusals: new Map(),
    hops: new Map(),
    proposed,
  };
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: a named provider or client does not exist */
export function explain(
  machine: Machine,
  provider: string,
  clients: readonly string[],
  asked: Asked = {},
): Explanation {
  const known = knownOf(machine, asked);
  const from = providerOf(known, provider);
  const verdicts: ClientVerdict[] = [];
  const unreachable: Unreachable[] = [];
  for (const client of clients) {
    const answer = answerFor(known, from, client);
    if (Array.isArray(answer)) verdicts.push(...answer);
    else unreachable.push(answer);
  }
  return explanation(known, from, verdicts, unreachable);
}

function explanation(
  { topology }: Known,
  from: PciDev,
  verdicts: ClientVerdict[],
  unreachable: Unreachable[],
): Explanation {
  const none = verdicts.length === 0 || unreachable.length > 0;
  const unsupported = none || verdicts.some(({ distance }) => distance < 0);
  return {
    provider: from.bdf,
    distance: unsupported ? -1 : verdicts.reduce((sum, { distance }) => sum + distance, 0),
    notes: notesOn(topology, from),
    clients: verdicts,
    ...(unreachable.length > 0 ? { unreachable } : {}),
  };
}

/**
 * Every provider against every NVMe drive. In a machine without any provider, every drive is treated as a provider, and
 * `notes` say so.
 */
export function explainAll(machine: Machine, asked: Asked = {}): Explanation[] {
  const known = knownOf(machine, asked);
  const drives = pciDrives(known);
  const providers = known.topology.functions.filter(({ p2pmem }) => p2pmem !== null);
  const rows = providers.length > 0 ? providers : drives;
  return rows.map((provider) => {
    const verdicts = drives.map((drive) => driveVerdict(known, provider, drive, drive.bdf));
    return explanation(known, provider, verdicts, []);
  });
}

/** The PCI functions of the NVMe controllers, each once. Controllers that are not PCI functions are left out. */
export function pciDrives({ controllers }: Pick<Backend, 'controllers'>): PciDev[] {
  return [...new Set(controllers.map(({ pdev }) => pdev).filter((pdev) => pdev !== null))];
}

// --- the named provider and clients ---

function providerOf(machine: Machine, asked: string): PciDev {
  const found = functionOf(machine, asked);
  if (found !== null) return found;
  const place = machine.inspect(asked).place;
  if (place === null) throw unknown(machine, asked, 'provider');
  const [only, ...more] = place.clients;
  if (only === undefined || more.length > 0) {
    throw new P2pdmaError(
      'ERR_INVALID_ARG_VALUE',
      `provider: '${asked}' ${only === undefined ? 'is on no PCI function' : `is on several PCI functions (${place.clients.map(({ bdf }) => bdf).join(', ')})`}`,
      { hint: 'Name one drive: `p2pdma list` shows them.' },
    );
  }
  return only;
}

function functionOf({ controllers, topology }: Machine, asked: string): PciDev | null {
  return controllerOf(controllers, asked)?.pdev ?? topology.find(asked);
}

function controllerOf(controllers: readonly Controller[], asked: string): Controller | null {
  return findController(controllers, bareName(asked));
}

function unknown({ controllers }: Machine, asked: string, what: string): P2pdmaError {
  return new P2pdmaError(
    'ERR_INVALID_ARG_VALUE',
    `${what}: there is no PCI function, NVMe controller, namespace, block device or file '${asked}'`,
    { hint: knownControllers(controllers, asked) },
  );
}

/** The verdict on a function, named by itself: what its disks refuse counts. */
function driveVerdict(machine: Known, provider: PciDev, drive: PciDev, asked: string): ClientVerdict {
  return clientVerdict(machine, provider, drive, { asked, refusal: disksRefusal(machine, drive) });
}

function answerFor(machine: Known, provider: PciDev, asked: string): ClientVerdict[] | Unreachable {
  const direct = functionOf(machine, asked);
  if (direct !== null) return [driveVerdict(machine, provider, direct, asked)];
  const controller = controllerOf(machine.controllers, asked);
  const place = controller === null ? machine.inspect(asked).place : farPlace(machine, controller);
  if (controller !== null && !place?.clients.length) {
    return unreachable(asked, overFabric(controller), null);
  }
  if (place === null) throw unknown(machine, asked, 'client');
  if (place.clients.length === 0) {
    return unreachable(asked, place.noP2pReason ?? 'no PCI function here does its DMA', place);
  }
  return place.clients.map((client) => clientVerdict(machine, provider, client, { asked, place }));
}

/**
 * Why this function cannot transfer anything peer to peer although it reaches the memory: all disks behind it are
 * multipath heads whose queues refuse peer memory, or that have no size. Null: some disk accepts it, or no disk is
 * known.
 */
function disksRefusal(machine: Known, pdev: PciDev): string | null {
  const { refusals } = machine;
  const known = refusals.get(pdev);
  if (known !== undefined) return known;
  const disks = machine.controllers.flatMap((one) => (one.pdev === pdev ? one.namespaces : []));
  const reasons = disks.map(({ name, size }) => {
    const place = machine.inspect(name).place;
    const counts = size === 0 || place?.layers[0]?.kind === 'multipath-head';
    return counts ? (place?.noP2pReason ?? null) : null;
  });
  const refusal = reasons.includes(null) ? null : (reasons[0] ?? null);
  refusals.set(pdev, refusal);
  return refusal;
}

/**
 * The place of a controller without a PCI function of its own is that of its namespaces: with some fabrics, a card in
 * this machine does the DMA.
 */
export function farPlace(machine: Located, { namespaces }: Controller): Place | null {
  const [first] = namespaces;
  return first === undefined ? null : machine.inspect(first.name).place;
}

function overFabric({ name, transport }: Controller): string {
  return transport === 'pcie'
    ? `the PCI function of ${name} is not known`
    : `${name} is reached over ${transport}: no PCI function here does its DMA`;
}

// --- the answer ---

const OTHER_LEGS = 'Use a provider that each leg reaches, or copy through host memory.';
const HOST_MEMORY = 'Copy through host memory, or use a drive on this machine’s own PCIe.';

function unreachable(asked: string, reason: string, place: Place | null): Unreachable {
  return { asked, reason, remedy: HOST_MEMORY, stack: stackOf(place) };
}

/** What a function was asked for: by what name, and what lies between that name and it. */
interface AskedFor {
  readonly asked: string;
  readonly place?: Place | null;
  /** What the disks behind the function refuse. */
  readonly refusal?: string | null;
}

function clientVerdict(
  machine: Known,
  provider: PciDev,
  client: PciDev,
  { asked, place = null, refusal: disks = null }: AskedFor,
): ClientVerdict {
  const { topology, names, proposed } = machine;
  const verdict = calcMapTypeAndDist(topology, provider, client);
  const whatever = place?.noP2pReason ?? (topology.iommu === 'unsupported' ? NO_PEER_MAPPING : disks);
  const leg = whatever === null && place?.legs ? legRefusal(topology, provider, place.legs) : null;
  const guessed = verdict.rule === 'acs-unknown' ? verdict.possible[0]! : verdict.mapType;
  const mapType = mapTypeName(guessed);
  const redirected = verdict.acs.length > 0 && verdict.commonBridge !== null;
  return {
    asked,
    bdf: client.bdf,
    name: names.get(client) ?? null,
    distance: mapType === 'NOT_SUPPORTED' || mapType === 'UNKNOWN' ? -1 : verdict.distance,
    mapType,
    acs: verdict.acs.map(({ bdf }) => bdf),
    acsKnown: verdict.acsKnown,
    rule: verdict.rule,
    reason: verdict.reason,
    remedy: verdict.remedy ?? (leg === null ? null : OTHER_LEGS),
    kernelParameter: redirected && verdict.remedy !== null ? disableAcsRedir(verdict.acs) : null,
    stack: stackOf(place),
    refusal: whatever ?? leg?.what ?? null,
    unproven: place?.unproven ?? null,
    zones: place?.zones ?? null,
    hops: hopsOf(machine, verdict),
    tried: null,
    ...(proposed
      ? { proposed: proposedOn(topology, provider, verdict, { whatever, legs: place?.legs ?? null }) }
      : {}),
  };
}

function stackOf(place: Place | null): string[] {
  return place?.layers.map(({ name }) => name) ?? [];
}

/** The hops up from the client to the point where the request turns, and down to the provider. */
function hopsOf(machine: Known, verdict: DistanceVerdict): Hop[] {
  const { providerPath, clientPath, commonBridge, hostBridges } = verdict;
  const provider = providerPath[0]!;
  const client = clientPath[0] ?? commonBridge!;
  const hop = (dev: PciDev, role: Hop['role']): Hop =>
    hopAt(machine, dev, dev === provider ? 'provider' : dev === client ? 'client' : role);
  const turnsBelow = verdict.possible.includes('PCI_P2PDMA_MAP_BUS_ADDR');
  if (turnsBelow && commonBridge !== null) {
    const down = providerPath.slice(0, -1).reverse();
    return [
      ...clientPath.map((dev) => hop(dev, 'up')),
      hop(commonBridge, 'turn'),
      ...down.map((dev) => hop(dev, 'down')),
    ];
  }
  const bridges = [...new Set([hostBridges[1], hostBridges[0]])];
  const unknown = verdict.mapType === 'PCI_P2PDMA_MAP_UNKNOWN';
  const passes = unknown ? null : verdict.mapType === 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE';
  return [
    ...wayUp(client).map((dev) => hop(dev, 'up')),
    ...bridges.map((bridge) => hostBridgeHop(machine.topology, bridge, passes)),
    ...wayUp(provider)
      .reverse()
      .map((dev) => hop(dev, 'down')),
  ];
}

function hopAt({ names, hops }: Known, dev: PciDev, role: Hop['role']): Hop {
  const known = hops.get(dev) ?? new Map<Hop['role'], Hop>();
  hops.set(dev, known);
  const before = known.get(role);
  if (before !== undefined) return before;
  const redirects = pciBridgeHasAcsRedir(dev);
  const hop: Hop = {
    at: dev.bdf,
    kind: dev.portType,
    name: names.get(dev) ?? null,
    role,
    acs: dev.acs === 'none' ? 'none' : redirects === null ? 'unknown' : redirects ? 'redirects' : 'clear',
    passes: null,
    note: null,
  };
  known.set(role, hop);
  return hop;
}

function wayUp(from: PciDev): PciDev[] {
  const way: PciDev[] = [];
  for (let dev: PciDev | null = from; dev !== null; dev = dev.upstream) way.push(dev);
  return way;
}

function hostBridgeHop(topology: Topology, bridge: HostBridge, passes: boolean | null): Hop {
  const { device, why } = hostBridgeVerdict(topology, bridge);
  const id = device === null ? '' : `${deviceId(device)}, `;
  return {
    at: rootBusName(bridge),
    kind: 'host-bridge',
    name: null,
    role: 'host-bridge',
    acs: 'none',
    passes,
    note: `${id}${why}`,
  };
}
