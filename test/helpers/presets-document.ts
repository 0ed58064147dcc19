/** docs/presets.md: each machine with its picture, and what `explain` and a copy say on it. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { openSystem } from '../../lib/index.js';
import { presets } from '../../lib/machine/presets.js';

const main = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));

/** What each is good for. */
const USE: Record<string, string> = {
  switch: "The best case, to develop against; `backend: 'emulator'` without a machine means this one.",
  'nested-switches':
    'Is the nearest CMB chosen? Distances of 4 and 6 hops, and a third drive that can lend its memory.',
  'multi-function': 'Two functions of one device need no switch between them.',
  'root-ports':
    'The commonest server: no switch, and a processor that the kernel does not trust to route between ports.',
  'root-ports-listed':
    'The same server with a Xeon that is on the kernel’s host bridge allow-list: peer to peer, but through its host bridge.',
  zen: 'The same again with an AMD processor, all of which the kernel has trusted since the first Zen.',
  acs: 'The commonest disappointment: a switch, but its ports isolate what is below them. `explain` prints the boot parameter.',
  'acs-listed': 'Isolation without the disappointment: the host bridge passes on what the ports send up.',
  iommu: 'Addresses that a drive is given are an IOMMU’s, and all of them are given back at the end.',
  'iommu-switch': 'An IOMMU does not matter to traffic that stays below the switch.',
  'iommu-unsupported': 'The way is free, and yet no queue takes the memory, not even the drive’s own.',
  'bus-offset': 'Does the code take the CPU’s address of a BAR for the address on the bus? Here that fails.',
  'no-cmb': 'Most drives: the fallback to host memory, and what a receipt says of it.',
  'small-cmb': 'Chunks and queue depth that have to fit into very little.',
  'misaligned-cmb':
    'A CMB that `lspci` and the drive’s registers show, and Linux does not use; `list` and `doctor` say why.',
  'cmb-read-only': 'Memory that is there, but not for everything: never chosen unless it is named.',
  'four-drives': 'One read and several writes; drives without a CMB that use another’s.',
  mirror:
    'A kernel from 7.2 on would write only the leg that reaches the memory, and report success: so the mirror gets host memory, and `explain nvme0 md0` says why.',
  multipath:
    'Before Linux 7.2 a head takes no peer memory, except by NVMe commands; `--kernel 7.2` shows what an upgrade brings.',
};

export async function presetsDocument(): Promise<string> {
  const chapters: string[] = [];
  for (const [name, { description }] of Object.entries(presets)) {
    const use = USE[name];
    if (use === undefined) throw new Error(`say in presets-document.ts what '${name}' is good for`);
    chapters.push(
      [
        `## ${name}`,
        '',
        `${description} ${use}`,
        '',
        `![${name}](presets/${name}.svg)`,
        '',
        '```console',
        `$ npx p2pdma explain --machine ${name}`,
        '```',
        '',
        '```text',
        explainAll(name),
        '```',
        '',
        await copyOf(name),
        '',
      ].join('\n'),
    );
  }
  return `${beginning}\n${chapters.join('\n')}`;
}

const beginning = `# The machines that come along

Each is a name for \`--machine\` and for \`openSystem({ machine })\`; a JSON file of your own does as well
(\`schema/machine.schema.json\`, or \`p2pdma snapshot\` on a real server). The pictures are \`p2pdma topo --format svg\` with the way of
a copy from the first drive to all others drawn in; below each is the kernel’s verdict for every pair. Rows are whose memory,
columns who does the DMA: \`own\` inside the drive, \`bus 4\` peer to peer over 4 hops, \`bridge 4\` through the host bridge,
\`refused\` not by this kernel. Whatever a command says of one begins with a line such as \`emulated machine 'switch': its drives end
with this process\`. This page is made by \`npm run docs\`.
`;

/** The matrix, and the notes above it, without the legend and the longer words below. */
function explainAll(machine: string): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'explain', '--machine', machine], {
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1', COLUMNS: '200' },
  });
  if (status !== 0) throw new Error(stderr);
  const legend = stdout.indexOf('\nrows: whose memory');
  if (legend < 0) throw new Error(`explain prints no matrix: ${stdout}`);
  // Its first line is the same for all, and is said above.
  return stdout.slice(stdout.indexOf('\n') + 1, legend).trim();
}

/** Where a copy is most worth telling. */
const TO: Record<string, string> = { mirror: 'md0', multipath: 'nvme2n1' };

async function copyOf(machine: string): Promise<string> {
  const system = await openSystem({ machine });
  const to = TO[machine] ?? 'nvme1n1';
  try {
    const { transport, provider, reason } = system.route(['nvme0n1', to]);
    const how = provider === null ? `\`${transport}\`` : `\`${transport}\` through the memory of ${provider}`;
    return `A copy from nvme0n1 to ${to} goes by ${how}: ${reason.replace(/\.?$/, '.')}`;
  } finally {
    await system.close();
  }
}
