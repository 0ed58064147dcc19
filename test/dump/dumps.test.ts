/**
 * What people send of lspci, one text for each shape, written from machines whose verdicts are known. `UPDATE_DUMPS=1` writes
 * the texts anew, by the lspci that is installed.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { describeMachine, openSystem, type Topology } from '../../lib/index.js';
import { hexDump, lspci } from '../helpers/lspci-dump.js';
import { asIn35, asIn314, quoted, withKernelLines, wrapped } from '../helpers/lspci-words.js';
import { verdictLines } from '../helpers/sent-verdicts.js';

interface Dump {
  readonly file: string;
  /** The preset that it describes. */
  readonly machine: string;
  readonly write: (of: Topology) => string;
  readonly recognised: readonly string[];
  /** What is not known beside what lspci never shows. */
  readonly notKnown: readonly string[];
  readonly verdicts: readonly string[];
}

/** What lspci never shows. */
const NEVER = new Set(['peer memory (CMBs)', 'the IOMMU’s mode']);

const words = (of: Topology, ...options: string[]) => withKernelLines(lspci(hexDump(of), ...options));

/** What is known of nested-switches from a whole text: every drive reaches every other below the common switch. */
const BELOW_ONE_SWITCH = [
  '0000:03:00.0 to 0000:03:00.0: BUS_ADDR, same-function',
  '0000:03:00.0 to 0000:06:00.0: BUS_ADDR, common-bridge',
  '0000:03:00.0 to 0000:07:00.0: BUS_ADDR, common-bridge',
  '0000:06:00.0 to 0000:03:00.0: BUS_ADDR, common-bridge',
  '0000:06:00.0 to 0000:06:00.0: BUS_ADDR, same-function',
  '0000:06:00.0 to 0000:07:00.0: BUS_ADDR, common-bridge',
  '0000:07:00.0 to 0000:03:00.0: BUS_ADDR, common-bridge',
  '0000:07:00.0 to 0000:06:00.0: BUS_ADDR, common-bridge',
  '0000:07:00.0 to 0000:07:00.0: BUS_ADDR, same-function',
];

