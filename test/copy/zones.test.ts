/** A zoned device: said before anything is written, and refused with what to do instead; no zone is reset here. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import t from 'tap';
import { createWriteStream, openSystem, pipeline, planCopy } from '../../lib/index.js';
import { failedTransfer } from '../../lib/streams/transfer.js';
import { whyNotZones } from '../../lib/streams/zones.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { p2pdma } from '../helpers/cli.js';

const ZONES =
  'its zones of 67108864 bytes are host-managed: each takes writes only in order, from its write pointer on';

function zonedTree(dir: string, model = 'host-managed'): string {
  const root = writeSysfsTree(dir, twoDrivesBelowASwitch());
  const queue = join(root, 'sys/class/block/nvme1n1/queue');
  mkdirSync(queue, { recursive: true });
  writeFileSync(join(queue, 'zoned'), `${model}\n`);
  writeFileSync(join(queue, 'chunk_sectors'), '131072\n');
  return root;
}

t.test('list and explain say it', async (t) => {
  const root = zonedTree(t.testdir());
  const system = await openSystem({ root });
  t.equal(system.locate('nvme1n1')?.zones, ZONES);
  t.equal(system.locate('nvme0n1')?.zones, null);
  t.equal(system.explain('nvme0', ['nvme1n1']).clients[0]!.zones, ZONES);
  await system.close();
  t.match(p2pdma('list', '--root', root).stdout, /zoned: its zones of 67108864 bytes are host-managed/);
  t.match(p2pdma('explain', 'nvme0', 'nvme1n1', '--root', root).stdout, /zoned +its zones of 67108864 bytes/);
});

t.test('a host-aware device takes writes anyhow', async (t) => {
  const system = await openSystem({ root: zonedTree(t.testdir(), 'host-aware') });
  t.equal(system.locate('nvme1n1')?.zones, null);
  await system.close();
});

t.test('what to do: commands on a real machine, none on an emulated one', async (t) => {
  t.match(whyNotZones({ machine: null }, '/dev/nvme1n1', ZONES), {
    hint: /`sudo blkzone reset \/dev\/nvme1n1` empties the zones, with all that is in them; .*`sudo dd /,
  });
  const { hint } = whyNotZones({ machine: 'mine' }, 'nvme1n1', ZONES)!;
  t.match(hint, /emulated machine 'mine'.*`system\.target\('nvme1n1', \{ write: true \}\)`/);
  t.notMatch(hint, /sudo|blkzone/);
  t.equal(whyNotZones({ machine: null }, '/dev/nvme1n1', null), null);
});

t.test('a plan has it as a problem, and a copy is refused before its first byte', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  t.teardown(() => system.close());
  const { backend } = system.context;
  const inspect = backend.inspect.bind(backend);
  backend.inspect = (name, options) => {
    const end = inspect(name, options);
    return name === 'nvme1n1' ? { ...end, place: { ...end.place!, zones: ZONES } } : end;
  };
  const refused = {
    code: 'EOPNOTSUPP',
    message: new RegExp(ZONES),
    hint: /write in order with write\(\) of `system\.target\('.*nvme1n1', \{ write: true \}\)`/,
  };
  const { problems } = await planCopy('nvme0n1', ['nvme1n1'], { system, end: 4095 });
  t.match(problems, [refused]);
  await t.rejects(pipeline('nvme0n1', 'nvme1n1', { system, end: 4095 }), refused);
  t.equal(system.metrics().bytes.write, 0);
  await t.resolves(pipeline('nvme1n1', 'nvme0n1', { system, end: 4095 }), 'it can be read');
});

t.test(
  'a write stream is refused as a copy is, before its first byte; a Target may write in order',
  async (t) => {
    const system = await openSystem({ machine: 'switch' });
    const { backend } = system.context;
    const openTarget = backend.openTarget.bind(backend);
    backend.openTarget = async (name, options) =>
      Object.defineProperty(await openTarget(name, options), 'zones', {
        value: name === 'nvme1n1' ? ZONES : null,
      });
    const refused = {
      code: 'EOPNOTSUPP',
      message: new RegExp(ZONES),
      hint: /write in order with write\(\) of `system\.target\('.*nvme1n1', \{ write: true \}\)`/,
    };
    const written = (stream: Writable) =>
      new Promise<void>((resolve, reject) => {
        stream.on('error', reject).on('finish', resolve);
        stream.end(new Uint8Array(4096));
      });
    await t.rejects(written(createWriteStream('nvme1n1', { system })), refused);
    const target = await system.target('nvme1n1', { write: true });
    await t.rejects(written(target.createWriteStream()), refused);
    await t.rejects(pipeline('nvme0n1', target, { system, end: 4095 }), refused);
    t.equal(system.metrics().bytes.write, 0);
    t.equal(await target.write(new Uint8Array(4096), 0), 4096);
    await target.close();
    await t.resolves(written(createWriteStream('nvme0n1', { system })), 'one that is not zoned is written');
    await system.close();
  },
);

t.test('what a failed write advises', async (t) => {
  const view = new Uint8Array(512);
  const hint = (errno: number, op: 'read' | 'write', zones: string | null = null) =>
    failedTransfer(errno, { op, view, offset: 0 }, { path: '/dev/nvme1n1', kind: 'namespace', zones }).hint;
  t.match(hint(-5, 'write', ZONES), /only in order, from its write pointer on: see its zones/);
  t.match(hint(-5, 'write'), /check its health/);
  t.match(hint(-5, 'read', ZONES), /check its health/);
  t.match(hint(-61, 'write'), /could not store these blocks/);
  t.notMatch(hint(-61, 'write'), /Restore/i, 'there is nothing to restore');
  t.match(hint(-61, 'read'), /restore the block from a copy/i);
});

t.test('a namespace of size 0 says why', async (t) => {
  const tree = twoDrivesBelowASwitch();
  Object.assign(tree.nvme![1]!.namespaces[0]!, { bytes: 0, metadata: null });
  const root = writeSysfsTree(t.testdir(), tree);
  const asked = async () => {
    const system = await openSystem({ root });
    const reason = system.locate('nvme1n1')?.noP2pReason;
    await system.close();
    return reason;
  };
  t.match(await asked(), /nvme1n1 has size 0: it has no medium, or its format has metadata/);
  writeFileSync(join(root, 'sys/class/block/nvme1n1/metadata_bytes'), '64\n');
  t.equal(
    await asked(),
    'nvme1n1 has size 0: each of its blocks has 64 bytes of metadata, in a format that the kernel cannot carry',
  );
});
