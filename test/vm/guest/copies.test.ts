/**
 * Our pipelines in the guest: between drives, through whose CMB one likes, by each way of submitting, on disks and on
 * files; and the witness must find each byte where the receipt says it went.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { openSystem, type PipelineOptions, type Receipt, type System } from '../../../lib/index.js';
import { copyInC, type GuestDrive, guest, guestDrive, p2pmem, sh, witnessed, writePattern } from './guest.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const [A, B, C, D] = ['nvme0', 'nvme1', 'nvme2', 'nvme3'].map(guestDrive) as [
  GuestDrive,
  GuestDrive,
  GuestDrive,
  GuestDrive,
];
const providers = guest().drives.filter((drive) => drive.allocate !== null);
const disk = (drive: GuestDrive) => drive.disks[0]!;
const ZERO = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };
const engines = ['uring', 'threads'] as const;

/** A test with a system of its own, after which everything is back. */
function test(
  name: string,
  engine: 'uring' | 'threads',
  body: (t: Test, system: System) => Promise<void>,
): void {
  t.test(`${name}, ${engine}`, async (t) => {
    const before = providers.map((drive) => p2pmem(drive, 'available'));
    const system = await openSystem({ backend: 'native', engine });
    await body(t, system);
    t.same(await system.close(), ZERO, 'nothing is left over');
    t.same(
      providers.map((drive) => p2pmem(drive, 'available')),
      before,
      'the pools are whole again',
    );
  });
}

let seed = 1;

/** Where on the destinations the next copy goes: nothing was ever there, and no source is. */
let away = 16 * MIB;

/** Are `bytes` of `from` at `start` of `to`? */
function same(from: string, to: string, start: number, bytes: number): boolean {
  const read = (file: string, position: number) => {
    const fd = openSync(file, constants.O_RDONLY);
    const content = Buffer.alloc(bytes);
    for (let done = 0; done < bytes; ) {
      const more = readSync(fd, content, done, bytes - done, position + done);
      if (more === 0) break;
      done += more;
    }
    closeSync(fd);
    return content;
  };
  return read(from, 0).equals(read(to, start));
}

interface Copy {
  readonly from: GuestDrive;
  readonly to: readonly GuestDrive[];
  /** Null: through host memory. */
  readonly through: GuestDrive | null;
  readonly bytes: number;
  readonly options: Pick<PipelineOptions, 'engine' | 'highWaterMark' | 'queueDepth'>;
}

async function copied(t: Test, system: System, name: string, copy: Copy): Promise<Receipt> {
  const { from, to, through, bytes, options } = copy;
  const destinationStart = away;
  away += 4 * MIB;
  const receipt = await witnessed(
    name,
    (receipt) => ({
      bytes,
      source: from.name,
      destination: to.map((drive) => drive.name),
      provider: through?.name ?? null,
      path: receipt.path,
    }),
    () =>
      system.pipeline(disk(from), to.map(disk), {
        end: bytes - 1,
        destinationStart,
        provider: through?.bdf ?? 'none',
        requireP2p: through !== null,
        ...options,
      }),
  );
  t.match(receipt, { bytes, provider: through?.bdf ?? null, unproven: null }, name);
  t.equal(receipt.transport, through === null ? 'host-memory' : 'p2p-bus', receipt.reason);
  for (const drive of to) {
    t.ok(same(disk(from), disk(drive), destinationStart, bytes), `${name}: the data is there`);
  }
  return receipt;
}

