/**
 * Not merged: “Route peer-to-peer DMA by TLP class” (posted to linux-pci, v9 of October 2026), as rules. Whoever shows
 * what follows from them says so.
 *
 * Today each function on both ways counts, whatever way its ACS bits point. Proposed are two directions, decided at two
 * ports, those below the common bridge:
 *
 *                common bridge
 *            ┌────────┴────────┐
 *      provider's port    client's port      the request is decided here: RR, EC (translated: TB, DT too)
 *            ▲                 │
 *            │ completion: CR  │
 *        provider           client
 *
 * and four classes of requests: translated by the client's ATS or not, completions with Relaxed Ordering or not.
 */
import { PCI_ACS_CR, PCI_ACS_EC, PCI_ACS_RR, type PciDev } from '../../backend/topology.js';
import {
  type DistanceWalk,
  type PciP2pdmaMapType,
  type RulingHost,
  throughHostBridge,
  walkDistance,
} from '../pci-p2pdma-distance.js';
import { byHmat } from './hmat.js';

/** ACS Translation Blocking. */
const PCI_ACS_TB = 0x02;
/** ACS Direct Translated P2P. */
const PCI_ACS_DT = 0x40;

export interface TlpClass {
  /** Of requests: addresses were translated by the client (ATS). */
  readonly translated: boolean;
  /** Of completions: they carry Relaxed Ordering. */
  readonly relaxed: boolean;
}

/** In the order of their numbers: bit 0 translated, bit 1 relaxed. */
export const TLP_CLASSES: readonly TlpClass[] = [
  { translated: false, relaxed: false },
  { translated: true, relaxed: false },
  { translated: false, relaxed: true },
  { translated: true, relaxed: true },
];

/** What became of it at a port. */
export type AtPort = 'direct' | 'redirect' | 'blocked';

/** A request on its way up, at the port where it would turn. */
export function requestAt(control: number, translated: boolean): AtPort {
  if (translated && (control & PCI_ACS_TB) !== 0) return 'blocked';
  if (translated && (control & PCI_ACS_DT) !== 0) return 'direct';
  return (control & (PCI_ACS_RR | PCI_ACS_EC)) === 0 ? 'direct' : 'redirect';
}

/** A completion on its way up, likewise. */
export function completionAt(control: number, relaxed: boolean): AtPort {
  return !relaxed && (control & PCI_ACS_CR) !== 0 ? 'redirect' : 'direct';
}

/**
 * An ACS Control register: its value; `unreadable`: the kernel itself cannot read it; null: whoever asks here could not,
 * and the kernel can.
 */
export type AcsReading = number | 'unreadable' | null;

function readAcs({ acs }: PciDev): AcsReading {
  return acs === 'none' ? 0 : acs === 'unknown' ? null : acs;
}

/** The verdict for each class, in the order of TLP_CLASSES. */
export function mapTypesByClass(
  host: RulingHost,
  provider: PciDev,
  client: PciDev,
  read: (dev: PciDev) => AcsReading = readAcs,
): PciP2pdmaMapType[] {
  const walk = walkDistance(host, provider, client);
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
  // Without a common bridge there is nowhere to turn: what counts is whether translated requests get up.
  if (commonBridge === null) return tlp.translated ? whereNotBlocked(host, walk, read) : above(host, walk);
  const clientPort = clientPath.at(-1) ?? null;
  const providerPort = providerPath.at(-2) ?? null;
  const atClient = clientPort === null ? 0 : read(clientPort);
  const atProvider = providerPort === null ? 0 : read(providerPort);
  if (atClient === 'unreadable' || atProvider === 'unreadable') return NOT_SUPPORTED;
  // The client's own function is no port of its way, unless it is where the ways part.
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

/** A translated request on its way to the host bridge: no port may block it. */
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

/** By the host bridge, if it passes it on; what firmware says of that is not read here. */
function above(host: RulingHost, { hostBridges: [a, b] }: DistanceWalk): PciP2pdmaMapType {
  const allowed = byHmat(null, () => throughHostBridge(host, a, b).allowed);
  return allowed === null ? UNKNOWN : allowed ? 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE' : NOT_SUPPORTED;
}
