/**
 * Mirrors the distance and map-type half of drivers/pci/p2pdma.c (6.12; RFC patches 1 and 2; the list of host bridges
 * depends on the release, see releases/host-bridges.ts): may the client do DMA to memory in the provider's BAR, how,
 * and what is the distance? It is a pure calculation over a topology; it serves the emulated kernel and predicts the
 * real one.
 *
 *          host bridge
 *              │
 *           00:01.0  root port
 *              │
 *           01:00.0  switch, upstream port  ◀─ nearest common bridge
 *           ┌──┴───────┐
 *        02:00.0    02:01.0  downstream ports
 *           │          │
 *        03:00.0    04:00.0                   provider 03:00.0: 2 hops up, client 04:00.0: 2 hops up: distance 4
 *
 * Peer requests are routed directly at the common bridge, unless one of the functions on the path (here 03:00.0,
 * 02:00.0, 01:00.0, 02:01.0, 04:00.0) has ACS redirection enabled: then they go up to the host bridge, as they do
 * without a common bridge. Whether a host bridge forwards them is known only for the CPUs and bridges listed below.
 */

import type { KernelRelease } from '../backend/kernel-release.js';
import { deviceId, idsKnown, rootBusName } from '../backend/names.js';
import {
  type Cpu,
  type HostBridge,
  PCI_ACS_CR,
  PCI_ACS_EC,
  PCI_ACS_RR,
  type PciDev,
  type Topology,
} from '../backend/topology.js';
import { assertObject } from '../base/arguments.js';
import { disableAcsRedirIn } from '../base/boot-line.js';
import { hex } from '../base/words.js';
import { LIST_STATE, type Listing, listingOf } from './releases/host-bridges.js';
import { refusalInLog } from './releases/log.js';
import { sinceText } from './releases/rule.js';
import { MODEL } from './releases/table.js';

/** enum pci_p2pdma_map_type: what a mapper must do with the provider's memory. */
export type PciP2pdmaMapType =
  /** Not known (never computed, or it depends on ACS settings or a CPU that could not be read). Do not map. */
  | 'PCI_P2PDMA_MAP_UNKNOWN'
  /** Refuse: the transaction would be lost. */
  | 'PCI_P2PDMA_MAP_NOT_SUPPORTED'
  /** Give the device the PCI bus address: requests are routed below the host bridge. */
  | 'PCI_P2PDMA_MAP_BUS_ADDR'
  /** Map it like ordinary memory (CPU address or IOVA): the host bridge forwards requests. */
  | 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE';

/** What decided a verdict. @inline */
export type DistanceRule =
  /** Provider and client are the same function: data stays inside the device. */
  | 'same-function'
  /** A common bridge exists, and ACS redirection is disabled on the whole path. */
  | 'common-bridge'
  /** A common bridge exists, but not all ACS settings on the path could be read. */
  | 'acs-unknown'
  /** Through the host bridge: an AMD Zen CPU forwards peer requests. */
  | 'cpu-zen'
  /** Through the host bridge, which is listed (or both are listed). */
  | 'host-bridge-listed'
  /** Not known: a host bridge is not listed, and whether the CPU is an AMD Zen could not be read. */
  | 'cpu-unknown'
  /** Refused: a host bridge is not listed. */
  | 'host-bridge-not-listed'
  /** Not known: these tables do not list a host bridge for a kernel like this one, but the kernel's own list may contain it. */
  | 'host-bridge-list-unknown'
  /** Refused: listed only for traffic below the same host bridge, but these are two host bridges. */
  | 'host-bridges-differ'
  /** Not known: the data read from the machine lacks a bridge above one of the two functions. */
  | 'way-unknown'
  /** Refused: the first device on a root bus is neither 00.0 nor a root port, so it does not identify the host bridge. */
  | 'host-bridge-unidentified';

