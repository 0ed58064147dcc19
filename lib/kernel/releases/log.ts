/**
 * What the kernel logs about P2PDMA, and when (drivers/pci/p2pdma.c, drivers/nvme/host/pci.c). The kernel calculates
 * the verdict for a pair once and caches it, so a second refused transfer logs nothing.
 *
 *     a pair is refused, no common bridge     NOT_SHARED, which names no host bridge
 *     a pair is refused, ACS sent it up       the same, and HOST_BRIDGE, which names it by vendor and device
 */
import type { KernelRelease } from '../../backend/kernel-release.js';
import { holds, type Rule } from './rule.js';

export interface KernelMessage {
  /** The text in the log; … stands for the variable parts. */
  readonly text: string;
  /** When it is printed, as a clause. */
  readonly when: string;
  /** The releases to which this, or this form of the text, applies. */
  readonly rule: Rule;
}

const line = (text: string, when: string, rest: Omit<Rule, 'what'>): KernelMessage => ({
  text,
  when,
  rule: { what: `the log has “${text}” ${when}`, ...rest },
});

const SOURCE = { since: [5, 18, 0], commits: [], source: 'source of 6.12.117', sure: 'read' } as const;

/** The line for a provider, when its memory is registered. */
export const ADDED = line('added peer-to-peer DMA memory 0x…-0x…', 'when a driver registers memory', SOURCE);

export const NOT_SHARED = line(
  'cannot be used for peer-to-peer DMA as the client and provider (…) do not share an upstream bridge or whitelisted host bridge',
  'when the first transfer of a pair is refused',
  SOURCE,
);

export const HOST_BRIDGE = line(
  'Host bridge not in P2PDMA whitelist: ….:….',
  'only where ACS sent the traffic up to a host bridge that is not on the host bridge allow-list; also during a search for a provider',
  { ...SOURCE, until: [7, 4, 0] },
);

export const HOST_BRIDGE_VERBOSE = line(
  'Host bridge not in P2PDMA whitelist: ….:….',
  'only when it gives the reason why a pair is refused',
  { since: [7, 4, 0], commits: ['36038f0e'], source: 'queue for 7.4', sure: 'read' },
);

export const ACS_REDIRECT = line(
  'ACS redirect is set between the client and provider (…)',
  'before the advice to boot with pci=disable_acs_redir=…;…, which up to 7.3 is cut after nine functions',
  SOURCE,
);

export const CMB_FAILED = line(
  'failed to register the CMB',
  'when memory hot-plug refuses a CMB; on kernels that do not skip a misaligned CMB, after a WARNING from memory hot-plug',
  SOURCE,
);

export const MESSAGES: readonly KernelMessage[] = [
  ADDED,
  NOT_SHARED,
  HOST_BRIDGE,
  HOST_BRIDGE_VERBOSE,
  ACS_REDIRECT,
  CMB_FAILED,
];

/** Finds all of these lines. */
export const LOG_COMMAND = "sudo dmesg | grep -iE 'peer-to-peer|p2pdma|acs redirect|cmb'";

/** Which line the kernel logs when it refuses such a pair, as a sentence with the command that finds the line. */
export function refusalInLog(
  release: KernelRelease | null,
  { commonBridge }: { readonly commonBridge: boolean },
): string {
  const once = 'A refusal is in the log, once for a pair (`sudo dmesg | grep -i whitelist`)';
  if (commonBridge || holds(HOST_BRIDGE_VERBOSE.rule, release) !== 'no') {
    const sure = commonBridge ? '' : ', of the queue for 7.4 perhaps,';
    return `${once}: “do not share an upstream bridge or whitelisted host bridge”, and${sure} “Host bridge not in P2PDMA whitelist” with the bridge that is not on the host bridge allow-list.`;
  }
  return `${once}: “do not share an upstream bridge or whitelisted host bridge”. Without a common bridge, it does not say which bridge is not on the host bridge allow-list.`;
}
