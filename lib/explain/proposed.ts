/**
 * What patches that are not merged would make of a verdict. This is never part of the verdict: it is shown beside it, on
 * request.
 */
import type { Legs } from '../backend/backend.js';
import type { PciDev, Topology } from '../backend/topology.js';
import { calcMapTypeAndDist, type DistanceVerdict } from '../kernel/pci-p2pdma-distance.js';
import { legRefusal } from '../kernel/pci-p2pdma-legs.js';
import { mapTypesByClass, TLP_CLASSES } from '../kernel/proposed/tlp-class.js';

/**
 * The verdict with the patches, for each class of requests.
 * @inline
 */
export interface ProposedVerdict {
  /** Whether the client translated the addresses, whether completions carry Relaxed Ordering, and what follows. */
  classes: {
    translated: boolean;
    relaxed: boolean;
    mapType: 'BUS_ADDR' | 'THRU_HOST_BRIDGE' | 'NOT_SUPPORTED' | 'UNKNOWN';
    /** As `ClientVerdict.refusal`: of an array, because a leg does not reach the memory in this class. */
    refusal: string | null;
  }[];
  /** No HMAT is read. */
  hmat: 'not known';
}

/** The verdicts for each class of requests on the way of this verdict, and of the other legs. */
export function proposedOn(
  topology: Topology,
  provider: PciDev,
  verdict: DistanceVerdict,
  { whatever, legs }: { readonly whatever: string | null; readonly legs: Legs | null },
): ProposedVerdict {
  const mapTypes = mapTypesByClass(topology, verdict);
  const refusalIn = (i: number): string | null => {
    if (whatever !== null || legs === null) return whatever;
    const refused = legRefusal(topology, provider, legs, (client) => {
      const leg = calcMapTypeAndDist(topology, provider, client);
      return { ...leg, mapType: mapTypesByClass(topology, leg)[i]! };
    });
    return refused?.what ?? null;
  };
  const classes = TLP_CLASSES.map((tlp, i) => ({
    ...tlp,
    mapType: mapTypeName(mapTypes[i]!),
    refusal: refusalIn(i),
  }));
  return { classes, hmat: 'not known' };
}

/** `'PCI_P2PDMA_MAP_BUS_ADDR'` → `'BUS_ADDR'`. */
export function mapTypeName<T extends string>(mapType: `PCI_P2PDMA_MAP_${T}`): T {
  return mapType.slice('PCI_P2PDMA_MAP_'.length) as T;
}
