import { join } from 'node:path';
import t from 'tap';
import { EINVAL, EIO, ENODATA } from '../../../lib/base/errno.js';
import type { EmulatorBackend } from '../../../lib/emulator/backend.js';
import { openEmulator } from '../../../lib/emulator/boot.js';
import { ManualClock } from '../../../lib/emulator/clock.js';
import type { NvmeParams } from '../../../lib/kernel/nvme-core.js';
import type { Fault } from '../../../lib/machine/machine.js';
import { presets } from '../../../lib/machine/presets.js';
import { io, type Moved, pattern, sameBytes } from '../../helpers/emulated-io.js';

const NOTHING = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };

/** Let time pass until the promise is settled. */
async function during<T>(clock: ManualClock, promise: Promise<T>, step = 1): Promise<T> {
  let settled = false;
  const done = () => {
    settled = true;
  };
  promise.then(done, done);
  for (let i = 0; i < 100_000 && !settled; i++) await clock.advanceAsync(step);
  return promise;
}

async function boot(
  faults: Fault[] = [],
  params: Partial<NvmeParams> = {},
): Promise<{ backend: EmulatorBackend; clock: ManualClock }> {
  const clock = new ManualClock();
  const machine = { ...presets.switch, faults };
  return { backend: await during(clock, openEmulator({ machine, clock, params })), clock };
}

t.test('a command that never completes is aborted after the timeout and tried again', async (t) => {
  const { backend, clock } = await boot([{ kind: 'no-completion', controller: 'nvme0', nth: 1 }]);
  const a = await backend.openTarget('nvme0n1', { write: true });
  let moved: Moved | null = null;
  const stuck = io(a, 'read', 0, new Uint8Array(4096)).then((m) => {
    moved = m;
  });
  await clock.advanceAsync(29_000);
  t.equal(moved, null, 'not before 30 s');
  await clock.advanceAsync(2_000);
  t.match(moved, { result: 4096 }, 'the retry succeeds');
  await stuck;
  await a.close();
  t.same(await during(clock, backend.close()), NOTHING);
});

t.test('a drive that never completes anything: resets, then EIO, and no request is lost', async (t) => {
  const faults: Fault[] = [];
  for (let nth = 1; nth <= 64; nth++) faults.push({ kind: 'no-completion', controller: 'nvme0', nth });
  const { backend, clock } = await boot(faults, { ioTimeout: 1000, maxRetries: 2 });
  const a = await backend.openTarget('nvme0n1', { write: true });
  const results = await during(
    clock,
    Promise.all([0, 1, 2, 3].map((i) => io(a, 'write', i * 4096, new Uint8Array(4096)))),
    100,
  );
  for (const { result } of results) t.equal(result, -EIO);
  t.ok(clock.now() < 20_000, `after ${clock.now()} ms`);
  backend.running.drives[0]!.hardware.faults.clear();
  t.equal(
    (await during(clock, io(a, 'read', 0, new Uint8Array(4096)))).result,
    4096,
    'the drive is of use again',
  );
  await during(clock, a.close());
  t.same(await during(clock, backend.close()), NOTHING);
});

t.test('a passthrough command that times out ends by itself', async (t) => {
  const faults: Fault[] = [{ kind: 'no-completion', controller: 'nvme0', nth: 1 }];
  const { backend, clock } = await boot(faults);
  const a = await backend.openTarget('nvme0n1', { write: true });
  const data = new Uint8Array(4096);
  const result = during(clock, a.passthrough({ opcode: 2, nsid: 1, cdw12: 7, data, timeoutMs: 500 }), 50);
  t.match(await result, { status: 0x007 }, 'aborted by request, as the drive says');
  t.ok(clock.now() < 2000);
  await a.close();
  t.same(await during(clock, backend.close()), NOTHING);
});