export interface DistanceVerdict {
  readonly mapType: PciP2pdmaMapType;
  /** The possible values of mapType: more than one only when it is UNKNOWN. */
  readonly possible: readonly PciP2pdmaMapType[];
  /** Number of hops from both up to the common bridge, or of functions on both paths up to the root buses. */
  readonly distance: number;
  /** Functions on the path that have ACS redirection enabled, those on the provider's side first. */
  readonly acs: readonly PciDev[];
  /**
   * False: ACS of the functions in `acsUnknown` could not be read, so `acs` may be incomplete. Without a common
   * bridge, ACS does not affect the verdict and counts as known.
   */
  readonly acsKnown: boolean;
  readonly acsUnknown: readonly PciDev[];
  /** The bridge where the two paths up meet; null: they do not meet below the root complex. */
  readonly commonBridge: PciDev | null;
  /** From the provider up to the common bridge (included) or the root bus. */
  readonly providerPath: readonly PciDev[];
  /** From the client up to the common bridge (not included) or the root bus. */
  readonly clientPath: readonly PciDev[];
  readonly hostBridges: readonly [provider: HostBridge, client: HostBridge];
  readonly rule: DistanceRule;
  /** One sentence that names the functions and the rule. */
  readonly reason: string;
  /** What would help; null if nothing is wrong. */
  readonly remedy: string | null;
}

/** What determines the verdict besides the devices: the processor and the kernel. */
export interface RulingHost {
  readonly cpu: Cpu;
  /** Null: not known; undefined: the kernel that this file mirrors. */
  readonly kernel?: KernelRelease | null;
}

/** cpu_supports_p2pdma(): AMD CPUs since family 17h (Zen) forward peer requests, independent of the host bridge. */
export function cpuSupportsP2pdma(cpu: Cpu): boolean {
  return cpu.vendor === 'AuthenticAMD' && cpu.family !== null && cpu.family >= 0x17;
}

/** pci_bridge_has_acs_redir(): null if its ACS capability could not be read. */
export function pciBridgeHasAcsRedir(pdev: PciDev): boolean | null {
  if (pdev.acs === 'unknown') return null;
  if (pdev.acs === 'none') return false;
  return (pdev.acs & (PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC)) !== 0;
}

/** pci_host_bridge_dev(): the device that identifies this host bridge. */
export function pciHostBridgeDev(bridge: HostBridge): PciDev | null {
  const first = bridge.firstDevice;
  if (first === null) return null;
  return first.devfn === 0 || first.portType === 'root-port' ? first : null;
}

/** A verdict without its texts, as the map path needs it. */
export type DistanceWalk = Omit<DistanceVerdict, 'reason' | 'remedy' | 'acsKnown'>;

interface HostBridgeRuling {
  /** Null: the CPU or the kernel's own list decides, and that is not known. */
  readonly allowed: boolean | null;
  readonly rule: DistanceRule;
}

/** host_bridge_whitelist(), after the check of the CPU itself. */
export function throughHostBridge(host: RulingHost, a: HostBridge, b: HostBridge): HostBridgeRuling {
  const { cpu } = host;
  if (cpuSupportsP2pdma(cpu)) return { allowed: true, rule: 'cpu-zen' };
  const same = a === b;
  const first = oneHostBridge(host, a, same);
  const second = same || first.allowed === false ? first : oneHostBridge(host, b, same);
  const ruling = second.allowed === true ? first : second;
  return ruling.allowed === true || cpu.known !== false ? ruling : { allowed: null, rule: 'cpu-unknown' };
}

function oneHostBridge(host: RulingHost, bridge: HostBridge, same: boolean): HostBridgeRuling {
  const dev = pciHostBridgeDev(bridge);
  if (dev === null) return { allowed: false, rule: 'host-bridge-unidentified' };
  const { listed, row } = listing(host, dev);
  const below = row?.sameHostBridge === true && !same;
  if (listed === 'no' || (listed === 'unknown' && below)) {
    return { allowed: false, rule: 'host-bridge-not-listed' };
  }
  if (below) return { allowed: false, rule: 'host-bridges-differ' };
  return listed === 'yes'
    ? { allowed: true, rule: 'host-bridge-listed' }
    : { allowed: null, rule: 'host-bridge-list-unknown' };
}

function listing({ kernel = MODEL }: RulingHost, dev: PciDev): Listing {
  return listingOf(dev, kernel);
}

