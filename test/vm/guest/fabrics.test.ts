/**
 * NVMe over Fabrics on the kernel's own target: the lines of docs/fabrics.md as they stand there, what they print, and
 * between them what the document only claims. `p2pmem` of an exported namespace keeps the rules of our
 * pciP2pdmaEnableStore() and pciP2pdmaEnableShow().
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { errnoName } from '../../../lib/base/errno.js';
import { openEmulator } from '../../../lib/emulator/boot.js';
import { openSystem, pipeline } from '../../../lib/index.js';
import { pciP2pdmaEnableShow, pciP2pdmaEnableStore } from '../../../lib/kernel/pci-p2pdma.js';
import { blocksOf, checkPrinted, type Session, sessionsOf } from '../../helpers/doc-blocks.js';
import { machineByName } from '../machines.js';
import { guest, guestDrive, guestPlan, Probe, sh } from './guest.js';

const MIB = 2 ** 20;
const cli = fileURLToPath(new URL('../../../lib/cli/main.js', import.meta.url));
const document = readFileSync('/repo/docs/fabrics.md', 'utf8');

function run(t: Test, session: Session): void {
  const { heading, script } = session;
  const { status, text } = sh(`p2pdma() { /bin/node ${cli} "$@"; }\nset -e\n${script}`);
  t.equal(status, 0, `${heading}: ${script.split('\n')[0]} …\n${text}`);
  checkPrinted(t, session, text);
}

const all = sessionsOf(blocksOf(document), 'shell');
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