const chunks = [4 * KIB, 64 * KIB, MIB];
t.before(() => {
  for (const drive of [A, B, C]) writePattern(disk(drive), 2 * MIB, seed++);
});
for (const engine of engines) {
  test('from drive to drive', engine, async (t, system) => {
    for (const [from, to] of [
      [A, B],
      [B, A],
      [A, A],
      [A, C],
      [C, A],
    ] as const) {
      for (const through of [...providers, null]) {
        for (const chunk of chunks) {
          const bytes = chunk === 4 * KIB ? 64 * KIB : chunk === MIB ? 2 * MIB : 256 * KIB;
          const name = `${from.name} → ${to.name} through ${through?.name ?? 'host memory'}, ${chunk / KIB} KiB, ${engine}`;
          const options = { highWaterMark: chunk, queueDepth: 4 };
          await copied(t, system, name, { from, to: [to], through, bytes, options });
        }
      }
    }
  });

  test('as NVMe commands', engine, async (t, system) => {
    for (const through of [A, B, null]) {
      const name = `passthrough ${engine === 'uring' ? 'uring_cmd' : 'ioctl'} through ${through?.name ?? 'host memory'}`;
      const options = { engine: 'passthrough', highWaterMark: 64 * KIB } as const;
      await copied(t, system, name, { from: A, to: [B], through, bytes: 512 * KIB, options });
    }
  });

  test('from one to two and three', engine, async (t, system) => {
    for (const through of [A, B, null]) {
      for (const to of [
        [B, C],
        [B, C, D],
      ]) {
        const name = `mirror ${A.name} → ${to.map((d) => d.name).join(' ')} through ${through?.name ?? 'host memory'}, ${engine}`;
        const options = { highWaterMark: 64 * KIB };
        const receipt = await copied(t, system, name, { from: A, to, through, bytes: 512 * KIB, options });
        const { internal, peerBus, hostDram } = receipt.path;
        t.equal(internal + peerBus + hostDram, (1 + to.length) * 512 * KIB, 'read once, written to each');
      }
    }
  });

  test('commands by Target.passthrough', engine, async (t, system) => {
    const bytes = 32 * KIB;
    const start = away;
    away += MIB;
    const memory = system.allocate(A.bdf, bytes);
    const source = await system.target(disk(A));
    const destination = await system.target(disk(B), { write: true });
    const cdw12 = bytes / A.blockSize - 1;
    const path = { internal: bytes, peerBus: bytes, hostBridge: 0, hostDram: 0 };
    const expect = { bytes, source: A.name, destination: B.name, provider: A.name, path };
    const [into, out] = await witnessed(`Target.passthrough, ${engine}`, expect, async () => [
      await source.passthrough({ opcode: 2, cdw12, data: memory.buffer }),
      await destination.passthrough({ opcode: 1, cdw10: start / B.blockSize, cdw12, data: memory.buffer }),
    ]);
    t.match(into, { status: 0, path: { internal: bytes, hostDram: 0 } });
    t.match(out, { status: 0, path: { peerBus: bytes, hostDram: 0 } });
    t.ok(same(disk(A), disk(B), start, bytes));
  });

  test('CMB and host memory in one I/O', engine, async (t, system) => {
    const bytes = 3 * 4096;
    const cmb = system.allocate(A.bdf, 8192);
    const host = system.allocate(null, 4096);
    const views = [cmb.buffer.subarray(0, 4096), host.buffer, cmb.buffer.subarray(4096)];
    for (const [drive, commands, way] of [
      [B, 1, 'peerBus'],
      [A, 3, 'internal'],
    ] as const) {
      const start = away;
      away += MIB;
      const target = await system.target(disk(drive), { write: true });
      const path = { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 2 * 4096, [way]: 2 * 8192 };
      await witnessed(
        `vectored on ${drive.name}, ${engine}`,
        {
          ...{ bytes, source: null, destination: null, provider: null, path },
          commands: { [drive.name]: { read: commands, write: commands } },
        },
        async () => {
          t.equal(await target.readv(views, 0), bytes);
          t.equal(await target.writev(views, start), bytes);
        },
      );
      t.ok(same(disk(drive), disk(drive), start, bytes), drive.name);
      await target.close();
    }
  });
}

for (const [filesystem, make] of [
  ['ext4', 'mkfs.ext4 -q -F'],
  ['xfs', 'mkfs.xfs -q -f'],
] as const) {
  for (const engine of engines) {
    test(`files on ${filesystem}`, engine, async (t, system) => {
      const files: string[] = [];
      const folders: string[] = [];
      for (const drive of [B, C]) {
        const folder = `/mnt/${drive.name}`;
        const made = sh(
          `mkdir -p ${folder} && ${make} ${disk(drive)} && mount -t ${filesystem} ${disk(drive)} ${folder}`,
        );
        t.equal(made.status, 0, made.text);
        folders.push(folder);
        files.push(`${folder}/file`);
      }
      t.teardown(() => {
        for (const folder of folders) sh(`umount ${folder}`);
      });
      const [from, to] = files as [string, string];
      const bytes = MIB + 513;
      sh(`touch ${from}`);
      writePattern(from, bytes, seed++);
      for (const through of [B, A, null]) {
        sh(`rm -f ${to}; sync`);
        // The last block is read whole, and what it holds of the file is written through the page cache.
        const whole = Math.ceil(bytes / 512) * 512;
        const receipt = await witnessed(
          `${filesystem} file through ${through?.name ?? 'host memory'}, ${engine}`,
          (receipt) => ({
            bytes: whole,
            cached: 512,
            source: through === null ? null : B.name,
            destination: through === null ? null : C.name,
            provider: through?.name ?? null,
            besides: MIB,
            path: receipt.path,
          }),
          () =>
            system.pipeline(from, to, {
              provider: through?.bdf ?? 'none',
              requireP2p: through !== null,
              highWaterMark: 64 * KIB,
              flush: true,
            }),
        );
        t.match(receipt, { bytes, transport: through === null ? 'host-memory' : 'p2p-bus' }, receipt.reason);
        t.equal(sh(`cmp ${from} ${to}`).status, 0, 'the data is there, and its length');
      }
      for (const folder of folders) t.equal(sh(`umount ${folder}`).status, 0);
    });
  }
}