/** What one host bridge forwards, independent of a pair of devices. */
export interface HostBridgeVerdict {
  /**
   * Where peer traffic passes: also to other host bridges that are listed the same way, only below this one, nowhere,
   * or not known.
   */
  readonly passes: 'everywhere' | 'same-host-bridge' | 'no' | 'unknown';
  /** The rule that decided. */
  readonly rule: Extract<
    DistanceRule,
    | 'cpu-zen'
    | 'cpu-unknown'
    | 'host-bridge-listed'
    | 'host-bridge-list-unknown'
    | 'host-bridge-not-listed'
    | 'host-bridge-unidentified'
  >;
  /** The function that identifies the host bridge (pci_host_bridge_dev()); null: there is none. */
  readonly device: PciDev | null;
  /** Why. */
  readonly why: string;
}

/** The verdict of the host bridge allow-list on one host bridge, without a pair of devices. */
export function hostBridgeVerdict(
  host: Pick<Topology, 'cpu' | 'kernel'>,
  bridge: HostBridge,
): HostBridgeVerdict {
  assertObject('hostBridgeVerdict', 'host', host, 'a topology');
  assertObject('hostBridgeVerdict', 'host.cpu', host.cpu, 'a topology’s cpu');
  assertObject('hostBridgeVerdict', 'bridge', bridge, 'one of a topology’s host bridges');
  const { cpu } = host;
  const device = pciHostBridgeDev(bridge);
  if (cpuSupportsP2pdma(cpu)) {
    return { passes: 'everywhere', rule: 'cpu-zen', device, why: 'AMD Zen: its host bridges pass peers on' };
  }
  const found = device === null ? null : listing(host, device);
  if (found?.listed === 'yes') {
    const passes = found.row!.sameHostBridge ? 'same-host-bridge' : 'everywhere';
    return { passes, rule: 'host-bridge-listed', device, why: found.row!.why };
  }
  if (cpu.known === false) {
    const why = 'only an AMD Zen would make it pass peers on, and the CPU is not known';
    return { passes: 'unknown', rule: 'cpu-unknown', device, why };
  }
  if (device === null) {
    const why =
      'the first device on its root bus is neither 00.0 nor a root port, so it cannot be identified';
    return { passes: 'no', rule: 'host-bridge-unidentified', device, why };
  }
  if (found?.doubt != null) {
    const why = `not known whether it is on the kernel’s host bridge allow-list: ${found.doubt}; ${LIST_STATE}`;
    return { passes: 'unknown', rule: 'host-bridge-list-unknown', device, why };
  }
  const later = found?.row ?? null;
  const why = `not on the kernel’s host bridge allow-list${later === null ? '' : `; ${sinceText(later.rule)} has it`}`;
  return { passes: 'no', rule: 'host-bridge-not-listed', device, why };
}

function noteAcs(pdev: PciDev, redirecting: PciDev[], unknown: PciDev[]): void {
  const redirects = pciBridgeHasAcsRedir(pdev);
  if (redirects === null) unknown.push(pdev);
  else if (redirects) redirecting.push(pdev);
}

