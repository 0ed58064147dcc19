/**
 * Opens a machine from what somebody sent about it. For each kind of input there is a reader that turns it into the files that
 * the kernel of that machine would show, in memory. Then the ordinary sysfs reader reads those files.
 */
import type { DescribeOptions } from '../backend/system-options.js';
import { optionError } from '../base/arguments.js';
import type { P2pdmaError } from '../base/errors.js';
import { said } from '../base/sentence.js';
import { CapturedBackend } from '../native/backend.js';
import { readSysfs } from '../native/sysfs/machine.js';
import { openArchive } from './archive.js';
import { processorOf } from './cpu.js';
import { putFunctions } from './functions.js';
import { type Input, lookAt } from './input.js';
import { lspciText } from './lspci-text.js';
import { Gathered, type Reader, type Sent } from './sent.js';

const CPUINFO = ['proc', 'cpuinfo'];
const GROUPS = ['sys', 'kernel', 'iommu_groups'];

/** The first reader that recognises an input reads it. */
const READERS: readonly Reader[] = [lspciText];

/**
 * Read the captured data. Nothing is unpacked to disk, and only the named inputs are opened.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE: no input contains anything about a machine
 */
export async function openSent(inputs: readonly Input[], options: DescribeOptions): Promise<CapturedBackend> {
  const cpu = options.cpu === undefined ? null : processorOf(options.cpu);
  const { name, sent, tree } = await lookAt(inputs);
  if (tree !== null) {
    if (inputs.length > 1) throw besideTree(tree);
    return openTree(tree, options);
  }
  const gathered = new Gathered(name);
  const { files } = gathered;
  for (const one of sent) {
    for (const text of await openArchive(one, gathered)) readOne(text, gathered);
  }
  if (gathered.functions.size + gathered.captured.size === 0) throw unknownInput(name);
  if (cpu !== null && !files.put(CPUINFO, cpu)) throw saysItself(name, options.cpu!);
  files.peerMemory = gathered.wholeFunctions;
  putFunctions(gathered);
  accountForRest(gathered, options);
  return new CapturedBackend(readSysfs(files, options.kernel), gathered.evidence());
}

/** Open a folder that contains sys/ and proc/; the kernel's files are already there. */
function openTree(tree: string, options: DescribeOptions): CapturedBackend {
  if (options.cpu !== undefined) throw saysItself(tree, options.cpu);
  const recognised = ['a folder with sys/ and proc/'];
  return new CapturedBackend(readSysfs(tree, options.kernel), { recognised, notKnown: [] });
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
  const reader = READERS.find((one) => one.fits(sent));
  if (reader !== undefined) reader.read(sent, into);
  else if (!sent.optional)
    into.notKnown(`what '${sent.name}' says`, 'it is not recognised, and nothing of it was read');
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
