/**
 * Reachability for a target with several clients (pci_p2pdma_distance_many() of drivers/pci/p2pdma.c): a provider is
 * usable for the target only if every client can reach it.
 *
 *     md0 (raid1) ─┬─▶ nvme0  reaches the memory of nvme0       yes
 *                  └─▶ nvme1  on another root port              no: so none of md0 is given it
 *
 * The kernel checks each member separately, when it maps that member's part of a request. A refusal by a member of a
 * mirror is not treated as an error of the member (see releases/bugs.ts). Therefore every member of a mirror must be
 * known to reach the memory.
 */
import type { Legs } from '../backend/backend.js';
import type { PciDev } from '../backend/topology.js';
import { calcMapTypeAndDist, type DistanceVerdict, type RulingHost } from './pci-p2pdma-distance.js';

export interface LegRefusal {
  /** Which legs of which target, and what would result from it, as a clause. */
  readonly what: string;
  /** Why the first of these legs does not reach the memory. */
  readonly why: string;
}

/** The verdict for one leg. */
type LegVerdict = (client: PciDev) => Pick<DistanceVerdict, 'mapType' | 'reason'>;

/** Why the provider is not usable for these legs; null: it is usable, as far as this checks. */
export function legRefusal(
  host: RulingHost,
  provider: PciDev,
  { of, mirror, clients }: Legs,
  verdictFor: LegVerdict = (client) => calcMapTypeAndDist(host, provider, client),
): LegRefusal | null {
  const verdicts = clients.map((client) => ({ client, ...verdictFor(client) }));
  const out = verdicts.filter(
    ({ mapType }) =>
      mapType === 'PCI_P2PDMA_MAP_NOT_SUPPORTED' || (mirror && mapType === 'PCI_P2PDMA_MAP_UNKNOWN'),
  );
  const [first] = out;
  if (first === undefined) return null;
  const names = out.map(({ client }) => client.bdf).join(', ');
  const unsure = out.every(({ mapType }) => mapType === 'PCI_P2PDMA_MAP_UNKNOWN');
  const consequence = mirror
    ? `; ${unsure ? 'if not, ' : ''}the kernel would report such a write as done, and the members would differ`
    : '';
  return {
    what:
      `each leg of ${of} must be reachable from the provider, and ` +
      (unsure ? `whether ${names} can reach` : `${names} cannot reach`) +
      ` the memory of ${provider.bdf}${unsure ? ' is not known' : ''}${consequence}`,
    why: first.reason,
  };
}