/** The calculation itself; calcMapTypeAndDist() adds the texts. */
export function walkDistance(host: RulingHost, provider: PciDev, client: PciDev): DistanceWalk {
  const clientWay: PciDev[] = [];
  for (let b: PciDev | null = client; b !== null; b = b.upstream) clientWay.push(b);

  const acs: PciDev[] = [];
  const acsUnknown: PciDev[] = [];
  const providerPath: PciDev[] = [];
  let commonBridge: PciDev | null = null;
  let clientHops = clientWay.length;
  for (let a: PciDev | null = provider; a !== null && commonBridge === null; a = a.upstream) {
    providerPath.push(a);
    noteAcs(a, acs, acsUnknown);
    const at = clientWay.indexOf(a);
    if (at >= 0) {
      commonBridge = a;
      clientHops = at;
    }
  }
  const clientPath = clientWay.slice(0, clientHops);
  for (const b of clientPath) noteAcs(b, acs, acsUnknown);

  const providerHops = commonBridge === null ? providerPath.length : providerPath.length - 1;
  const distance = providerHops + clientHops;
  const hostBridges = [provider.hostBridge, client.hostBridge] as const;
  // Without a spread: Node 20 keeps an object that has fields after one until a full collection, and each copy walks.
  const walk = (possible: readonly PciP2pdmaMapType[], rule: DistanceRule): DistanceWalk => ({
    distance,
    acs,
    acsUnknown,
    commonBridge,
    providerPath,
    clientPath,
    hostBridges,
    mapType: possible.length === 1 ? possible[0]! : 'PCI_P2PDMA_MAP_UNKNOWN',
    possible,
    rule,
  });
  if (lostAbove({ acs, acsUnknown, commonBridge, providerPath, clientPath }).length > 0) {
    return walk(ANY_WAY, 'way-unknown');
  }
  const turns = commonBridge !== null && acs.length === 0;
  if (turns && acsUnknown.length === 0) {
    return walk(['PCI_P2PDMA_MAP_BUS_ADDR'], provider === client ? 'same-function' : 'common-bridge');
  }
  const { allowed, rule } = throughHostBridge(host, provider.hostBridge, client.hostBridge);
  const above: PciP2pdmaMapType[] = [];
  if (allowed !== false) above.push('PCI_P2PDMA_MAP_THRU_HOST_BRIDGE');
  if (allowed !== true) above.push('PCI_P2PDMA_MAP_NOT_SUPPORTED');
  if (turns) return walk(['PCI_P2PDMA_MAP_BUS_ADDR', ...above], 'acs-unknown');
  return walk(above, rule);
}

/**
 * Functions on the way above which a bridge is not known. The way ends at the common bridge, unless ACS redirects, or may
 * redirect: then it goes on to the host bridge.
 */
function lostAbove({ commonBridge, providerPath, clientPath, acs, acsUnknown }: WayOf): PciDev[] {
  const way = [...(commonBridge === null ? providerPath : providerPath.slice(0, -1)), ...clientPath];
  if (acs.length + acsUnknown.length > 0) {
    for (let dev = commonBridge; dev !== null; dev = dev.upstream) way.push(dev);
  }
  return way.filter(({ wayUp }) => wayUp === 'unknown');
}

type WayOf = Pick<DistanceWalk, 'commonBridge' | 'providerPath' | 'clientPath' | 'acs' | 'acsUnknown'>;

const ANY_WAY: readonly PciP2pdmaMapType[] = [
  'PCI_P2PDMA_MAP_BUS_ADDR',
  'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
  'PCI_P2PDMA_MAP_NOT_SUPPORTED',
];

/**
 * calc_map_type_and_dist(): may `client` do DMA to memory of `provider`? The verdict has the reason and what would
 * help. Works for any two functions, with or without peer memory.
 */
export function calcMapTypeAndDist(host: RulingHost, provider: PciDev, client: PciDev): DistanceVerdict {
  const walk = walkDistance(host, provider, client);
  return {
    ...walk,
    acsKnown: walk.commonBridge === null || walk.acsUnknown.length === 0,
    reason: reasonFor(host, provider, client, walk),
    remedy: remedyFor(host, walk),
  };
}

