/**
 * What a booted 6.12 kernel answered (drive A owns the CMB, B is the other drive, both under one switch), asked of
 * the emulated one: a test for each row of the table.
 */

import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { BlockTarget, Mapping } from '../../lib/backend/backend.js';
import type { PciDev } from '../../lib/backend/topology.js';
import { EFAULT, EINVAL, EIO, ENOMEM, ENOSPC, EREMOTEIO } from '../../lib/base/errno.js';
import { TRACE_CHANNEL } from '../../lib/base/trace.js';
import type { EmulatorBackend } from '../../lib/emulator/backend.js';
import { openEmulator } from '../../lib/emulator/boot.js';
import { diagnose, openSystem } from '../../lib/index.js';
import { bioAlloc, bioIovIterGetPages, bioPut } from '../../lib/kernel/bio.js';
import { FOLL_LONGTERM, FOLL_WRITE, newPageRange, pinUserPages } from '../../lib/kernel/gup.js';
import { iovIterUbuf, READ } from '../../lib/kernel/iov_iter.js';
import { pciMmapP2pmem } from '../../lib/kernel/pci-p2pdma.js';
import { presets } from '../../lib/machine/presets.js';
import { io, pattern, sameBytes } from '../helpers/emulated-io.js';

const KIB = 1024;
const MIB = 1024 * 1024;
const nvmeCmdWrite = 1;
const nvmeCmdRead = 2;

interface Bench {
  readonly backend: EmulatorBackend;
  /** Drive A, which owns the CMB. */
  readonly ownerDev: PciDev;
  readonly a: BlockTarget;
  readonly b: BlockTarget;
  /** 1 MiB of A's CMB. */
  readonly mapping: Mapping;
  readonly cmb: Uint8Array;
}

async function bench(t: Test): Promise<Bench> {
  const backend = await openEmulator({ machine: presets.switch });
  const ownerDev = backend.controllers[0]!.pdev!;
  const a = await backend.openTarget('nvme0n1', { write: true });
  const b = await backend.openTarget('/dev/nvme1n1', { write: true });
  const mapping = backend.memory.mmapP2pmem(ownerDev, MIB);
  t.teardown(async () => {
    await a.close();
    await b.close();
    mapping.munmap();
    const leaks = await backend.close();
    assert.deepEqual(leaks, { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 }, 'left behind');
  });
  return { backend, ownerDev, a, b, mapping, cmb: new Uint8Array(mapping.buffer) };
}

t.test('at boot, size is 16777216 and the driver itself keeps a little', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  t.match(backend.controllers[0]!.pdev!.p2pmem, { size: 16777216, available: 16646144, published: true });
  await backend.close();
});

t.test('mmap of allocate, shared: available drops by exactly that, whole pages', async (t) => {
  const { backend, ownerDev, mapping } = await bench(t);
  const before = backend.memory.available(ownerDev);
  t.equal(before, 16646144 - MIB);
  t.equal(mapping.buffer.byteLength, MIB);
  const small = backend.memory.mmapP2pmem(ownerDev, 1000);
  t.equal(backend.memory.available(ownerDev), before - 4 * KIB, '1000 bytes take one page');
  small.munmap();
  t.equal(backend.memory.available(ownerDev), before, 'munmap gives it back at once');
});

t.test('mmap private, at an offset, or of more than there is', async (t) => {
  const { backend, ownerDev } = await bench(t);
  const { mm } = backend.running;
  t.equal(pciMmapP2pmem(mm, ownerDev, { length: 4096, offset: 0, shared: false }), -EINVAL);
  t.equal(pciMmapP2pmem(mm, ownerDev, { length: 4096, offset: 4096, shared: true }), -EINVAL);
  t.equal(pciMmapP2pmem(mm, ownerDev, { length: 32 * MIB, offset: 0, shared: true }), -ENOMEM);
  t.throws(() => backend.memory.mmapP2pmem(ownerDev, 32 * MIB), { code: 'ENOMEM', syscall: 'mmap' });
});

t.test('mmap of the character device works as in the RFC (a landed kernel answers ENODEV)', async (t) => {
  const { backend, ownerDev, b } = await bench(t);
  const before = backend.memory.available(ownerDev);
  const device = backend.charDevice('/dev/nvme0');
  const mapping = device.mmap({ length: 64 * KIB, offset: 12345 * 4096 });
  t.equal(backend.memory.available(ownerDev), before - 64 * KIB, 'the offset is ignored');
  t.match(await io(b, 'write', 0, new Uint8Array(mapping.buffer)), {
    result: 64 * KIB,
    path: { peerBus: 64 * KIB },
  });
  mapping.munmap();
  t.throws(() => device.mmap({ length: 4096, shared: false }), { code: 'EINVAL' });
  t.throws(() => device.mmap({ length: 32 * MIB }), { code: 'ENOMEM' });
});

