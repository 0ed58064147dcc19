/** docs/kernels.md: which kernel has what, from the tables that the verdicts are made of. */

import { parseRelease } from '../../lib/backend/kernel-release.js';
import { KERNEL_RELEASES } from '../../lib/index.js';
import { KERNEL_BUGS } from '../../lib/kernel/releases/bugs.js';
import { DISTRIBUTIONS } from '../../lib/kernel/releases/distributions.js';
import { HOST_BRIDGES } from '../../lib/kernel/releases/host-bridges.js';
import { LOG_COMMAND, MESSAGES } from '../../lib/kernel/releases/log.js';
import { MMAP_ANSWERS, P2PMEM_FILES } from '../../lib/kernel/releases/memory.js';
import { holds, type Rule, sinceText, TABLE_DATE, versionText } from '../../lib/kernel/releases/rule.js';
import { RULES } from '../../lib/kernel/releases/table.js';

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] => [
  `| ${head.join(' | ')} |`,
  `|${head.map(() => '---').join('|')}|`,
  ...rows.map((row) => `| ${row.join(' | ')} |`),
];

const hex = (value: number) => value.toString(16).padStart(4, '0');
const ANSWERS = { yes: 'yes', no: '', unknown: '?' } as const;
const SERIES = [
  '6.2.0',
  '6.8.0',
  '6.12.117',
  '6.17.0',
  '6.18.0',
  '7.0.0',
  '7.1.2',
  '7.1.3',
  '7.2.0',
  '7.3.0',
  '7.4',
];

function sourceOf({ commits, source, sure }: Rule): string {
  return [`${source} (${sure})`, ...commits.map((commit) => `\`${commit}\``)].join(', ');
}

/** Rules of host bridges, each with its rows. */
function bridges(): Map<Rule, string[]> {
  const byRule = new Map<Rule, string[]>();
  for (const { vendor, device, sameHostBridge, rule } of HOST_BRIDGES) {
    const id = `${hex(vendor)}:${device === null ? '*' : hex(device)}${sameHostBridge ? '¹' : ''}`;
    byRule.set(rule, [...(byRule.get(rule) ?? []), id]);
  }
  return byRule;
}

function endOf({ until, untilCandidate, endings = [] }: Rule): string {
  if (until === undefined) return 'not mended';
  const first = `${versionText(until)}${untilCandidate === undefined ? '' : `-rc${untilCandidate}`}`;
  return [first, ...endings.map(versionText)].join(', ');
}

export function kernelsDocument(): string {
  const byRule = bridges();
  const since = (rule: Rule) => sinceText(rule).replace('Linux ', '');
  return [
    '# Which kernel',
    '',
    'Peer-to-peer DMA from programs needs Linux 6.2 or newer, built with `CONFIG_PCI_P2PDMA`. What else works depends on the',
    `release. This page is made of the tables that \`p2pdma explain\` and \`p2pdma doctor\` use, as of ${TABLE_DATE}. What was`,
    'queued for Linux 7.4 then was not released, and may have changed.',
    '',
    '```sh',
    'npx p2pdma explain --machine root-ports --kernel 7.2   # what another kernel would say of a machine',
    'npx p2pdma explain --machine root-ports --kernel all   # from which release on each pair works',
    'npx p2pdma explain nvme0 nvme1 --try --machine switch  # ask the kernel itself: one block is read',
    'npx p2pdma doctor --machine switch --kernel 7.2',
    '```',
    '',
    '## By release',
    '',
    ...table(
      ['', ...SERIES],
      [...RULES, ...byRule.keys()].map((rule) => [
        rule.what,
        ...SERIES.map((release) => ANSWERS[holds(rule, parseRelease(release))]),
      ]),
    ),
    '',
    'An empty cell: it does not. Device mapper (LVM, dm-crypt), md with parity, loop devices and NVMe over TCP take no peer memory',
    `in any release. The verdict for a pair of drives can change at ${KERNEL_RELEASES.slice(1)
      .map((text) => text.replace(/\.0$/, ''))
      .join(', ')}.`,
    '',
    '## Host bridges',
    '',
    'Traffic that does not turn round below a common bridge goes through a host bridge, which the kernel must trust: all of those of',
    'AMD processors from Zen on (not Hygon’s), and those on this list, by the first device on their root bus.',
    '',
    ...table(
      ['what', 'since', 'devices', 'known from'],
      [...byRule].map(([rule, ids]) => [
        rule.what.replace('the host bridge list has ', ''),
        since(rule),
        ids.map((id) => `\`${id.replace('¹', '')}\`${id.endsWith('¹') ? '¹' : ''}`).join(' '),
        sourceOf(rule),
      ]),
    ),
    '',
    '¹ Only between devices below one and the same host bridge.',
    '',
    'A kernel whose list may be longer than this one (a distribution’s other than Debian’s, one newer than the table, a series that',
    'may have a backport) is no reason for a refusal: `explain` says `UNKNOWN` with the rule `host-bridge-list-unknown`. The kernel',
    'itself is asked with `explain --try`: one block is read into the provider’s memory, and nothing is written to a drive.',
    '',
    '## What the kernel log says',
    '',
    `\`${LOG_COMMAND}\` finds these. The verdict of a pair is calculated once and kept: a second refusal leaves no line.`,
    '',
    ...table(
      ['text', 'when', 'from', 'up to before'],
      MESSAGES.map(({ text, when, rule }) => [
        `“${text}”`,
        when,
        since(rule),
        rule.until === undefined ? '' : versionText(rule.until),
      ]),
    ),
    '',
    '## A provider’s memory',
    '',
    `In \`/sys/bus/pci/devices/<address>/p2pmem\` are ${P2PMEM_FILES.map((name) => `\`${name}\``).join(', ')}. A program maps \`allocate\` (shared), whose`,
    'whole length is taken from the pool then; pages go back one by one, each with its last user. Whether the memory is published',
    'is not asked, which is why this package asks. What mmap answers is the same in all releases from 6.2 on:',
    '',
    ...table(
      ['errno', 'when'],
      Object.entries(MMAP_ANSWERS).map(([errno, when]) => [`\`${errno}\``, when]),
    ),
    '',
    '## Bugs to know',
    '',
    ...table(
      ['bug', 'since', 'mended in', 'it takes', 'what happens', 'way out'],
      KERNEL_BUGS.map(({ rule, condition, consequence, remedy }) => [
        rule.what,
        since(rule),
        endOf(rule),
        condition,
        consequence,
        remedy,
      ]),
    ),
    '',
    '## Distributions',
    '',
    ...table(
      ['distribution', 'which kernels', 'CONFIG_PCI_P2PDMA', 'to know', 'how sure'],
      DISTRIBUTIONS.map(({ vendor, which, p2pdma, note, sure }) => [
        vendor,
        which,
        p2pdma === null ? 'not known' : p2pdma ? 'yes' : 'no',
        note ?? '',
        sure,
      ]),
    ),
    '',
    'read: in source, a patch or a configuration; listed: in a list of changes, or said by those who use it; inferred: reasoned. Of a',
    'kernel that is not in the table, its configuration tells: `grep PCI_P2PDMA "/boot/config-$(uname -r)"`.',
    '',
    '## Where the rest is known from',
    '',
    ...RULES.map(
      (rule) =>
        `- ${rule.what[0]!.toUpperCase()}${rule.what.slice(1)}: ${sinceText(rule)}; ${sourceOf(rule)}.`,
    ),
    '',
  ].join('\n');
}