/** The verdict that `walk` came to, in a sentence. */
export function reasonFor(host: RulingHost, provider: PciDev, client: PciDev, walk: DistanceWalk): string {
  const { cpu } = host;
  const memory = client.bdf === provider.bdf ? 'its own memory' : `the memory of ${provider.bdf}`;
  const pair = `${client.bdf} and ${memory}`;
  switch (walk.rule) {
    case 'same-function':
      return `${provider.bdf} does DMA to its own memory: the data stays inside the device.`;
    case 'common-bridge':
      return (
        `${client.bdf} reaches the memory of ${provider.bdf} on the bus: they share the upstream bridge ` +
        `${bdfOf(walk.commonBridge)}, and no function on the way redirects peer traffic (ACS).`
      );
    case 'acs-unknown':
      return (
        `It is unknown whether ACS redirects the traffic between ${pair}: ` +
        (client.bdf === provider.bdf
          ? ''
          : `they share the upstream bridge ${bdfOf(walk.commonBridge)}, but `) +
        `the ACS settings of ${bdfs(walk.acsUnknown)} could not be read. ` +
        `If they are clear, it stays on the bus; if not, ${otherwiseIn(walk)}.`
      );
    case 'way-unknown':
      return (
        `It is unknown which way traffic between ${pair} takes: what was read of this machine lacks a bridge above ` +
        `${bdfs(lostAbove(walk))}.`
      );
    case 'cpu-zen':
      return (
        `${detour(pair, walk)}, and the CPU (AMD, family ${hex(cpu.family ?? 0, 2)}h) passes peer traffic on ` +
        'in its host bridges.'
      );
    case 'host-bridge-listed':
      return `${detour(pair, walk)}, and ${hostBridgeNames(walk)} on the kernel’s host bridge allow-list.`;
    case 'cpu-unknown':
      return (
        `${detour(pair, walk)}, and whether a host bridge passes it on is not known: an AMD Zen would, and the CPU ` +
        'could not be read.'
      );
    case 'host-bridge-not-listed':
      return (
        `${detour(pair, walk)}, but ${hostBridgeNames(walk)} not on the kernel’s host bridge ` +
        `allow-list, nor ${cpu.vendor === null ? 'is the CPU known to be' : 'is the CPU'} an AMD Zen.`
      );
    case 'host-bridge-list-unknown':
      return (
        `${detour(pair, walk)}, and whether ${hostBridgeNames(walk)} on the kernel’s host bridge allow-list ` +
        `is not known: ${doubtsOf(host, walk)}; ${LIST_STATE}.`
      );
    case 'host-bridges-differ':
      return (
        `${detour(pair, walk)}, but ${hostBridgeNames(walk)} on the kernel’s host bridge allow-list only for traffic ` +
        'below one host bridge, and these are two.'
      );
    case 'host-bridge-unidentified':
      return (
        `${detour(pair, walk)}, but a host bridge cannot be looked up in the kernel’s allow-list: ` +
        `the first device on its root bus (${rootBuses(walk)}) is neither 00.0 nor a root port.`
      );
  }
}

/** The result if ACS, whose settings are not known, does redirect. */
function otherwiseIn({ possible }: DistanceWalk): string {
  const passes = possible.includes('PCI_P2PDMA_MAP_THRU_HOST_BRIDGE');
  if (!possible.includes('PCI_P2PDMA_MAP_NOT_SUPPORTED')) return 'it goes through the host bridge';
  return passes ? 'the host bridge decides, of which that is not known either' : 'the kernel refuses it';
}

/** Why the traffic goes up to the host bridge. */
function detour(pair: string, walk: DistanceWalk): string {
  if (walk.commonBridge === null) {
    return `Traffic between ${pair} goes through the host bridge, since they share no upstream bridge`;
  }
  const unread = bdfs(walk.acsUnknown);
  const also = unread === '' ? '' : ` (the ACS settings of ${unread} could not be read)`;
  return (
    `Traffic between ${pair} is sent up to the host bridge by ACS redirection in ${bdfs(walk.acs)}${also}, ` +
    `although they share the upstream bridge ${walk.commonBridge.bdf}`
  );
}

/** Why it is not known what the kernel's list says of these host bridges. */
function doubtsOf(host: RulingHost, walk: DistanceWalk): string {
  return [...new Set(listings(host, walk).flatMap(({ doubt }) => doubt ?? []))].join('; ');
}

function listings(host: RulingHost, { hostBridges }: DistanceWalk): Listing[] {
  const devices = [...new Set(hostBridges.map(pciHostBridgeDev))];
  return devices.flatMap((dev) => (dev === null ? [] : listing(host, dev)));
}

/** What would tell whether the host bridge forwards the traffic; null: that is known. */
function settlesIt(host: RulingHost, walk: DistanceWalk): string | null {
  const { kernel = MODEL } = host;
  if (walk.rule === 'cpu-unknown') return 'Read /proc/cpuinfo too: capture it into the tree.';
  if (walk.rule !== 'host-bridge-list-unknown') return null;
  if (!walk.hostBridges.every(isNamed)) return 'Read the IDs of the host bridge too: `lspci -nn` shows them.';
  const upgrade = upgradeFor(host, walk);
  return (
    'On that machine `p2pdma explain --try` settles it: it reads one block and writes nothing. ' +
    refusalInLog(kernel, { commonBridge: walk.commonBridge !== null }) +
    (upgrade === null ? '' : ` ${upgrade}`)
  );
}