t.test('O_DIRECT pread A to CMB, pwrite CMB to B, from 4 KiB to 1 MiB', async (t) => {
  const { a, b, cmb } = await bench(t);
  for (let size = 4 * KIB; size <= MIB; size *= 4) {
    const data = pattern(size, size);
    const back = new Uint8Array(size);
    t.match(await io(a, 'write', 0, data), { result: size, path: { hostDram: size } });
    const slot = cmb.subarray(0, size);
    t.same(await io(a, 'read', 0, slot), {
      result: size,
      path: { internal: size, peerBus: 0, hostBridge: 0, hostDram: 0 },
    });
    t.same(await io(b, 'write', 8 * MIB, slot), {
      result: size,
      path: { internal: 0, peerBus: size, hostBridge: 0, hostDram: 0 },
    });
    t.equal((await io(b, 'read', 8 * MIB, back)).result, size);
    t.ok(sameBytes(data, back), `${size} bytes arrive intact`);
  }
});

t.test('the same by passthrough ioctl', async (t) => {
  const { a, b, cmb } = await bench(t);
  const data = pattern(64 * KIB);
  await io(a, 'write', 0, data);
  const slot = cmb.subarray(0, 64 * KIB);
  t.match(await a.passthrough({ opcode: nvmeCmdRead, nsid: 1, cdw12: 127, data: slot }), {
    status: 0,
    path: { internal: 64 * KIB, hostDram: 0 },
  });
  t.match(await b.passthrough({ opcode: nvmeCmdWrite, nsid: 1, cdw12: 127, data: slot }), {
    status: 0,
    path: { peerBus: 64 * KIB, hostDram: 0 },
  });
  const back = new Uint8Array(64 * KIB);
  await io(b, 'read', 0, back);
  t.ok(sameBytes(data, back));
});

t.test('O_DIRECT at address +512 and +4: dma_alignment is 3', async (t) => {
  const { a, b, cmb } = await bench(t);
  const data = pattern(8 * KIB);
  await io(a, 'write', 0, data);
  for (const at of [512, 4]) {
    const slot = cmb.subarray(at, at + 8 * KIB);
    t.match(await io(a, 'read', 0, slot), { result: 8 * KIB, path: { internal: 8 * KIB } }, `+${at}`);
    t.ok(sameBytes(slot, data), `+${at} arrives intact`);
    t.match(await io(b, 'write', 0, slot), { result: 8 * KIB, path: { peerBus: 8 * KIB } }, `+${at}`);
  }
});

t.test('O_DIRECT at address +1, or a length or offset that is no block', async (t) => {
  const { a, cmb } = await bench(t);
  t.equal((await io(a, 'read', 0, cmb.subarray(1, 4097))).result, -EINVAL);
  t.equal((await io(a, 'read', 0, cmb.subarray(0, 100))).result, -EINVAL);
  t.equal((await io(a, 'read', 100, cmb.subarray(0, 4096))).result, -EINVAL);
});

t.test('passthrough at address +2: ok, but bounced through host memory', async (t) => {
  const { a, cmb } = await bench(t);
  const data = pattern(4 * KIB);
  await io(a, 'write', 0, data);
  const slot = cmb.subarray(2, 2 + 4 * KIB);
  const { status, path } = await a.passthrough({ opcode: nvmeCmdRead, nsid: 1, cdw12: 7, data: slot });
  t.equal(status, 0);
  t.same(path, { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 4 * KIB });
  t.ok(sameBytes(slot, data));
});

t.test('buffered pread into and pwrite from CMB: the CPU copies', async (t) => {
  const { a, b, cmb } = await bench(t);
  const data = pattern(4 * KIB);
  cmb.set(data);
  await io(a, 'write', 0, Uint8Array.from(cmb.subarray(0, 4 * KIB)));
  await io(b, 'write', 0, cmb.subarray(0, 4 * KIB));
  const back = new Uint8Array(4 * KIB);
  await io(b, 'read', 0, back);
  t.ok(sameBytes(data, back), 'what the CPU wrote is what the drive reads');
});

/** NVMe commands that go down while `fn` runs. */
async function commands(fn: () => Promise<unknown>): Promise<number> {
  let count = 0;
  const count1 = (event: unknown) => {
    const { layer, event: what } = event as { layer: string; event: string };
    if (layer === 'nvme-pci' && what === 'queue_rq') count++;
  };
  subscribe(TRACE_CHANNEL, count1);
  await fn();
  unsubscribe(TRACE_CHANNEL, count1);
  return count;
}