test('aborted and destroyed at any moment', 'uring', async (t, system) => {
  writePattern(disk(A), 4 * MIB, seed++);
  for (const delay of [0, 1, 2, 5, 10, 20, 50]) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), delay);
    const options = { end: 4 * MIB - 1, signal: stop.signal, highWaterMark: 16 * KIB, provider: A.bdf };
    const outcome = await system.pipeline(disk(A), disk(B), options).then(
      () => 'done',
      (error: { code: string }) => error.code,
    );
    t.match(outcome, /^(ABORT_ERR|done)$/, `aborted after ${delay} ms`);
    t.equal(p2pmem(A, 'available'), system.topology.find(A.bdf)!.p2pmem!.size - 131072, 'at once');

    const reader = system.createReadStream(disk(A), { end: 4 * MIB - 1, highWaterMark: 16 * KIB });
    const writer = system.createWriteStream(disk(B), { highWaterMark: 16 * KIB });
    reader.on('error', () => {});
    writer.on('error', () => {});
    reader.pipe(writer);
    await new Promise((resolve) => setTimeout(resolve, delay));
    for (const stream of delay % 2 === 0 ? [reader, writer] : [writer, reader]) stream.destroy();
    for (const stream of [reader, writer]) if (!stream.closed) await once(stream, 'close');
    t.equal(p2pmem(A, 'available'), system.topology.find(A.bdf)!.p2pmem!.size - 131072, 'and destroyed');
  }
});

