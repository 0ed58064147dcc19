/** Arrays, multipath heads and partitions of an emulated machine, as the machine's kernel has them. */
import t from 'tap';
import { openSystem, type System } from '../../lib/index.js';
import { type Machine, type MachineInput, parseMachine } from '../../lib/machine/machine.js';
import { presets } from '../../lib/machine/presets.js';

const MIB = 2 ** 20;

function withKernel(machine: Machine, kernel: string, change: Partial<MachineInput> = {}): MachineInput {
  return { ...structuredClone(machine), kernel, ...change } as MachineInput;
}

/** Write host memory to a device of the machine, as bytes of one value. */
async function fill(system: System, name: string, value: number, bytes = MIB): Promise<void> {
  await using target = await system.target(name, { write: true, force: true });
  await target.write(Buffer.alloc(bytes, value), 0);
}

async function firstByte(system: System, name: string): Promise<number> {
  await using target = await system.target(name);
  const block = Buffer.alloc(4096);
  await target.read(block, 0);
  return block[0]!;
}

t.test(
  'a mirror with a leg that the provider cannot reach: 7.2 reports success, and the legs differ',
  async (t) => {
    const system = await openSystem({ machine: presets.mirror });
    await fill(system, 'md0', 1);
    t.same([await firstByte(system, 'nvme1n1'), await firstByte(system, 'nvme2n1')], [1, 1]);
    // A program that asks nobody.
    const cmb = system.allocate('nvme0', MIB);
    cmb.buffer.fill(2);
    await using md = await system.target('md0', { write: true });
    t.equal(await md.write(cmb.buffer, 0), MIB, 'success');
    t.same([await firstByte(system, 'nvme1n1'), await firstByte(system, 'nvme2n1')], [2, 1], 'they differ');
    cmb.free();
    await md.close();

    t.match(system.route(['nvme0n1', 'md0']), {
      transport: 'host-memory',
      reason:
        /each leg of md0 \(raid1\) must be reachable from the provider, and 0000:05:00.0 cannot reach the memory of 0000:03:00.0.*members would differ/,
    });
    await fill(system, 'nvme0n1', 3);
    const receipt = await system.pipeline('nvme0n1', 'md0', { end: MIB - 1, verify: true });
    t.match(receipt, { transport: 'host-memory', provider: null, verified: true });
    t.same([await firstByte(system, 'nvme1n1'), await firstByte(system, 'nvme2n1')], [3, 3]);
    await t.rejects(system.pipeline('nvme0n1', 'md0', { end: MIB - 1, requireP2p: true }), {
      code: 'ERR_P2P_REQUIRED',
      message: /each leg of md0/,
    });
    await system.close();
  },
);

t.test('before 7.2 an array takes no peer memory: EREMOTEIO, whatever its legs', async (t) => {
  const system = await openSystem({ machine: presets.mirror, kernel: '7.1' });
  const cmb = system.allocate('nvme0', MIB);
  await using md = await system.target('md0', { write: true });
  await t.rejects(md.write(cmb.buffer, 0), { code: 'EREMOTEIO' });
  await t.rejects(md.read(cmb.buffer, 0), { code: 'EREMOTEIO' });
  cmb.free();
  await md.close();
  await system.close();
});