function isNamed(bridge: HostBridge): boolean {
  const dev = pciHostBridgeDev(bridge);
  return dev === null || idsKnown(dev);
}

/** The first release whose list has these host bridges; null: no known release has them. */
function upgradeFor(host: RulingHost, walk: DistanceWalk): string | null {
  const missing = listings(host, walk).filter(({ listed }) => listed !== 'yes');
  if (missing.length === 0 || missing.some(({ row }) => row === null)) return null;
  if (missing.some(({ row }) => row!.sameHostBridge) && walk.hostBridges[0] !== walk.hostBridges[1])
    return null;
  const releases = [...new Set(missing.map(({ row }) => sinceText(row!.rule)))];
  return `The list of ${releases.join(', and of ')} has ${missing.length > 1 ? 'these host bridges' : 'this host bridge'}: a newer kernel passes it.`;
}

function remedyFor(host: RulingHost, walk: DistanceWalk): string | null {
  if (walk.mapType === 'PCI_P2PDMA_MAP_BUS_ADDR') return null;
  if (walk.rule === 'way-unknown') {
    return 'Read all of the machine’s PCI functions: `sudo lspci -xxxx` whole, or /sys with its links.';
  }
  if (walk.rule === 'acs-unknown') {
    return (
      'Read the topology as root (`sudo p2pdma explain`, or `sudo lspci -xxxx` to be sent): ACS settings lie in ' +
      'extended configuration space, which only root can read.'
    );
  }
  const settling = settlesIt(host, walk);
  if (walk.commonBridge !== null) {
    const unread = bdfs(walk.acsUnknown);
    const more = ` The list may be incomplete: the ACS settings of ${unread} could not be read; ask as root.`;
    return (
      `${settling === null ? 'Boot' : `${settling} Or boot`} with "${disableAcsRedir(walk.acs)}" on the kernel ` +
      'command line (keep the quotes: to a boot loader a bare semicolon ends the command). This costs isolation: the ' +
      'devices below these functions can then reach each other’s memory without the IOMMU in between, so do not do it ' +
      `where they belong to different guests.${unread === '' ? '' : more}`
    );
  }
  if (settling !== null) return settling;
  if (walk.mapType === 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE') return null;
  if (walk.rule === 'host-bridges-differ') {
    return 'Put both devices below one host bridge (slots of the same CPU socket), or below one PCIe switch.';
  }
  const place = 'Put both devices below one PCIe switch, or copy through host memory.';
  const upgrade = walk.rule === 'host-bridge-not-listed' ? upgradeFor(host, walk) : null;
  return upgrade === null ? place : `${upgrade} Or: ${place[0]!.toLowerCase()}${place.slice(1)}`;
}

/** The kernel parameter that disables ACS redirection in these functions: `pci=disable_acs_redir=a;b`. */
export function disableAcsRedir(functions: readonly PciDev[]): string {
  return disableAcsRedirIn(functions.map(({ bdf }) => bdf));
}

function hostBridgeNames(walk: DistanceWalk): string {
  const [a, b] = walk.hostBridges;
  return a === b
    ? `host bridge ${hostBridgeName(a)} is`
    : `host bridges ${hostBridgeName(a)} and ${hostBridgeName(b)} are`;
}

function hostBridgeName(bridge: HostBridge): string {
  const dev = bridge.firstDevice;
  const id = dev === null ? '' : ` (${deviceId(dev)})`;
  return `${rootBusName(bridge)}${id}`;
}

function rootBuses(walk: DistanceWalk): string {
  const [a, b] = walk.hostBridges;
  return (a === b ? [a] : [a, b]).map((h) => `${hostBridgeName(h)}: ${bdfOf(h.firstDevice)}`).join(', ');
}

function bdfOf(pdev: PciDev | null): string {
  return pdev === null ? 'none' : pdev.bdf;
}

function bdfs(functions: readonly PciDev[]): string {
  return functions.map((f) => f.bdf).join(', ');
}
