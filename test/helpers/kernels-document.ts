/** docs/kernels.md: which kernel has which feature, from the tables that the verdicts use. */

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

/** The rules for host bridges, each with its table rows. */
function bridges(): Map<Rule, string[]> {
  const byRule = new Map<Rule, string[]>();
  for (const { vendor, device, sameHostBridge, rule } of HOST_BRIDGES) {
    const id = `${hex(vendor)}:${device === null ? '*' : hex(device)}${sameHostBridge ? '¹' : ''}`;
    byRule.set(rule, [...(byRule.get(rule) ?? []), id]);
  }
  return byRule;
}

function endOf({ until, untilCandidate, endings = [] }: Rule): string {
  if (until === undefined) return 'not fixed';
  const first = `${versionText(until)}${untilCandidate === undefined ? '' : `-rc${untilCandidate}`}`;
  return [first, ...endings.map(versionText)].join(', ');
}

export function kernelsDocument(): string {
  const byRule = bridges();
  const since = (rule: Rule) => sinceText(rule).replace('Linux ', '');
  return [
    '# Which kernel',
    '',
    'Programs can use peer-to-peer DMA on Linux 6.2 or newer, if the kernel is built with `CONFIG_PCI_P2PDMA`. What else works',
    'depends on the release. This page is generated from the tables that `p2pdma explain` and `p2pdma doctor` use, as of',
    `${TABLE_DATE}. What was queued for Linux 7.4 had not been released by then, and may have changed.`,
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
    'A blank cell means that this release does not have it. In no release do device mapper (LVM, dm-crypt), md with parity, loop',
    `devices and NVMe over TCP take peer memory. The verdict for a pair of drives can change at ${KERNEL_RELEASES.slice(
      1,
    )
      .map((text) => text.replace(/\.0$/, ''))
      .join(', ')}.`,
    '',
    '## Host bridges',
    '',
    'Traffic that does not turn around below a common bridge goes through a host bridge, and the kernel must trust that host bridge.',
    'It trusts all host bridges of AMD processors since Zen (not Hygon’s), and those on its host bridge allow-list. The list',
    'identifies a host bridge by the first device on its root bus.',
    '',
    ...table(
      ['what', 'since', 'devices', 'source'],
      [...byRule].map(([rule, ids]) => [
        rule.what.replace('the host bridge allow-list has ', ''),
        since(rule),
        ids.map((id) => `\`${id.replace('¹', '')}\`${id.endsWith('¹') ? '¹' : ''}`).join(' '),
        sourceOf(rule),
      ]),
    ),
    '',
    '¹ Only between devices below one and the same host bridge.',
    '',
    'Some kernels may have a longer host bridge allow-list than this one: those of distributions other than Debian, those newer than',
    'the table, and series that may have a backport. There, `explain` does not say that the kernel refuses. It says `UNKNOWN`, with the rule',
    '`host-bridge-list-unknown`. `explain --try` asks the kernel itself: it reads one block into the provider’s memory and writes',
    'nothing to a drive.',
    '',
    '## What the kernel log says',
    '',
    `\`${LOG_COMMAND}\` finds these messages. The kernel calculates the verdict for a pair once and keeps it, so a second refusal leaves no message.`,
    '',
    ...table(
      ['message', 'when it appears', 'since', 'until (exclusive)'],
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
    `The directory \`/sys/bus/pci/devices/<address>/p2pmem\` contains the files ${P2PMEM_FILES.map((name) => `\`${name}\``).join(', ')}.`,
    'A program maps `allocate` (shared), which takes the whole length from the pool at once. A page goes back to the pool when its',
    'last user releases it. The kernel does not check whether the memory is published, so this package does. The errors of mmap are',
    'the same in all releases since 6.2:',
    '',
    ...table(
      ['errno', 'when'],
      Object.entries(MMAP_ANSWERS).map(([errno, when]) => [`\`${errno}\``, when]),
    ),
    '',
    '## Known bugs',
    '',
    ...table(
      ['bug', 'since', 'fixed in', 'occurs if', 'consequence', 'workaround'],
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
      ['distribution', 'which kernels', 'CONFIG_PCI_P2PDMA', 'note', 'certainty'],
      DISTRIBUTIONS.map(({ vendor, which, p2pdma, note, sure }) => [
        vendor,
        which,
        p2pdma === null ? 'not known' : p2pdma ? 'yes' : 'no',
        note ?? '',
        sure,
      ]),
    ),
    '',
    'The certainty is *read* if it was seen in source, a patch or a configuration, *listed* if it is in a list of changes or was said',
    'by users of that kernel, and *inferred* if it was concluded from other facts. For a kernel that is not in the table, look at its',
    'configuration: `grep PCI_P2PDMA "/boot/config-$(uname -r)"`.',
    '',
    '## Sources of the other rules',
    '',
    ...RULES.map(
      (rule) =>
        `- ${rule.what[0]!.toUpperCase()}${rule.what.slice(1)}: ${sinceText(rule)}; ${sourceOf(rule)}.`,
    ),
    '',
  ].join('\n');
}