const DUMPS: readonly Dump[] = [
  {
    file: 'root-acs.txt',
    machine: 'acs-listed',
    write: (of) => words(of, '-vvvnn'),
    recognised: ['lspci -vvnn, 7 functions'],
    notKnown: [],
    verdicts: [
      '0000:03:00.0 to 0000:03:00.0: BUS_ADDR, same-function',
      '0000:03:00.0 to 0000:04:00.0: THRU_HOST_BRIDGE, host-bridge-listed',
      '0000:04:00.0 to 0000:03:00.0: THRU_HOST_BRIDGE, host-bridge-listed',
      '0000:04:00.0 to 0000:04:00.0: BUS_ADDR, same-function',
    ],
  },
  {
    file: 'not-root.txt',
    machine: 'switch',
    write: (of) => withKernelLines(lspci(hexDump(of, { bytes: 64 }), '-vvvnn')),
    recognised: ['lspci -vvnn not as root, 7 functions'],
    notKnown: ['ACS and PCIe port types: only root sees the capabilities: sudo lspci -vvv'],
    verdicts: [
      '0000:03:00.0 to 0000:03:00.0: not known, acs-unknown',
      '0000:03:00.0 to 0000:04:00.0: not known, acs-unknown',
      '0000:04:00.0 to 0000:03:00.0: not known, acs-unknown',
      '0000:04:00.0 to 0000:04:00.0: not known, acs-unknown',
    ],
  },
  {
    file: 'wrapped-by-mail.txt',
    machine: 'nested-switches',
    write: (of) =>
      `On Tuesday, somebody wrote:\n\n${quoted(wrapped(words(of, '-vvvnn'), 72))}\n> --\n> somebody\n`,
    recognised: ['lspci -vvnn, 11 functions'],
    notKnown: [],
    verdicts: BELOW_ONE_SWITCH,
  },
  {
    file: 'cut.txt',
    machine: 'four-drives',
    write: (of) => {
      const [bridge, up, ...below] = words(of, '-vvvnn').split('\n\n').slice(1);
      const [first, second, , , drive, other] = below as [string, string, string, string, string, string];
      const half = (part: string, at: string) => part.slice(0, part.indexOf(at));
      const host = words(of, '-vvvnn').split('\n\n')[0]!;
      const elided = `${half(second, '\tCapabilities: [100')}\t[...]`;
      return [host, bridge!, up!, first, elided, drive, half(other, '\t\tDevCtl:')].join('\n\n');
    },
    recognised: ['lspci -vvnn, 7 functions'],
    notKnown: [
      'functions after 0000:04:00.0: the text may be cut there',
      'ACS and PCIe port types of 0000:02:01.0: their text is cut',
      'ACS of 0000:04:00.0: the text may have lost a line: sudo lspci -xxxx',
    ],
    verdicts: [
      '0000:03:00.0 to 0000:03:00.0: BUS_ADDR, same-function',
      '0000:03:00.0 to 0000:04:00.0: not known, way-unknown',
      '0000:04:00.0 to 0000:03:00.0: not known, way-unknown',
      '0000:04:00.0 to 0000:04:00.0: not known, way-unknown',
    ],
  },
  {
    file: 'names-and-tree.txt',
    machine: 'zen',
    write: (of) => `$ lspci\n${lspci(hexDump(of))}\n$ lspci -t\n${lspci(hexDump(of), '-t')}`,
    recognised: ['lspci, 5 functions', 'lspci -t, 5 functions'],
    notKnown: [
      'the IDs: the kernel knows a host bridge by its vendor and device ID, which lspci -nn shows',
      'ACS and PCIe port types: lspci without -v does not show it: sudo lspci -vvvnn',
    ],
    verdicts: [
      '0000:01:00.0 to 0000:01:00.0: not known, acs-unknown',
      '0000:01:00.0 to 0000:02:00.0: THRU_HOST_BRIDGE, cpu-zen',
      '0000:02:00.0 to 0000:01:00.0: THRU_HOST_BRIDGE, cpu-zen',
      '0000:02:00.0 to 0000:02:00.0: not known, acs-unknown',
    ],
  },
  {
    file: 'domains.txt',
    machine: 'nested-switches',
    write: (of) => words(of, '-D', '-vvnn'),
    recognised: ['lspci -vvnn, 11 functions'],
    notKnown: [],
    verdicts: BELOW_ONE_SWITCH,
  },
  {
    file: 'pciutils-3.5.txt',
    machine: 'root-ports-listed',
    write: (of) => asIn35(words(of, '-vvvnn')),
    recognised: ['lspci -vvnn, 5 functions'],
    notKnown: [],
    verdicts: [
      '0000:01:00.0 to 0000:01:00.0: BUS_ADDR, same-function',
      '0000:01:00.0 to 0000:02:00.0: THRU_HOST_BRIDGE, host-bridge-listed',
      '0000:02:00.0 to 0000:01:00.0: THRU_HOST_BRIDGE, host-bridge-listed',
      '0000:02:00.0 to 0000:02:00.0: BUS_ADDR, same-function',
    ],
  },
  {
    file: 'pciutils-3.14.txt',
    machine: 'acs',
    write: (of) => asIn314(words(of, '-vvvnn')),
    recognised: ['lspci -vvnn, 7 functions'],
    notKnown: [],
    verdicts: [
      '0000:03:00.0 to 0000:03:00.0: BUS_ADDR, same-function',
      '0000:03:00.0 to 0000:04:00.0: NOT_SUPPORTED, host-bridge-not-listed',
      '0000:04:00.0 to 0000:03:00.0: NOT_SUPPORTED, host-bridge-not-listed',
      '0000:04:00.0 to 0000:04:00.0: BUS_ADDR, same-function',
    ],
  },
];

for (const { file, machine, write, ...expected } of DUMPS) {
  t.test(file, async (t) => {
    const before = await openSystem({ machine });
    const { vendor, family } = before.topology.cpu;
    const path = fileURLToPath(new URL(`../../../test/fixtures/dumps/${file}`, import.meta.url));
    if (process.env.UPDATE_DUMPS === '1') writeFileSync(path, write(before.topology));
    const after = await describeMachine(readFileSync(path), {
      kernel: before.topology.kernel!.text,
      cpu: `${vendor}:${family}`,
    });
    t.strictSame(after.evidence?.recognised, expected.recognised);
    t.strictSame(
      after.evidence?.notKnown.flatMap(({ what, why }) => (NEVER.has(what) ? [] : `${what}: ${why}`)),
      expected.notKnown,
    );
    t.match(
      after.evidence?.notKnown.slice(-2),
      [...NEVER].map((what) => ({ what })),
    );
    t.strictSame(verdictLines(after), expected.verdicts);
    await Promise.all([before.close(), after.close()]);
  });
}