for (const engine of engines) {
  t.test(`SIGKILL in the middle of a copy gives the pool back, ${engine}`, async (t) => {
    const before = p2pmem(A, 'available');
    const copier = path.join(path.dirname(fileURLToPath(import.meta.url)), 'copier.js');
    const child = spawn(process.execPath, [copier, disk(A), disk(B), engine, A.bdf], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await Promise.race([once(child.stdout, 'data'), once(child, 'close')]);
    t.equal(child.exitCode, null, 'it is copying');
    t.ok(p2pmem(A, 'available') < before, 'it has some of the pool');
    child.kill('SIGKILL');
    if (child.exitCode === null) await once(child, 'close');
    t.equal(child.signalCode, 'SIGKILL');
    t.equal(p2pmem(A, 'available'), before);
  });
}

test('a pool that is exhausted', 'uring', async (t, system) => {
  const free = p2pmem(A, 'available');
  writePattern(disk(A), 256 * KIB, seed++);
  const all = system.allocate(A.bdf, free);
  t.equal(p2pmem(A, 'available'), 0);
  t.throws(() => system.allocate(A.bdf, 4096), { code: 'ENOMEM', syscall: 'mmap' });
  const options = { end: 256 * KIB - 1, provider: A.bdf };
  await t.rejects(system.pipeline(disk(A), disk(B), { ...options, requireP2p: true }), {
    code: 'ERR_P2P_REQUIRED',
    message: /bytes free/,
  });
  const receipt = await witnessed(
    'with the pool exhausted',
    ({ path }) => ({ bytes: 256 * KIB, source: A.name, destination: B.name, provider: null, path }),
    () => system.pipeline(disk(A), disk(B), options),
  );
  t.match(receipt, { transport: 'host-memory', provider: null, reason: /pool has \d+ bytes free/ });
  t.equal(sh(`cmp -n ${256 * KIB} ${disk(A)} ${disk(B)}`).status, 0);
  all.free();
  const again = await system.pipeline(disk(A), disk(B), options);
  t.match(again, { transport: 'p2p-bus', provider: A.bdf }, 'with memory there is peer-to-peer again');
});

test('what is stacked on a drive refuses CMB memory, and the receipt says so', 'uring', async (t, system) => {
  const loop = sh('losetup -f').text;
  sh('dd if=/dev/zero of=/tmp/loop.img bs=1M count=4');
  t.equal(sh(`losetup ${loop} /tmp/loop.img`).status, 0, loop);
  const table = `0 ${C.size / 512} linear ${disk(C)} 0`;
  const linear = sh(`dmsetup create --noudevsync --noudevrules lin --table "${table}" && dmsetup mknodes`);
  t.equal(linear.status, 0, linear.text);
  writePattern(disk(A), 256 * KIB, seed++);
  for (const [device, reason] of [
    [loop, /loop/],
    ['/dev/mapper/lin', /device-mapper/],
  ] as const) {
    const options = { end: 256 * KIB - 1, provider: A.bdf };
    const receipt = await system.pipeline(disk(A), device, options);
    t.match(receipt, { transport: 'host-memory', provider: null, reason }, receipt.reason);
    t.equal(receipt.path.hostDram, 2 * 256 * KIB);
    t.equal(sh(`cmp -n ${256 * KIB} ${disk(A)} ${device}`).status, 0);
    await t.rejects(system.pipeline(disk(A), device, { ...options, requireP2p: true }), {
      code: 'ERR_P2P_REQUIRED',
    });
    const target = await system.target(device, { write: true });
    const memory = system.allocate(A.bdf, 4096);
    await t.rejects(target.read(memory.buffer, 0), { code: 'EREMOTEIO' }, 'the kernel says so too');
    await t.rejects(target.write(memory.buffer, 0), { code: 'EREMOTEIO' });
    await target.close();
    memory.free();
  }
  sh(`dmsetup remove --noudevsync --noudevrules lin; losetup -d ${loop}; rm /tmp/loop.img`);
});

/** Last: from here on drives are missing. */
const MISSING = /^(ENODEV|ENXIO|EIO|ENOSPC|ERR_SHORT_TRANSFER)$/;
for (const [removed, role] of [
  [D, 'source'],
  [C, 'destination'],
] as const) {
  test(`the ${role} is removed in the middle of a copy`, 'uring', async (t, system) => {
    const [from, to] = role === 'source' ? [removed, A] : [A, removed];
    let seen = 0;
    const error = await system
      .pipeline(disk(from), disk(to), {
        highWaterMark: 64 * KIB,
        provider: A.bdf,
        onProgress: ({ bytes }) => {
          if (bytes > 0 && seen === 0) {
            seen = bytes;
            sh(`echo 1 > ${removed.sysfs}/remove`);
          }
        },
      })
      .then(
        () => null,
        (error: Error & { code: string }) => error,
      );
    t.match(error?.code, MISSING, error?.message ?? 'no error');
    t.ok(seen > 0 && error?.message.includes(disk(removed)), `${error?.message}`);
    t.comment(`note: ${role} removed: ${error?.message}`);
  });
}

t.test('the drive whose CMB it goes through is removed in the middle of a copy', async (t) => {
  const system = await openSystem({ backend: 'native' });
  let removed = false;
  const outcome = await system
    .pipeline(disk(A), disk(A), {
      highWaterMark: 64 * KIB,
      end: 256 * MIB - 1,
      destinationStart: 256 * MIB,
      provider: B.bdf,
      onProgress: ({ bytes }) => {
        if (bytes > 0 && !removed) {
          removed = true;
          sh(`echo 1 > ${B.sysfs}/remove &`);
        }
      },
    })
    .then(
      () => 'done',
      (error: Error) => error.message,
    );
  t.comment(`note: provider removed: ${outcome}`);
  t.ok(removed);
  t.same(await system.close(), ZERO);
  // With the last mapping gone the kernel can let the drive go.
  for (let i = 0; i < 100 && sh(`test -e ${B.sysfs}`).status === 0; i++)
    await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(sh(`test -e ${B.sysfs}`).status, 1, 'it is gone');
  t.match(copyInC(disk(A), disk(A), A.allocate!, 65536, 65536), { errno: 0 }, 'the others work');
});
