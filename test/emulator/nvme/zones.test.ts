/** A zoned namespace of the emulator: what the drive takes, what it refuses, and how the kernel cuts what crosses a zone. */
import t from 'tap';
import { createWriteStream, openSystem, pipeline, planCopy, type Target } from '../../../lib/index.js';
import type { MachineInput } from '../../../lib/machine/machine.js';
import { presets } from '../../../lib/machine/presets.js';

const MIB = 2 ** 20;
const ZONE = 2 * MIB;
const ZONES = `its zones of ${ZONE} bytes are host-managed: each takes writes only in order, from its write pointer on`;

/** The switch, with zones on nvme1n1; or the two paths to one zoned head. */
function zoned(
  preset: MachineInput = presets.switch as unknown as MachineInput,
  names = ['nvme1'],
): MachineInput {
  const machine = structuredClone(preset);
  for (const { nvme } of machine.functions) {
    if (nvme == null || !names.includes(nvme.name!)) continue;
    Object.assign(nvme.namespaces![0]!, { size: 4 * ZONE + MIB, zoned: { zoneSize: ZONE } });
  }
  return machine;
}

const bytes = (length: number, value: number) => Buffer.alloc(length, value);

async function firstByte(target: Target, offset: number): Promise<number> {
  const block = bytes(4096, 0xee);
  t.equal(await target.read(block, offset), 4096);
  return block[0]!;
}

t.test('a write at the write pointer advances it; any other is EIO and changes nothing', async (t) => {
  const system = await openSystem({ machine: zoned() });
  const target = await system.target('nvme1n1', { write: true });
  t.equal(system.locate('nvme1n1')?.zones, ZONES);
  const eio = {
    code: 'EIO',
    hint: /only in order, from its write pointer on: see its zones’ write pointers/,
  };
  t.equal(await firstByte(target, 3 * ZONE), 0, 'beyond the write pointer, it is read as zeros');
  await t.rejects(target.write(bytes(4096, 1), 4096), eio, 'ahead of the pointer');
  t.equal(await target.write(bytes(4096, 1), 0), 4096);
  await t.rejects(target.write(bytes(4096, 2), 0), eio, 'the same again');
  await t.rejects(target.write(bytes(4096, 2), 8192), eio, 'a hole');
  t.equal(await target.write(bytes(8192, 3), 4096), 8192);
  t.equal(await target.write(bytes(4096, 4), ZONE), 4096, 'each zone has a pointer of its own');
  t.same(
    [await firstByte(target, 0), await firstByte(target, 4096), await firstByte(target, 12_288)],
    [1, 3, 0],
  );
  await target.close();
  t.same(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
});

t.test('what crosses a zone is cut there: the next one begins, a full one refuses', async (t) => {
  const system = await openSystem({ machine: zoned() });
  const target = await system.target('nvme1n1', { write: true });
  t.equal(await target.write(bytes(2 * ZONE, 5), 0), 2 * ZONE);
  t.same([await firstByte(target, ZONE - 4096), await firstByte(target, ZONE)], [5, 5]);
  await t.rejects(target.write(bytes(4096, 6), ZONE - 4096), { code: 'EIO' }, 'a full zone');
  t.equal(await target.write(bytes(ZONE - 4096, 7), 2 * ZONE), ZONE - 4096);
  t.equal(await target.write(bytes(8192, 8), 3 * ZONE - 4096), 8192, 'the end of one, the begin of the next');
  t.equal(await firstByte(target, 3 * ZONE), 8);
  t.equal(await target.write(bytes(MIB, 9), 4 * ZONE), MIB, 'the last zone is shorter');
  const across = bytes(ZONE, 0);
  t.equal(await target.read(across, ZONE / 2), ZONE, 'reads cross zones');
  t.ok(across.equals(bytes(ZONE, 5)));
  await target.close();
  await system.close();
});

t.test(
  'a command that reads across two zones is refused, and one that ends with its zone is not',
  async (t) => {
    const system = await openSystem({ machine: zoned() });
    const target = await system.target('nvme1n1');
    const read = async (block: number) => {
      const command = { opcode: 2, nsid: 1, cdw10: block, cdw12: 15, data: bytes(8192, 0) };
      return (await target.passthrough(command)).status & 0x7ff;
    };
    t.equal(await read(ZONE / 512 - 8), 0x1b8, 'Zoned Boundary Error');
    t.equal(await read(ZONE / 512 - 16), 0);
    t.equal(await read(ZONE / 512), 0);
    await target.close();
    await system.close();
  },
);

/** No command can reach a drive that exists only in this process. */
const EMULATED_HINT =
  /^(?!.*(blkzone|sudo)).* emulated machine .*`system\.target\('.*nvme1n1', \{ write: true \}\)`/;

t.test('copies and write streams are refused as natively; the device can be their source', async (t) => {
  const system = await openSystem({ machine: zoned() });
  const refused = { code: 'EOPNOTSUPP', message: new RegExp(ZONES), hint: EMULATED_HINT };
  t.match((await planCopy('nvme0n1', ['nvme1n1'], { system, end: 4095 })).problems, [refused]);
  await t.rejects(pipeline('nvme0n1', 'nvme1n1', { system, end: 4095 }), refused);
  const stream = createWriteStream('nvme1n1', { system });
  const error = new Promise((_, reject) => stream.on('error', reject));
  stream.end(bytes(4096, 1));
  await t.rejects(error, refused);
  const receipt = await pipeline('nvme1n1', 'nvme0n1', { system, end: 4 * MIB - 1, verify: true });
  t.match(receipt, { transport: 'p2p-bus', verified: true });
  await system.close();
});

t.test('the paths of a head lead to the same write pointers', async (t) => {
  const system = await openSystem({
    machine: zoned(presets.multipath as unknown as MachineInput, ['nvme1', 'nvme2', 'nvme3']),
  });
  const target = await system.target('nvme2n1', { write: true });
  t.match(system.locate('nvme2n1')?.zones, /host-managed/);
  t.equal(await target.write(bytes(2 * ZONE, 5), 0), 2 * ZONE);
  await t.rejects(target.write(bytes(4096, 6), ZONE), { code: 'EIO' });
  await target.close();
  await system.close();
});
