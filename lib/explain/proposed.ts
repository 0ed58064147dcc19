/**
 * What patches that are not merged would make of a verdict. This is never part of the verdict: it is shown beside it, on
 * request.
 */
import type { Topology } from '../backend/topology.js';
import type { DistanceVerdict } from '../kernel/pci-p2pdma-distance.js';
import { mapTypesByClass, TLP_CLASSES } from '../kernel/proposed/tlp-class.js';

/** The verdicts for each class of requests on the way of this verdict. */
export function proposedOn(topology: Topology, verdict: DistanceVerdict) {
  const mapTypes = mapTypesByClass(topology, verdict);
  const classes = TLP_CLASSES.map((tlp, i) => ({ ...tlp, mapType: mapTypeName(mapTypes[i]!) }));
  return { classes, hmat: 'not known' as const };
}

/** `'PCI_P2PDMA_MAP_BUS_ADDR'` → `'BUS_ADDR'`. */
export function mapTypeName<T extends string>(mapType: `PCI_P2PDMA_MAP_${T}`): T {
  return mapType.slice('PCI_P2PDMA_MAP_'.length) as T;
}
