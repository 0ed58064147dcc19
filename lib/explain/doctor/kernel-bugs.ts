/** Known bugs of this machine's kernel, if the machine meets the conditions of the bug. */
import { list } from '../../base/words.js';
import { KERNEL_BUGS, type KernelBug } from '../../kernel/releases/bugs.js';
import { holds } from '../../kernel/releases/rule.js';
import type { MachineFacts } from './facts.js';
import { type Finding, finding } from './finding.js';

/** Does this machine meet the conditions of the bug? `true`: yes, and `what` describes how; null: that cannot be determined. */
type Met = { readonly met: true; readonly what: string } | { readonly met: false | null };

const NOT_MET: Met = { met: false };
const NOT_TOLD: Met = { met: null };

export function checkKernelBugs(facts: MachineFacts): Finding[] {
  const { kernel } = facts.machine.topology;
  const known = KERNEL_BUGS.filter(({ rule }) => holds(rule, kernel) === 'yes');
  return known.flatMap((bug) => {
    // The kernel of an emulated machine does not hang or leak.
    if (facts.kind === 'emulated' && bug.risk === 'device') return [];
    return judge(facts, bug, kernel!.text);
  });
}

function judge(facts: MachineFacts, bug: KernelBug, release: string): Finding[] {
  const met = MET[bug.id](facts);
  if (met.met === false) return [];
  const { condition, consequence, remedy, commands } = bug;
  const fact =
    met.met === true
      ? `a bug of Linux ${release} can strike here (${met.what}): ${consequence}`
      : `a bug of Linux ${release}: ${consequence}, if ${condition}`;
  return [finding('kernel', bug.risk === 'device' ? 'ok' : 'warning', fact, remedy, commands)];
}

const MET: Record<KernelBug['id'], (facts: MachineFacts) => Met> = {
  'free-sgls': ({ kernel }) => (kernel?.sglThreshold === 0 ? NOT_MET : NOT_TOLD),
  'dma-vec-leak': ({ machine, pairs }) => {
    const { iommu } = machine.topology;
    if (iommu === 'none' || iommu === 'unsupported') return NOT_MET;
    const byBus = pairs().some(({ provider, clients }) =>
      clients.some(({ bdf, mapType }) => bdf !== provider && mapType === 'BUS_ADDR'),
    );
    if (!byBus) return NOT_MET;
    return iommu === 'unknown'
      ? NOT_TOLD
      : { met: true, what: 'an IOMMU translates, and pairs go by the bus' };
  },
  mirror: ({ mirrors }) =>
    mirrors.length === 0 ? NOT_MET : { met: true, what: `mirrors on NVMe drives: ${list(mirrors)}` },
  'mmap-leak': ({ machine }) =>
    machine.topology.functions.some(({ p2pmem }) => p2pmem !== null) ? NOT_TOLD : NOT_MET,
  'acs-list': ({ pairs }) => {
    let longest = 0;
    for (const { clients } of pairs()) {
      for (const { acs } of clients) longest = Math.max(longest, acs.length);
    }
    return longest < 10
      ? NOT_MET
      : { met: true, what: `${longest} functions on the way of one pair redirect` };
  },
};
