/**
 * Opens a machine from what somebody sent about it. For each kind of input there is a reader that turns it into the files that
 * the kernel of that machine would show, in memory. Then the ordinary sysfs reader reads those files.
 */
import type { DescribeOptions } from '../backend/system-options.js';
import { optionError } from '../base/arguments.js';
import type { P2pdmaError } from '../base/errors.js';
import { said } from '../base/sentence.js';
import { size } from '../base/words.js';
import { CapturedBackend } from '../native/backend.js';
import { readSysfs } from '../native/sysfs/machine.js';
import { openArchive } from './archive.js';
import { processorOf } from './cpu.js';
import { putDrives } from './drives.js';
import { openUnpacked } from './folder.js';
import { putFunctions } from './functions.js';
import { cpuinfo, procVersion, takeRelease, uname } from './host-texts.js';
import { type Input, lookAt } from './input.js';
import { compareWithLog, kernelLog } from './kernel-log.js';
import { lsblk, nvmeList, nvmeListSubsys } from './listings.js';
import { lspciText } from './lspci-text.js';
import { Gathered, type Reader, type Sent, SentText } from './sent.js';

const CPUINFO = ['proc', 'cpuinfo'];
const GROUPS = ['sys', 'kernel', 'iommu_groups'];

/** Each that recognises something in a text reads it: one file may hold what several commands printed. */
const READERS: readonly Reader[] = [
  nvmeList,
  nvmeListSubsys,
  lsblk,
  uname,
  procVersion,
  cpuinfo,
  kernelLog,
  lspciText,
];

/** Far more than anybody's log. */
const MOST_OF_A_TEXT = 256 * 2 ** 20;

/**
 * Read the captured data. Nothing is unpacked to disk, and only the named inputs are opened.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE: no input contains anything about a machine
 */
export async function openSent(inputs: readonly Input[], options: DescribeOptions): Promise<CapturedBackend> {
  const cpu = options.cpu === undefined ? null : processorOf(options.cpu);
  const { name, sent, tree, reports } = await lookAt(inputs);
  if (tree !== null) {
    if (inputs.length > 1) throw besideTree(tree);
    return openTree(tree, options);
  }
  const gathered = new Gathered(name);
  const { files } = gathered;
  const texts: Sent[] = [];
  for (const report of reports) texts.push(...(await openUnpacked(report, gathered)));
  for (const one of sent) texts.push(...(await openArchive(one, gathered)));
  takeRelease(gathered);
  for (const text of texts) readOne(text, gathered);
  if (gathered.functions.size + gathered.captured.size === 0) throw unknownInput(name);
  if (cpu !== null && !files.put(CPUINFO, cpu)) throw saysItself(name, options.cpu!);
  files.peerMemory = gathered.wholeFunctions;
  putFunctions(gathered);
  putDrives(gathered);
  accountForRest(gathered, options);
  const sysfs = readSysfs(files, options.kernel);
  compareWithLog(sysfs.topology, gathered);
  return new CapturedBackend(sysfs, gathered.evidence(), gathered.cutAfter);
}

/** Open a folder that contains sys/ and proc/; the kernel's files are already there. */
function openTree(tree: string, options: DescribeOptions): CapturedBackend {
  if (options.cpu !== undefined) throw saysItself(tree, options.cpu);
  const recognised = ['a folder with sys/ and proc/'];
  return new CapturedBackend(readSysfs(tree, options.kernel), {
    recognised,
    notKnown: [],
    contradictions: [],
  });
}

function saysItself(name: string, cpu: string): P2pdmaError {
  return optionError('ERR_INVALID_ARG_VALUE', 'cpu', `'${name}' says itself which processor it has`, {
    received: cpu,
    hint: 'Drop it.',
  });
}

/** The kernel's own files are not combined with other descriptions of the same machine. */
function besideTree(tree: string): P2pdmaError {
  return optionError(
    'ERR_INVALID_ARG_VALUE',
    'from',
    `'${tree}' holds sys/ and proc/, and nothing else is read beside such a folder`,
    { path: tree, hint: 'Send either the folder or the other files.' },
  );
}

function readOne(sent: Sent, into: Gathered): void {
  const what = `what '${sent.name}' says`;
  if (sent.bytes.length > MOST_OF_A_TEXT) {
    into.notKnown(what, `it has more than ${size(MOST_OF_A_TEXT)}, and nothing of it was read`);
    return;
  }
  const text = new SentText(sent);
  const readers = READERS.filter((one) => one.fits(text));
  for (const reader of readers) reader.read(text, into);
  if (readers.length === 0 && !sent.optional)
    into.notKnown(what, 'it is not recognised, and nothing of it was read');
}

function unknownInput(name: string): P2pdmaError {
  return optionError(
    'ERR_INVALID_ARG_VALUE',
    'from',
    `nothing in '${name}' says anything of a machine’s PCI functions`,
    {
      path: name,
      hint: 'Send the output of `sudo lspci -xxxx`, or a folder or an archive that holds copies of /sys and /proc.',
    },
  );
}

/** The words of lspci show which group a function is in, not of which type the groups are. An empty folder: there are none. */
function showsGroupTypes(files: Gathered['files']): boolean {
  if (files.kindOf(GROUPS) !== 'directory') return false;
  const groups = files.entries(GROUPS);
  return (
    groups.length === 0 || groups.some(({ name }) => files.kindOf([...GROUPS, name, 'type']) !== undefined)
  );
}

/** Record what none of the files can show, whatever the data is. */
function accountForRest(gathered: Gathered, { kernel }: DescribeOptions): void {
  const { files } = gathered;
  if (files.kindOf(CPUINFO) === undefined) {
    gathered.notKnown(
      'the processor',
      said((option) => `name it with ${option('cpu')}`),
    );
  }
  const release = files.kindOf(['proc', 'sys', 'kernel', 'osrelease']) ?? files.kindOf(['proc', 'version']);
  if (kernel === undefined && release === undefined) {
    gathered.notKnown(
      'the kernel',
      said((option) => `name its release with ${option('kernel')}`),
    );
  }
  const whose = gathered.captured.size > 0 ? 'what was copied' : 'lspci';
  if (!files.peerMemory) {
    const where = '/sys/bus/pci/devices/*/p2pmem does';
    gathered.notKnown('peer memory (CMBs)', `${whose} does not show it: ${where}`);
  }
  if (!showsGroupTypes(files)) {
    gathered.notKnown('the IOMMU’s mode', `${whose} does not show it: /sys/kernel/iommu_groups does`);
  }
}