t.test(
  'legs that are all reachable: each level goes peer to peer from 7.2 on, and what comes back is what went in',
  async (t) => {
    for (const level of ['raid0', 'raid1', 'raid10', 'linear', 'raid5'] as const) {
      const machine = withKernel(presets['four-drives'], '7.2', {
        arrays: [{ name: 'md0', level, chunk: 4096, members: ['nvme1n1', 'nvme2n1', 'nvme3n1'] }],
      });
      const system = await openSystem({ machine });
      if (level === 'raid5') {
        t.match(system.locate('md0'), { noP2pReason: /md0 \(raid5\) is an md array/, layers: { length: 4 } });
        await t.rejects(system.target('md0'), { code: 'EOPNOTSUPP', hint: /arrays with parity/ });
        t.equal((await system.close()).requests, 0);
        continue;
      }
      await using source = await system.target('nvme0n1', { write: true });
      const data = Buffer.alloc(MIB);
      for (let i = 0; i < MIB; i += 4) data.writeUInt32LE(i, i);
      await source.write(data, 0);
      await source.close();
      const receipt = await system.pipeline('nvme0n1', 'md0', { end: MIB - 1, highWaterMark: 24 * 1024 });
      t.equal(receipt.transport, level === 'linear' ? 'host-memory' : 'p2p-bus', level);
      const copies = level === 'raid1' ? 3 : level === 'raid10' ? 2 : 1;
      if (level !== 'linear')
        t.equal(receipt.path.peerBus, copies * MIB, `${level}: each copy crossed the bus`);
      await using md = await system.target('md0');
      const back = Buffer.alloc(MIB);
      await md.read(back, 0);
      t.ok(back.equals(data), level);
      await md.close();
      t.same(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
    }
  },
);

t.test(
  'a multipath head: refused before 7.2, but by passthrough; from 7.2 on it goes, and fails over',
  async (t) => {
    for (const [kernel, takes] of [
      ['6.12.117', false],
      ['7.2', true],
    ] as const) {
      const system = await openSystem({ machine: withKernel(presets.multipath, kernel) });
      const heads = system.controllers.flatMap(({ namespaces }) => namespaces.map(({ name }) => name));
      t.same(heads, ['nvme0n1', 'nvme1n1', 'nvme2n1', 'nvme2n1'], 'both paths lead to one disk');
      await t.rejects(system.target('nvme3n1'), { code: 'ENOENT' });
      const cmb = system.allocate('nvme0', 64 * 1024);
      cmb.buffer.fill(7);
      await using head = await system.target('nvme2n1', { write: true });
      t.equal(head.kind, 'namespace');
      if (takes) t.equal(await head.write(cmb.buffer, 0), 64 * 1024);
      else await t.rejects(head.write(cmb.buffer, 0), { code: 'EREMOTEIO' });
      // NVM Command Set, Write: 128 blocks of 512 bytes.
      t.match(await head.passthrough({ opcode: 1, cdw12: 127, data: cmb.buffer }), {
        status: 0,
        path: { peerBus: 64 * 1024 },
      });
      t.equal(await firstByte(system, 'nvme2n1'), 7);
      cmb.free();
      await head.close();
      t.equal(
        (await system.pipeline('nvme0n1', 'nvme2n1', { end: MIB - 1 })).transport,
        takes ? 'p2p-bus' : 'host-memory',
      );
      t.same(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
    }
  },
);

t.test(
  'a path that goes away under a copy: the head sends the rest down the other, and no byte is lost',
  async (t) => {
    const machine = withKernel(presets.multipath, '7.2', {
      faults: [{ kind: 'remove', controller: 'nvme2', afterBytes: '1MiB' }],
    });
    const system = await openSystem({ machine });
    await fill(system, 'nvme0n1', 9, 8 * MIB);
    const receipt = await system.pipeline('nvme0n1', 'nvme2n1', { end: 8 * MIB - 1, verify: true });
    t.match(receipt, { bytes: 8 * MIB, verified: true, transport: 'p2p-bus' });
    t.same(
      system.controllers.map(({ name }) => name),
      ['nvme0', 'nvme1', 'nvme3'],
    );
    t.match(system.snapshot(), { subsystems: [{ name: 'nvme-subsys2', controllers: ['nvme3'] }] });
    await system.close();
  },
);

t.test('a medium error of a shared namespace is one by whatever path', async (t) => {
  const machine = withKernel(presets.multipath, '6.12', {
    faults: [
      { kind: 'media-error', namespace: 'nvme2n1', lba: 0, op: 'read' },
      { kind: 'remove', controller: 'nvme2', afterBytes: '256KiB' },
    ],
  });
  const system = await openSystem({ machine });
  await using head = await system.target('nvme2n1');
  await t.rejects(head.read(Buffer.alloc(4096), 0), { code: 'ENODATA' });
  t.equal(await head.read(Buffer.alloc(MIB), MIB), MIB);
  t.notOk(
    system.controllers.some(({ name }) => name === 'nvme2'),
    'that path is gone',
  );
  await t.rejects(head.read(Buffer.alloc(4096), 0), { code: 'ENODATA' });
  await head.close();
  await system.close();
});

t.test('partitions: their own bytes, and an array over one', async (t) => {
  const described = withKernel(presets.switch, '7.2', {
    arrays: [{ name: 'md0', level: 'raid1', members: ['nvme0n1p2', 'nvme1n1'] }],
  });
  described.functions.find(({ nvme }) => nvme?.name === 'nvme0')!.nvme!.namespaces![0]!.partitions = [
    { number: 1, start: '1MiB', size: '16MiB' },
    { number: 2, start: '32MiB', size: '16MiB' },
  ];
  const system = await openSystem({ machine: described });
  await fill(system, 'nvme0n1p1', 4);
  await fill(system, 'md0', 5);
  await using disk = await system.target('nvme0n1');
  const [one, two] = [Buffer.alloc(4096), Buffer.alloc(4096)];
  await disk.read(one, MIB);
  await disk.read(two, 32 * MIB);
  t.same([one[0], two[0]], [4, 5]);
  await disk.close();
  t.match(system.locate('nvme0n1'), {
    inUse: 'held by md0',
    partitions: [
      { name: 'nvme0n1p1', size: 16 * MIB, inUse: null },
      { name: 'nvme0n1p2', inUse: 'held by md0' },
    ],
  });
  await t.rejects(system.target('nvme1n1', { write: true }), { code: 'EBUSY', hint: /member of md0/ });
  await t.rejects(system.pipeline('md0', 'nvme1n1', { force: true }), { code: 'ERR_OVERLAP' });
  await t.rejects(system.pipeline('nvme0n1p2', 'md0'), { code: 'ERR_OVERLAP' });
  t.equal((await system.pipeline('nvme0n1p1', 'md0', { end: MIB - 1 })).transport, 'p2p-bus');
  await system.close();
});

t.test('an emulated machine snapshots as it is: parsed again it is the same', async (t) => {
  for (const name of ['mirror', 'multipath'] as const) {
    const system = await openSystem({ machine: name });
    const taken = system.snapshot({ withSerials: true }) as unknown as Machine;
    const described = { ...parseMachine(presets[name]), emulated: true };
    t.same({ ...taken, description: '' }, { ...described, description: '' });
    t.same(parseMachine(taken), taken);
    await system.close();
  }
});
