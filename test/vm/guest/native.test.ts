/** lib/native on a real kernel with real CMBs: memory, both engines, NVMe commands by ioctl and through the ring. */
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { nvmeAdminIdentify } from '../../../lib/backend/nvme-spec.js';
import { nativeCounters } from '../../../lib/native/addon.js';
import { NativeBackend, openNative } from '../../../lib/native/backend.js';
import { countersAtRest, pattern, transfer } from '../../helpers/native.js';
import { guestDrive, p2pmem, sh } from './guest.js';

const MiB = 2 ** 20;
const [a, b] = [guestDrive('nvme0'), guestDrive('nvme1')];
const engines = ['uring', 'threads', 'passthrough'] as const;

async function open(): Promise<NativeBackend> {
  const backend = await openNative();
  if (!(backend instanceof NativeBackend)) throw new Error('not this machine');
  return backend;
}

t.test('CMB memory: mapped, counted, given back', async (t) => {
  const backend = await open();
  const provider = backend.topology.find(a.bdf)!;
  const before = p2pmem(a, 'available');
  t.equal(backend.memory.available(provider), before);
  const mapping = backend.memory.mmapP2pmem(provider, 1000);
  t.equal(mapping.bytes, 4096);
  t.equal(p2pmem(a, 'available'), before - 4096);
  t.equal(backend.memory.available(provider), before - 4096);
  t.throws(() => backend.memory.mmapP2pmem(provider, 64 * MiB), { code: 'ENOMEM', syscall: 'mmap' });
  mapping.munmap();
  t.equal(p2pmem(a, 'available'), before);
  backend.memory.mmapP2pmem(provider, MiB);
  t.same(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
  t.equal(p2pmem(a, 'available'), before, 'closing gives back what was forgotten');
});

for (const engine of engines) {
  t.test(`${engine}: A into its CMB, from there to B`, async (t) => {
    const backend = await open();
    const content = pattern(MiB, engine.length);
    writeFileSync(a.disks[0]!, content);
    sh('sync');
    const source = await backend.openTarget(a.disks[0]!.slice(5), { engine });
    const destination = await backend.openTarget(b.disks[0]!, { write: true, engine });
    t.match(source, { kind: 'namespace', engine, noP2pReason: null, unproven: null });
    t.equal(source.client?.bdf, a.bdf);
    const mapping = backend.memory.mmapP2pmem(backend.topology.find(a.bdf)!, MiB);
    const cmb = new Uint8Array(mapping.buffer);
    const host = backend.memory.allocBuffer(MiB);

    let moved = 0;
    while (moved < MiB) {
      const piece = cmb.subarray(moved);
      const into = await transfer(source, 'read', moved, piece);
      if (into.result <= 0) throw new Error(`read: ${into.result}`);
      t.same(into.path, { internal: into.result, peerBus: 0, hostBridge: 0, hostDram: 0 });
      const out = await transfer(destination, 'write', moved, piece.subarray(0, into.result));
      t.equal(out.result, into.result);
      t.same(out.path, { internal: 0, peerBus: out.result, hostBridge: 0, hostDram: 0 });
      moved += into.result;
    }
    await destination.flush();
    for (let at = 0; at < MiB; ) {
      const { result } = await transfer(destination, 'read', at, host.subarray(at));
      if (result <= 0) throw new Error(`read back: ${result}`);
      at += result;
    }
    t.ok(Buffer.from(host).equals(content));

    if (engine !== 'passthrough') {
      const mixed = [cmb.subarray(0, 4096), host.subarray(0, 8192), cmb.subarray(4096, 8192)] as const;
      t.equal(
        (await transfer(destination, 'read', 0, ...mixed)).result,
        16384,
        'the other drive takes a mixture',
      );
      t.equal((await transfer(source, 'read', 0, ...mixed)).result, 16384, 'for the owner it is cut');
      t.ok(Buffer.from(host.subarray(0, 8192)).equals(content.subarray(4096, 12288)));
    }
    t.same(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
    t.match(await countersAtRest(), { fds: 0, mappings: 0, inFlight: 0 });
  });
}

t.test(
  'neighbouring requests of both kinds in one turn: the kernel does not get to merge them',
  async (t) => {
    const backend = await open();
    const content = pattern(16 * 4096, 5);
    writeFileSync(a.disks[0]!, content);
    sh('sync');
    const target = await backend.openTarget(a.disks[0]!, { engine: 'uring' });
    const cmb = new Uint8Array(backend.memory.mmapP2pmem(backend.topology.find(a.bdf)!, 16 * 4096).buffer);
    const host = backend.memory.allocBuffer(16 * 4096);
    for (let round = 0; round < 4; round++) {
      const ios = await Promise.all(
        Array.from({ length: 16 }, (_, i) => {
          const memory = (i >> (round % 2)) % 2 === 0 ? cmb : host;
          return transfer(target, 'read', i * 4096, memory.subarray(i * 4096, (i + 1) * 4096));
        }),
      );
      t.ok(
        ios.every(({ result }) => result === 4096),
        ios.map(({ result }) => result).join(' '),
      );
      t.ok(
        ios.every(({ segments }, i) =>
          Buffer.from(segments[0]!).equals(content.subarray(i * 4096, (i + 1) * 4096)),
        ),
      );
    }
    await backend.close();
  },
);

t.test('NVMe commands', async (t) => {
  const backend = await open();
  const content = pattern(8192, 77);
  writeFileSync(a.disks[0]!, content);
  sh('sync');
  t.equal(existsSync(a.chars[0] ?? ''), true, 'there is a generic device');
  const cmb = new Uint8Array(backend.memory.mmapP2pmem(backend.topology.find(a.bdf)!, 8192).buffer);
  const host = backend.memory.allocBuffer(8192);
  for (const engine of ['uring', 'threads'] as const) {
    const target = await backend.openTarget(a.disks[0]!, { engine });
    const blocks = 8192 / target.limits.logicalBlockSize;
    for (const data of [host, cmb]) {
      data.fill(0);
      const { status, path } = await target.passthrough({ opcode: 2, cdw12: blocks - 1, data });
      t.equal(status, 0);
      t.ok(Buffer.from(data).equals(content), `${engine}: read`);
      t.equal(data === cmb ? path.internal : path.hostDram, 8192);
    }
    t.equal(
      (await target.passthrough({ opcode: 2, cdw10: 0xffffffff, cdw11: 0xff, data: host })).status,
      0x80,
      'LBA out of range',
    );
    t.equal(
      (await target.passthrough({ opcode: 0x7c })).status,
      0x01,
      'invalid opcode, of a command without data',
    );
    const identify = { admin: true, opcode: nvmeAdminIdentify, cdw10: 1, data: host.subarray(0, 4096) };
    t.equal((await target.passthrough(identify)).status, 0);
    t.match(Buffer.from(host.subarray(24, 64)).toString('latin1'), /QEMU/);
    await t.rejects(
      target.passthrough({ ...identify, data: cmb.subarray(0, 4096) }),
      { code: 'EREMOTEIO' },
      'the admin queue takes no CMB',
    );
    const last = target.passthrough(identify);
    await target.close();
    t.equal((await last).status, 0, 'what is begun before it is closed is done');
  }
  t.equal(nativeCounters().fds, 0, 'the generic device is closed too');
  await backend.close();
});

/** See engine.test: on a machine as slow as this, a lost wake-up shows itself within some hundred rounds. */
t.test('reads after a flush are told of', async (t) => {
  const backend = await openNative({ engine: 'uring' });
  const target = await backend.openTarget(a.disks[0]!, { write: true });
  const host = backend.memory.allocBuffer(16384);
  let short = 0;
  for (let round = 0; round < 300; round++) {
    await target.flush();
    await sleep(round % 5);
    const reads = [0, 4096, 8192, 12288].map((at) =>
      transfer(target, 'read', at, host.subarray(at, at + 4096)),
    );
    for (const { result } of await Promise.all(reads)) if (result !== 4096) short++;
  }
  t.equal(short, 0);
  await backend.close();
});

t.test('a loop device refuses CMB memory', async (t) => {
  const made = sh('dd if=/dev/zero of=/tmp/image bs=1M count=1 2>/dev/null && losetup /dev/loop0 /tmp/image');
  if (made.status !== 0) {
    t.comment(`skipped: ${made.text}`);
    return;
  }
  const device = '/dev/loop0';
  const backend = await open();
  const target = await backend.openTarget(device, {});
  t.match(target.noP2pReason, /loop device/);
  const cmb = new Uint8Array(backend.memory.mmapP2pmem(backend.topology.find(a.bdf)!, 4096).buffer);
  t.equal((await transfer(target, 'read', 0, cmb)).result, -121, 'EREMOTEIO');
  await backend.close();
  sh(`losetup -d ${device}`);
});

t.test('a drive that is removed: nothing becomes data', async (t) => {
  const backend = await open();
  const target = await backend.openTarget(b.disks[0]!, {});
  const raw = await backend.openTarget(b.disks[0]!, { engine: 'passthrough' });
  const host = backend.memory.allocBuffer(4096);
  t.equal((await transfer(target, 'read', 0, host)).result, 4096);
  sh(`echo 1 > ${b.sysfs}/remove`);
  t.ok((await transfer(target, 'read', 0, host)).result <= 0);
  t.ok((await transfer(raw, 'read', 0, host)).result < 0);
  await target.close();
  await raw.close();
  t.same(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
});