t.test('a media error is ENODATA, and only for the blocks it hits', async (t) => {
  const backend = await openEmulator({
    machine: {
      ...presets.switch,
      faults: [{ kind: 'media-error', namespace: 'nvme0n1', lba: 9, op: 'read' }],
    },
  });
  const a = await backend.openTarget('nvme0n1', { write: true });
  t.equal((await io(a, 'read', 4096, new Uint8Array(4096))).result, -ENODATA);
  t.equal((await io(a, 'read', 0, new Uint8Array(4096))).result, 4096);
  t.equal((await io(a, 'write', 4096, new Uint8Array(4096))).result, 4096);
  const { status } = await a.passthrough({
    opcode: 2,
    nsid: 1,
    cdw10: 9,
    cdw12: 0,
    data: new Uint8Array(512),
  });
  t.equal(status, 0x281, 'passthrough shows the status itself');
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('a drive that vanishes under load answers every request', async (t) => {
  const backend = await openEmulator({
    machine: { ...presets.switch, faults: [{ kind: 'remove', controller: 'nvme0', afterBytes: 100_000 }] },
  });
  const a = await backend.openTarget('nvme0n1', { write: true });
  const all = await Promise.all(
    Array.from({ length: 200 }, (_, i) => io(a, 'read', i * 4096, new Uint8Array(4096))),
  );
  const good = all.filter(({ result }) => result === 4096).length;
  t.equal(all.filter(({ result }) => result === -EIO).length, 200 - good);
  t.ok(good < 200);
  t.match(
    backend.controllers.map((c) => c.name),
    ['nvme1'],
  );
  t.notOk(backend.snapshot().functions.some((fn) => fn.bdf === '0000:03:00.0'));
  await t.rejects(backend.openTarget('nvme0n1', {}), { code: 'ENOENT' });
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('a CMB that vanishes: views are detached, others get an error', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const b = await backend.openTarget('nvme1n1', { write: true });
  const mapping = backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, 65536);
  const view = new Uint8Array(mapping.buffer);
  t.equal((await io(b, 'write', 0, view)).result, 65536);
  backend.remove('nvme0');
  await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(view.byteLength, 0);
  t.ok((await io(b, 'write', 0, view)).result < 0 || view.byteLength === 0);
  mapping.munmap();
  await b.close();
  t.same(await backend.close(), NOTHING);
});

t.test('more requests than tags wait their turn', async (t) => {
  const backend = await openEmulator({ machine: presets.switch, params: { ioQueueDepth: 4, cpus: 1 } });
  const a = await backend.openTarget('nvme0n1', { write: true });
  const data = pattern(64 * 4096);
  const writes = await Promise.all(
    Array.from({ length: 64 }, (_, i) => io(a, 'write', i * 4096, data.subarray(i * 4096, (i + 1) * 4096))),
  );
  t.ok(writes.every(({ result }) => result === 4096));
  const back = new Uint8Array(data.length);
  t.equal((await io(a, 'read', 0, back)).result, back.length);
  t.ok(sameBytes(back, data));
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('requests longer than MDTS are split, and end once', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const [a, b] = [
    await backend.openTarget('nvme0n1', { write: true }),
    await backend.openTarget('nvme1n1', { write: true }),
  ];
  const mapping = backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, 8 << 20);
  const view = new Uint8Array(mapping.buffer);
  const data = pattern(8 << 20);
  t.equal((await io(a, 'write', 4096, data)).result, 8 << 20);
  t.match(await io(a, 'read', 4096, view), { result: 8 << 20, path: { internal: 8 << 20, hostDram: 0 } });
  t.match(await io(b, 'write', 512, view), { result: 8 << 20, path: { peerBus: 8 << 20, hostDram: 0 } });
  const back = new Uint8Array(8 << 20);
  await io(b, 'read', 512, back);
  t.ok(sameBytes(back, data));
  await a.close();
  await b.close();
  mapping.munmap();
  t.same(await backend.close(), NOTHING);
});

t.test('without SGLs, and with segments at odd addresses, PRP lists say the same', async (t) => {
  const machine = structuredClone(presets.switch) as unknown as {
    functions: { nvme: { sgls: boolean } | null }[];
  };
  for (const fn of machine.functions) if (fn.nvme !== null) fn.nvme.sgls = false;
  for (const iommu of ['none', 'translating'] as const) {
    const backend = await openEmulator({ machine: { ...machine, iommu } as never });
    const a = await backend.openTarget('nvme0n1', { write: true });
    for (const [at, length] of [
      [0, 4096],
      [4, 4096],
      [512, 8192],
      [4092, 1 << 20],
      [2048, 3 << 20],
      [0, 130 * 4096],
    ] as const) {
      const data = pattern(at + length, length).subarray(at);
      const back = new Uint8Array(at + length).subarray(at);
      t.equal((await io(a, 'write', 8192, data)).result, length, `${iommu} +${at} ${length}`);
      t.equal((await io(a, 'read', 8192, back)).result, length);
      t.ok(sameBytes(data, back), 'arrives intact');
    }
    await a.close();
    t.same(await backend.close(), NOTHING);
  }
});

t.test('many small segments go down in as few commands as the queue allows', async (t) => {
  const backend = await openEmulator({ machine: presets['iommu-switch'] });
  const b = await backend.openTarget('nvme1n1', { write: true });
  const mapping = backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, 1 << 20);
  const view = new Uint8Array(mapping.buffer);
  const data = pattern(300 * 4096);
  const segments: Uint8Array[] = [];
  const expected: Uint8Array[] = [];
  for (let i = 0; i < 300; i++) {
    const piece = data.subarray(i * 4096, (i + 1) * 4096);
    if (i % 3 === 0) {
      const slot = view.subarray((i % 256) * 4096, ((i % 256) + 1) * 4096);
      if (i < 256) slot.set(piece);
      segments.push(slot);
      expected.push(slot.slice());
    } else {
      segments.push(piece);
      expected.push(piece);
    }
  }
  for (let i = 0; i < 300; i += 3) expected[i] = segments[i]!.slice();
  t.equal((await io(b, 'write', 0, ...segments)).result, 300 * 4096);
  const back = new Uint8Array(300 * 4096);
  t.equal((await io(b, 'read', 0, back)).result, back.length);
  t.ok(sameBytes(back, Buffer.concat(expected)));
  await b.close();
  mapping.munmap();
  t.same(await backend.close(), NOTHING);
});

t.test('passthrough larger than the drive takes is EINVAL', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const a = await backend.openTarget('nvme0n1', {});
  const data = new Uint8Array(2 << 20);
  await t.rejects(a.passthrough({ opcode: 2, nsid: 1, cdw12: 4095, data }), {
    code: 'EINVAL',
    errno: -EINVAL,
  });
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('a reset under load: what was in flight is tried again, the CMB stays mapped', async (t) => {
  const backend = await openEmulator({
    machine: { ...presets.switch, latency: { readUs: 3000, writeUs: 3000, bytesPerSecond: null } },
  });
  const a = await backend.openTarget('nvme0n1', { write: true });
  const mapping = backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, 1 << 20);
  const view = new Uint8Array(mapping.buffer);
  const data = pattern(64 * 4096);
  await io(a, 'write', 0, data);
  const { driver } = backend.running.drives[0]!;
  const reads = Array.from({ length: 64 }, (_, i) =>
    io(a, 'read', i * 4096, view.subarray(i * 4096, (i + 1) * 4096)),
  );
  await new Promise((resolve) => setTimeout(resolve, 1));
  t.ok(driver.requests.outstanding > 0, 'some are in flight');
  await driver.reset();
  t.equal(driver.ctrl.state, 'NVME_CTRL_LIVE');
  for (const { result, path } of await Promise.all(reads)) {
    t.equal(result, 4096);
    t.equal(path.hostDram, 0);
  }
  t.ok(sameBytes(view.subarray(0, data.length), data));
  await a.close();
  mapping.munmap();
  t.same(await backend.close(), NOTHING);
});

t.test('removal during a reset leaves nothing without an answer', async (t) => {
  const backend = await openEmulator({
    machine: { ...presets.switch, latency: { readUs: 3000, writeUs: 0, bytesPerSecond: null } },
  });
  const a = await backend.openTarget('nvme0n1', {});
  const reads = Array.from({ length: 16 }, (_, i) => io(a, 'read', i * 4096, new Uint8Array(4096)));
  await new Promise((resolve) => setTimeout(resolve, 1));
  const reset = backend.running.drives[0]!.driver.reset();
  backend.remove('nvme0');
  await reset;
  for (const { result } of await Promise.all(reads)) t.equal(result, -EIO);
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('closing during a reset waits for the reset, and nothing of it is left', async (t) => {
  const { backend, clock } = await boot();
  const { driver } = backend.running.drives[0]!;
  const reset = driver.reset();
  t.same(await during(clock, backend.close()), NOTHING);
  await reset;
});

t.test('a file can be opened while its drive is reset', async (t) => {
  const path = join(t.testdir({ file: 'content' }), 'file');
  const backend = await openEmulator({ machine: presets.switch });
  const { driver } = backend.running.drives[0]!;
  for (let turns = 0; turns < 12; turns++) {
    const opening = backend.openTarget(path, {});
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
    const reset = driver.reset();
    const target = await opening;
    t.equal(target.size, 7, `${turns} turns before the reset`);
    await reset;
    await target.close();
  }
  t.equal(backend.controllers[0]!.namespaces.length, 1, 'its namespaces are still there');
  t.same(await backend.close(), NOTHING);
});

t.test('closing with transfers in flight: they end first, or fail, and are counted', async (t) => {
  const { backend, clock } = await boot([{ kind: 'no-completion', controller: 'nvme0', nth: 1 }]);
  const a = await backend.openTarget('nvme0n1', {});
  const stuck = io(a, 'read', 0, new Uint8Array(4096));
  const report = await during(clock, backend.close(), 50);
  t.match(report, { requests: 1, handles: 1, pages: 0, iovas: 0, slots: 0 });
  t.equal((await stuck).result, -EIO);
});