t.test('preadv and pwritev mixing CMB and host segments, on B: one I/O', async (t) => {
  const { backend, b, cmb } = await bench(t);
  const host = backend.memory.allocHost(8 * KIB);
  const bytes = new Uint8Array(host.buffer);
  const data = pattern(16 * KIB);
  const slot = cmb.subarray(0, 8 * KIB);
  slot.set(data.subarray(0, 8 * KIB));
  bytes.set(data.subarray(8 * KIB));
  const sent = await commands(async () => {
    t.same(await io(b, 'write', 0, slot, bytes), {
      result: 16 * KIB,
      path: { internal: 0, peerBus: 8 * KIB, hostBridge: 0, hostDram: 8 * KIB },
    });
  });
  t.equal(sent, 1);
  slot.fill(0);
  bytes.fill(0);
  t.equal((await io(b, 'read', 0, slot, bytes)).result, 16 * KIB);
  t.ok(sameBytes(slot, data.subarray(0, 8 * KIB)) && sameBytes(bytes, data.subarray(8 * KIB)));
  host.munmap();
});

t.test('the same on A, the owner of the CMB: EIO', async (t) => {
  const { backend, a, cmb } = await bench(t);
  const host = backend.memory.allocHost(4 * KIB);
  const mixed = [cmb.subarray(0, 4 * KIB), new Uint8Array(host.buffer)];
  t.equal((await io(a, 'read', 0, ...mixed)).result, -EIO);
  t.equal((await io(a, 'write', 0, ...mixed)).result, -EIO);
  t.equal((await io(a, 'read', 0, mixed[0]!)).result, 4 * KIB, 'all CMB is fine');
  t.equal((await io(a, 'read', 0, mixed[1]!)).result, 4 * KIB, 'all host is fine');
  host.munmap();
});

t.test('a queue without the P2P feature (loop, dm, md): EREMOTEIO, and no byte moves', async (t) => {
  const { backend, a, cmb } = await bench(t);
  const loop = {
    limits: { ...backend.running.drives[0]!.driver.ctrl.namespaces[0]!.limits, pciP2pdma: false },
    submitBio() {},
  };
  const bio = bioAlloc(loop, 'read');
  t.equal(bioIovIterGetPages(backend.running.mm, bio, iovIterUbuf(READ, cmb.subarray(0, 4096))), -EREMOTEIO);
  bioPut(bio);
  t.equal(a.noP2pReason, null);

  const unsupported = await openEmulator({ machine: presets['iommu-unsupported'] });
  const target = await unsupported.openTarget('nvme1n1', { write: true });
  t.match(target.noP2pReason, /IOMMU/);
  t.equal(target.limits.pciP2pdma, false);
  const mapping = unsupported.memory.mmapP2pmem(unsupported.controllers[0]!.pdev!, 4096);
  const refused = await io(target, 'read', 0, new Uint8Array(mapping.buffer));
  t.same(refused, { result: -EREMOTEIO, path: { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 } });
  await target.close();
  mapping.munmap();
  await unsupported.close();
});

t.test(
  'drives on root ports of their own, host bridge not listed: EREMOTEIO, from 6.17 on EINVAL',
  async (t) => {
    const errno = {
      '6.12': -EREMOTEIO,
      '6.16.12-generic': -EREMOTEIO,
      '6.17.0-rc1': -EINVAL,
      '7.0': -EINVAL,
    };
    for (const [kernel, expected] of Object.entries(errno)) {
      const backend = await openEmulator({ machine: { ...presets['root-ports'], kernel } });
      t.equal(backend.release, kernel);
      const b = await backend.openTarget('nvme1n1', { write: true });
      const mapping = backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, 4096);
      for (const attempt of [1, 2]) {
        const { result } = await io(b, 'write', 0, new Uint8Array(mapping.buffer));
        t.equal(result, expected, `Linux ${kernel}, attempt ${attempt}`);
      }
      await b.close();
      mapping.munmap();
      t.match(await backend.close(), { iovas: 0, pages: 0, slots: 0 });
    }
  },
);

t.test('admin Identify into CMB: EREMOTEIO; into host memory: ok', async (t) => {
  const { backend, a, cmb } = await bench(t);
  const identify = { admin: true, opcode: 6, cdw10: 1 };
  const slot = cmb.subarray(0, 4096);
  await t.rejects(a.passthrough({ ...identify, data: slot }), { code: 'EREMOTEIO' });
  await t.rejects(backend.charDevice('nvme0').ioctl({ ...identify, data: slot }), { code: 'EREMOTEIO' });
  const data = new Uint8Array(4096);
  t.match(await a.passthrough({ ...identify, data }), { status: 0, path: { hostDram: 4096 } });
  t.match(Buffer.from(data.buffer, 24, 40).toString().trim(), backend.controllers[0]!.model!);
});

