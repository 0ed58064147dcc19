/**
 * What patches that are not merged would make of a verdict. This is never part of the verdict: it is shown beside it, on
 * request.
 */
import type { Backend } from '../backend/backend.js';
import { mapTypesByClass, TLP_CLASSES } from '../kernel/proposed/tlp-class.js';
import type { ClientVerdict, Explanation } from './explain.js';

export function withProposed({ topology }: Pick<Backend, 'topology'>, explanation: Explanation): Explanation {
  const provider = topology.find(explanation.provider)!;
  const clients = explanation.clients.map((verdict): ClientVerdict => {
    const mapTypes = mapTypesByClass(topology, provider, topology.find(verdict.bdf)!);
    const classes = TLP_CLASSES.map((tlp, i) => ({
      ...tlp,
      mapType: mapTypes[i]!.slice('PCI_P2PDMA_MAP_'.length) as ClientVerdict['mapType'],
    }));
    return { ...verdict, proposed: { classes, hmat: 'not known' } };
  });
  return { ...explanation, clients };
}
