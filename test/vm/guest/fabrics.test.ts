/**
 * NVMe over Fabrics on the kernel's own target: the lines of docs/fabrics.md as they stand there, what they print, and
 * between them what the document only claims. `p2pmem` of an exported namespace keeps the rules of our
 * pciP2pdmaEnableStore() and pciP2pdmaEnableShow().
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { openEmulator } from '../../../lib/backend/emulator/boot.js';
import { errnoName } from '../../../lib/errno.js';
import { openSystem, pipeline } from '../../../lib/index.js';
import { pciP2pdmaEnableShow, pciP2pdmaEnableStore } from '../../../lib/kernel/pci-p2pdma.js';
import { machineByName } from '../machines.js';
import { guest, guestDrive, guestPlan, Probe, sh } from './guest.js';

const MIB = 2 ** 20;
const cli = fileURLToPath(new URL('../../../lib/cli/main.js', import.meta.url));
const document = readFileSync('/repo/docs/fabrics.md', 'utf8');

interface Block {
  readonly heading: string;
  readonly script: string;
  /** Lines that must be printed, in this order. */
  readonly printed: readonly string[];
}

function blocks(): Block[] {
  const found: Block[] = [];
  let heading = '';
  for (const [, title, kind, body] of document.matchAll(/^## (.*)$|^```(shell|text)\n([\s\S]*?)^```/gm)) {
    if (title !== undefined) heading = title;
    else if (kind === 'shell') found.push({ heading, script: body!, printed: [] });
    else found.push({ ...found.pop()!, printed: body!.trim().split('\n') });
  }
  return found;
}

const spaced = (text: string) => text.replaceAll(/[\s│└─]+/g, ' ').trim();

function run(t: Test, { heading, script, printed }: Block): void {
  const { status, text } = sh(`p2pdma() { /bin/node ${cli} "$@"; }\nset -e\n${script}`);
  t.equal(status, 0, `${heading}: ${script.split('\n')[0]} …\n${text}`);
  const lines = text.split('\n').map(spaced);
  let from = 0;
  for (const line of printed) {
    const at = lines.findIndex((is, i) => i >= from && is.includes(spaced(line)));
    t.ok(at >= 0, `${heading}: prints ${line}${at >= 0 ? '' : `\n${text}`}`);
    from = Math.max(from, at + 1);
  }
}

const all = blocks();
const of = (...headings: string[]) => all.filter(({ heading }) => headings.includes(heading));
const headings = [...new Set(all.map(({ heading }) => heading))];

/** What the document claims beside the lines, at the headings where it can be seen. */
const claims: Record<string, (t: Test) => Promise<void>> = {
  async 'Copy to it'(t) {
    await notForPeers(t, '/dev/nvme2n1');
    const source = guest().drives.find(({ disks }) => disks[0] === '/dev/nvme0n1')!;
    await using system = await openSystem({ backend: 'native' });
    const controller = system.controllers.find(({ name }) => name === 'nvme2');
    t.match(controller, { transport: 'tcp', pdev: null });
    const receipt = await pipeline(
      system.createReadStream(source.disks[0]!, { end: 4 * MIB - 1 }),
      system.createWriteStream('/dev/nvme2n1', { force: true }),
    );
    t.match(receipt, {
      transport: 'host-memory',
      bytes: 4 * MIB,
      reason: /no PCI function here does its DMA/,
    });
  },
  async 'The same without a network: nvme-loop'(t) {
    await notForPeers(t, '/dev/nvme3n1');
    t.equal(sh('cmp -n 8388608 /dev/nvme0n1 /tmp/fabrics.img').status, 0, 'the file is the copy');
  },
};

/** Its queue has no peer-to-peer feature: the kernel refuses a drive's memory. */
async function notForPeers(t: Test, disk: string): Promise<void> {
  const provider = guestDrive('nvme0');
  const probe = new Probe();
  t.match(await probe.ask(`map 0 ${provider.allocate} 65536 0 shared`), /^ok/);
  t.match(await probe.ask(`open 0 ${disk} rw,direct`), /^ok/, disk);
  t.equal(await probe.ask('pread 0 0 0 0 65536'), 'err 121', `${disk}: EREMOTEIO`);
  t.equal(await probe.ask('pwrite 0 0 0 0 65536'), 'err 121', `${disk}: EREMOTEIO`);
  await probe.end();
}

for (const heading of headings) {
  t.test(heading, async (t) => {
    for (const block of of(heading)) run(t, block);
    await claims[heading]?.(t);
  });
}

t.test('p2pmem keeps our rules of store and show', async (t) => {
  const folder = '/sys/kernel/config/nvmet/subsystems/rules';
  mkdirSync(folder);
  mkdirSync(`${folder}/namespaces/1`);
  const backend = await openEmulator({ machine: machineByName(guestPlan().machine) });
  const kernel = (text: string): string => {
    try {
      writeFileSync(`${folder}/namespaces/1/p2pmem`, text);
    } catch (error) {
      return errnoName((error as NodeJS.ErrnoException).errno!);
    }
    return readFileSync(`${folder}/namespaces/1/p2pmem`, 'utf8');
  };
  const ours = (text: string): string => {
    const enable = pciP2pdmaEnableStore(text, backend.topology);
    return typeof enable === 'number' ? errnoName(enable) : pciP2pdmaEnableShow(enable);
  };
  const functions = backend.topology.functions.map(({ bdf }) => bdf);
  const texts = [
    ...['0', '1', '0\n', '1\n', '00', '01', '10', '11', '1 ', '0x1', '1\n\n', '1\t', '2', '-1', ' 1', '\n'],
    ...[
      'y',
      'yes',
      'Y',
      'n',
      'no',
      'N',
      'on',
      'off',
      'ON\n',
      'oFf\n',
      'o',
      'of',
      'ox',
      't',
      'true',
      'false',
      'F',
    ],
    ...['e', 'enabled', 'd', 'disabled', 'none', 'auto', 'x', 'yellow', 'nonsense'],
    ...functions.flatMap((bdf) => [bdf, `${bdf}\n`]),
    ...[
      '03:00.0',
      '0000:03:00.1',
      '0000:09:00.0',
      '0000:03:00.0 ',
      '0000:03:00',
      '1000:00:00.0',
      '0000:03:00.0\n\n',
    ],
  ];
  for (const text of texts) t.equal(ours(text), kernel(text), JSON.stringify(text));
  await backend.close();
  rmdirSync(`${folder}/namespaces/1`);
  rmdirSync(folder);
  t.notOk(existsSync(folder));
});
