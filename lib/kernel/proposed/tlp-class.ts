/**
 * Not merged: “Route peer-to-peer DMA by TLP class” (posted to linux-pci, v9 of October 2026), as rules. Code that
 * shows results of these rules says that they are only proposed.
 *
 * Today every function on both paths counts, whatever direction its ACS bits apply to. The proposal has two
 * directions, which are decided at two ports, those below the common bridge:
 *
 *                common bridge
 *            ┌────────┴────────┐
 *      provider's port    client's port      the request is decided here: RR, EC (translated: TB, DT too)
 *            ▲                 │
 *            │ completion: CR  │
 *        provider           client
 *
 * It also has four classes of requests: translated by the client's ATS or not, completions with Relaxed Ordering or
 * not.
 */
import { PCI_ACS_CR, PCI_ACS_EC, PCI_ACS_RR, type PciDev } from '../../backend/topology.js';
import {
  type DistanceWalk,
  type PciP2pdmaMapType,
  type RulingHost,
  throughHostBridge,
} from '../pci-p2pdma-distance.js';
import { byHmat } from './hmat.js';

/** ACS Translation Blocking. */
const PCI_ACS_TB = 0x02;
/** ACS Direct Translated P2P. */
const PCI_ACS_DT = 0x40;

export interface TlpClass {
  /** For requests: the addresses were translated by the client (ATS). */
  readonly translated: boolean;
  /** For completions: they carry Relaxed Ordering. */
  readonly relaxed: boolean;
}

/** In the order of their numbers: bit 0 translated, bit 1 relaxed. */
export const TLP_CLASSES: readonly TlpClass[] = [
  { translated: false, relaxed: false },
  { translated: true, relaxed: false },
  { translated: false, relaxed: true },
  { translated: true, relaxed: true },
];

/** What happened to it at a port. */
export type AtPort = 'direct' | 'redirect' | 'blocked';

/** A request on the way up, at the port where it could be routed directly to the peer. */
export function requestAt(control: number, translated: boolean): AtPort {
  if (translated && (control & PCI_ACS_TB) !== 0) return 'blocked';
  if (translated && (control & PCI_ACS_DT) !== 0) return 'direct';
  return (control & (PCI_ACS_RR | PCI_ACS_EC)) === 0 ? 'direct' : 'redirect';
}

/** A completion on the way up, at the port where it could be routed directly. */
export function completionAt(control: number, relaxed: boolean): AtPort {
  return !relaxed && (control & PCI_ACS_CR) !== 0 ? 'redirect' : 'direct';
}

/**
 * An ACS Control register: its value; `unreadable`: the kernel itself cannot read it; null: this program could not
 * read it, but the kernel can.
 */
export type AcsReading = number | 'unreadable' | null;

function readAcs({ acs }: PciDev): AcsReading {
  return acs === 'none' ? 0 : acs === 'unknown' ? null : acs;
}

/** The verdict for each class on one way, in the order of TLP_CLASSES. */
export function mapTypesByClass(
  host: RulingHost,
  walk: DistanceWalk,
  read: (dev: PciDev) => AcsReading = readAcs,
): PciP2pdmaMapType[] {
  return TLP_CLASSES.map((tlp) => mapTypeOf(host, walk, tlp, read));
}

const NOT_SUPPORTED = 'PCI_P2PDMA_MAP_NOT_SUPPORTED';
const UNKNOWN = 'PCI_P2PDMA_MAP_UNKNOWN';

function mapTypeOf(
  host: RulingHost,
  walk: DistanceWalk,
  tlp: TlpClass,
  read: (dev: PciDev) => AcsReading,
): PciP2pdmaMapType {
  const { commonBridge, clientPath, providerPath } = walk;
  if (walk.rule === 'way-unknown') return UNKNOWN;
  // Without a common bridge there is no direct route: what matters is whether translated requests can go up.
  if (commonBridge === null) return tlp.translated ? whereNotBlocked(host, walk, read) : above(host, walk);
  const clientPort = clientPath.at(-1) ?? null;
  const providerPort = providerPath.at(-2) ?? null;
  const atClient = clientPort === null ? 0 : read(clientPort);
  const atProvider = providerPort === null ? 0 : read(providerPort);
  if (atClient === 'unreadable' || atProvider === 'unreadable') return NOT_SUPPORTED;
  // The client's own function is not a port on its path, unless it is where the two paths separate.
  const below = tlp.translated ? blockedBy(clientPath.slice(1, -1), read) : 'clear';
  if (below === 'blocked') return NOT_SUPPORTED;
  if (atClient === null || atProvider === null || below === 'unknown') return UNKNOWN;
  const request = requestAt(atClient, tlp.translated);
  if (request === 'blocked') return NOT_SUPPORTED;
  if (request === 'direct' && completionAt(atProvider, tlp.relaxed) === 'direct') {
    return 'PCI_P2PDMA_MAP_BUS_ADDR';
  }
  return tlp.translated ? whereNotBlocked(host, walk, read) : above(host, walk);
}

/** A translated request on the way to the host bridge: no port may block it. */
function whereNotBlocked(
  host: RulingHost,
  walk: DistanceWalk,
  read: (dev: PciDev) => AcsReading,
): PciP2pdmaMapType {
  const way = [...walk.clientPath.slice(1)];
  for (let dev = walk.commonBridge; dev !== null; dev = dev.upstream) way.push(dev);
  const blocked = blockedBy(way, read);
  if (blocked === 'blocked') return NOT_SUPPORTED;
  return blocked === 'unknown' ? UNKNOWN : above(host, walk);
}

function blockedBy(
  ports: readonly PciDev[],
  read: (dev: PciDev) => AcsReading,
): 'blocked' | 'unknown' | 'clear' {
  const readings = ports.map(read);
  if (readings.some((control) => control === 'unreadable' || ((control ?? 0) & PCI_ACS_TB) !== 0)) {
    return 'blocked';
  }
  return readings.includes(null) ? 'unknown' : 'clear';
}

/** The traffic goes through the host bridge, if that forwards it; firmware information about this is not read here. */
function above(host: RulingHost, { hostBridges: [a, b] }: DistanceWalk): PciP2pdmaMapType {
  const allowed = byHmat(null, () => throughHostBridge(host, a, b).allowed);
  return allowed === null ? UNKNOWN : allowed ? 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE' : NOT_SUPPORTED;
}