t.test('io_uring registering CMB as a fixed buffer: EFAULT', async (t) => {
  const { backend, cmb } = await bench(t);
  const flags = FOLL_WRITE | FOLL_LONGTERM;
  t.equal(pinUserPages(backend.running.mm, cmb.subarray(0, 4096), flags, newPageRange()), -EFAULT);
});

t.test('a file on B, O_DIRECT, CMB buffer: 64 KiB ok, 100 bytes EINVAL', async (t) => {
  const { backend, cmb } = await bench(t);
  const dir = await mkdtemp(join(tmpdir(), 'p2pdma-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'file');
  const data = pattern(64 * KIB);
  await writeFile(path, data);
  const file = await backend.openTarget(path, { controller: 'nvme1', write: true });
  t.equal(file.kind, 'file');
  t.equal(file.size, 64 * KIB);
  t.match(await io(file, 'read', 0, cmb.subarray(0, 64 * KIB)), {
    result: 64 * KIB,
    path: { peerBus: 64 * KIB },
  });
  t.ok(sameBytes(cmb.subarray(0, 64 * KIB), data));
  t.equal((await io(file, 'read', 0, cmb.subarray(0, 100))).result, -EINVAL);
  await file.close();
});

t.test('O_EXCL open of a drive in use: EBUSY', async (t) => {
  const { backend } = await bench(t);
  await t.rejects(backend.openTarget('nvme0n1', { write: true }), { code: 'EBUSY' });
  const reader = await backend.openTarget('nvme0n1', {});
  const forced = await backend.openTarget('nvme0n1', { write: true, force: true });
  await reader.close();
  await forced.close();
});

t.test('a drive that was removed answers reads with 0 and no errno', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const a = await backend.openTarget('nvme0n1', { write: true });
  const host = new Uint8Array(4096);
  t.equal((await io(a, 'read', 0, host)).result, 4096);
  const inFlight = io(a, 'read', 0, host);
  backend.remove('nvme0');
  t.equal((await inFlight).result, -EIO, 'what was in flight fails');
  t.equal((await io(a, 'read', 0, host)).result, 0, 'like end of file');
  t.equal((await io(a, 'write', 0, host)).result, -ENOSPC);
  t.equal(a.size, 2 ** 30, 'a target of known size: so 0 is an error to the streams');
  await t.rejects(a.flush(), { code: 'EIO' });
  await a.close();
  t.same(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
});

t.test('munmap, or the end of the process with mappings: available is back at once', async (t) => {
  const { backend, ownerDev, mapping, cmb } = await bench(t);
  mapping.munmap();
  t.equal(backend.memory.available(ownerDev), 16646144);
  t.equal(cmb.byteLength, 0, 'views are detached');
  mapping.munmap();
  t.equal(backend.memory.available(ownerDev), 16646144, 'twice is once');

  const other = await openEmulator({ machine: presets.switch });
  const kept = other.memory.mmapP2pmem(other.controllers[0]!.pdev!, MIB);
  t.match(await other.close(), { slots: 1 }, 'the leak is reported');
  t.equal(kept.buffer.byteLength, 0, 'and the memory taken back');
});

t.test(
  'before 6.2 programs have no peer memory: there is nothing to map, and copies go through host memory',
  async (t) => {
    const system = await openSystem({ machine: { ...presets.switch, kernel: '6.1.192' } });
    t.throws(() => system.allocate('nvme0', 4096), {
      code: 'ENODEV',
      syscall: 'open',
      hint: /Linux 6\.1\.192 gives programs no peer-to-peer memory: that came with Linux 6\.2/,
    });
    const bytes = { end: 65535 };
    await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', { ...bytes, requireP2p: true }), {
      code: 'ERR_P2P_REQUIRED',
      message: /that came with Linux 6\.2/,
    });
    const receipt = await system.pipeline('nvme0n1', 'nvme1n1', bytes);
    t.equal(receipt.transport, 'host-memory');
    t.match(receipt.reason, /that came with Linux 6\.2/);
    const { notes } = system.explain('nvme0', ['nvme1']);
    t.match(notes, [{ kind: 'not-for-programs' }]);
    await system.close();
    const { findings } = await diagnose({ machine: { ...presets.switch, kernel: '6.1.192' } });
    t.match(
      findings.find(({ check }) => check === 'kernel'),
      { level: 'problem', remedy: /Boot Linux 6\.2 or newer/ },
    );
  },
);
