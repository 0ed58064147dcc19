/** What to know before using an answer of `explain`. */
import { isNvme, whyNotPublished } from '../backend/names.js';
import type { PciDev, Topology } from '../backend/topology.js';
import { KERNEL_BUGS, type KernelBug } from '../kernel/releases/bugs.js';
import { holds } from '../kernel/releases/rule.js';
import { withheldFromPrograms } from '../kernel/releases/table.js';

/**
 * What to know about an answer. `no-p2pmem`: the provider has no peer memory, and the answer assumes that it has some;
 * `p2pmem-unknown`: the same, and it is not known whether it has any; `unpublished`: streams will not choose it;
 * `no-peer-mapping`: the machine's DMA operations cannot map peer memory; `kernel-bug`: a known bug of the kernel can
 * bring wrong data.
 * @inline
 */
export interface ExplanationNote {
  /** What it is about. */
  kind:
    | 'no-p2pmem'
    | 'p2pmem-unknown'
    | 'unpublished'
    | 'no-peer-mapping'
    | 'not-for-programs'
    | 'kernel-bug';
  /** The same in words. */
  text: string;
  /** The `refusal` that clients have for the same reason; absent: they have none. */
  refusal?: string;
}

/** This holds for every path: the kernel asks the client's DMA operations only after the distance. */
export const NO_PEER_MAPPING =
  'the DMA operations of this machine cannot map peer memory, so its queues refuse it whatever the way';

export function notesOn({ iommu, kernel, peerMemory }: Topology, provider: PciDev): ExplanationNote[] {
  const { bdf, p2pmem } = provider;
  const notes: ExplanationNote[] = [];
  if (p2pmem === null && peerMemory === 'unknown') {
    const text = `whether ${bdf} provides p2pmem is not known; answered as if it did`;
    notes.push({ kind: 'p2pmem-unknown', text });
  } else if (p2pmem === null) {
    notes.push({ kind: 'no-p2pmem', text: `${bdf} provides no p2pmem; answered as if it did` });
  } else if (!p2pmem.published) {
    const text = isNvme(provider)
      ? `the p2pmem of ${bdf} is not published: streams will not choose it`
      : `${bdf}: ${whyNotPublished(provider)}; answered as if it did not`;
    notes.push({ kind: 'unpublished', text });
  }
  if (iommu === 'unsupported') {
    notes.push({
      kind: 'no-peer-mapping',
      text: `${NO_PEER_MAPPING}: copies go through host memory`,
      refusal: NO_PEER_MAPPING,
    });
  }
  const withheld = withheldFromPrograms(kernel);
  if (withheld !== null) {
    notes.push({
      kind: 'not-for-programs',
      text: `${withheld}; what follows is for its own drivers (nvmet)`,
      refusal: withheld,
    });
  }
  const text = kernel?.text;
  const bugs = KERNEL_BUGS.filter((bug) => isInCopies(bug) && holds(bug.rule, kernel) === 'yes');
  for (const { consequence, condition } of bugs) {
    notes.push({
      kind: 'kernel-bug',
      text: `Linux ${text} has a known bug: ${consequence}, if ${condition}; \`p2pdma doctor\` has the way out`,
    });
  }
  return notes;
}

/** It can bring wrong data in what this package does: a mirror with a leg out of reach is refused. */
function isInCopies({ id, risk }: KernelBug): boolean {
  return risk === 'data' && id !== 'mirror';
}
