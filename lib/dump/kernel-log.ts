/**
 * The kernel's log: which function has which name, what the kernel is, and what it said of peer-to-peer DMA. It says that once for
 * a pair. Its refusals are compared with what is calculated here from everything else that was sent.
 */
import { parseRelease } from '../backend/kernel-release.js';
import { isBdf } from '../backend/names.js';
import type { Bdf, PciDev, Topology } from '../backend/topology.js';
import { list } from '../base/words.js';
import { calcMapTypeAndDist } from '../kernel/pci-p2pdma-distance.js';
import { LINUX_VERSION, tellRelease } from './host-texts.js';
import { plainLine } from './lspci.js';
import type { Gathered, LoggedPair, Reader, SentText } from './sent.js';

/** As syslog and journalctl begin a line; then `[    1.234567] `, or the time of day of `dmesg -T`; then who said it. */
const SYSLOG = '(?:.{1,80} kernel: )';
const TIME = '(?:\\[ *\\d+\\.\\d{6}\\] |\\[\\w{3} \\w{3} [ \\d]\\d [\\d:]{8} \\d{4}\\] )';
const STAMP = new RegExp(`^(?:<\\d+>)?(?:${SYSLOG}${TIME}?|${TIME})(?:\\[ *[TC]\\d+\\] )?`);
const BDF = '(\\S{7,16})';
const NAMED = new RegExp(`^nvme (nvme\\d+): pci function ${BDF}$`);
const ADDED = new RegExp(`^\\S+ ${BDF}: added peer-to-peer DMA memory `);
const REFUSED = new RegExp(
  `^\\S+ ${BDF}: cannot be used for peer-to-peer DMA as the client and provider \\(${BDF}\\) do not share`,
);
const REDIRECT = new RegExp(`^\\S+ ${BDF}: ACS redirect is set between the client and provider \\(${BDF}\\)`);
const OF_PEERS = /peer-to-peer DMA|the client and provider/;
const MOST_PAIRS = 10_000;

export const kernelLog: Reader = {
  fits: ({ start }) => start.split('\n').some((line) => STAMP.test(plainLine(line))),
  read: readLog,
};

/** What one boot said. A log may go over several boots; only the last is the machine as it is. */
class Boot {
  release: string | null = null;
  /** The latest function of each name, and name of each function: a drive that was plugged in again may have others. */
  readonly functions = new Map<string, Bdf>();
  readonly names = new Map<Bdf, string>();
  readonly pairs = new Map<string, LoggedPair>();
  readonly registered = new Set<string>();
  cut = 0;
}

function readLog({ name, text }: SentText, into: Gathered): void {
  let boot = new Boot();
  for (const raw of text.split('\n')) {
    const line = plainLine(raw);
    const words = line.replace(STAMP, '');
    if (words === line) continue;
    const release = LINUX_VERSION.exec(words)?.[1];
    if (release !== undefined) {
      boot = new Boot();
      boot.release = release;
    }
    readName(words.trimEnd(), boot);
    if (OF_PEERS.test(words) && !readPair(words, boot)) boot.cut++;
  }
  const count = boot.pairs.size + boot.registered.size;
  into.recognised(`the kernel’s log, ${count === 0 ? 'nothing' : count} of peer-to-peer DMA in it`);
  if (boot.cut > 0) {
    into.notKnown(
      `what ${boot.cut} of the lines on peer-to-peer DMA in '${name}' say`,
      'they are cut or wrapped',
    );
  }
  if (boot.release !== null) tellRelease(boot.release, 'the kernel’s log', into);
  for (const [address, controller] of boot.names)
    into.drives.controller(controller, { address }, 'the kernel’s log');
  for (const [key, pair] of boot.pairs) into.logged.set(key, pair);
  for (const bdf of boot.registered) into.registered.add(bdf);
}

function readName(words: string, { functions, names }: Boot): void {
  const [, name, bdf] = NAMED.exec(words) ?? [];
  if (name === undefined || bdf === undefined || !isBdf(bdf)) return;
  const before = functions.get(name);
  if (before !== undefined) names.delete(before);
  const other = names.get(bdf);
  if (other !== undefined) functions.delete(other);
  functions.set(name, bdf);
  names.set(bdf, name);
}

/** False: the line is not understood. */
function readPair(words: string, { pairs, registered }: Boot): boolean {
  const added = ADDED.exec(words)?.[1];
  if (added !== undefined && isBdf(added)) {
    registered.add(added);
    return true;
  }
  const refused = REFUSED.exec(words);
  const [, client, provider] = refused ?? REDIRECT.exec(words) ?? [];
  if (client === undefined || provider === undefined || !isBdf(client) || !isBdf(provider)) return false;
  const said = refused === null ? 'redirected' : 'refused';
  if (pairs.size >= MOST_PAIRS) return false;
  pairs.set(`${said} ${client} ${provider}`, { client, provider, said });
  return true;
}

/** Compare what the kernel said with what is calculated for the kernel that said it. */
export function compareWithLog(topology: Topology, into: Gathered): void {
  for (const { client, provider, said } of into.logged.values()) {
    const [from, to] = [topology.find(provider), topology.find(client)];
    if (from !== null && to !== null) comparePair(topology, { from, to, said }, into);
    else
      into.notKnown(
        `what ${client} is to ${provider}`,
        'the kernel’s log names the pair, and not both were sent',
      );
  }
  const unmeasured: string[] = [];
  for (const bdf of into.registered) {
    const dev = topology.find(bdf);
    if (dev !== null && dev.p2pmem !== null) continue;
    if (dev === null || topology.peerMemory === 'unknown') unmeasured.push(bdf);
    else
      into.contradiction(`the kernel’s log says that ${bdf} added peer-to-peer memory, and /sys shows none`);
  }
  if (unmeasured.length > 0) {
    const why = 'the kernel’s log says that it added some; p2pmem in /sys shows how much';
    into.notKnown(`the size of the peer-to-peer memory of ${list(unmeasured)}`, why);
  }
}

interface Compared {
  readonly from: PciDev;
  readonly to: PciDev;
  readonly said: LoggedPair['said'];
}

function comparePair(topology: Topology, { from, to, said }: Compared, into: Gathered): void {
  const kernel = parseRelease(into.release?.text ?? null) ?? topology.kernel;
  const host = { cpu: topology.cpu, ...(kernel == null ? {} : { kernel }) };
  const verdict = calcMapTypeAndDist(host, from, to);
  const who = `${to.bdf} as a client of ${from.bdf}`;
  if (said === 'redirected') {
    if (verdict.acsKnown && verdict.acs.length === 0) {
      into.contradiction(
        `the kernel’s log says that ACS redirects between ${to.bdf} and ${from.bdf}, and no ACS Control that was read does`,
      );
    }
  } else if (verdict.mapType === 'PCI_P2PDMA_MAP_UNKNOWN') {
    into.notKnown(
      `why the kernel refused ${who}`,
      'its log says that it did; the rest of the data does not decide it',
    );
  } else if (verdict.mapType !== 'PCI_P2PDMA_MAP_NOT_SUPPORTED') {
    into.contradiction(
      `the kernel’s log says that it refused ${who}; by what was sent, it would not: ${verdict.reason}`,
    );
  }
}
