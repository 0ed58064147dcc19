/**
 * What a real kernel does with peer memory on filesystems that may go another way than O_DIRECT says, and on a namespace
 * whose blocks have metadata. The witness on the host says where the data really went.
 */
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { openSystem, type Receipt, type System } from '../../../lib/index.js';
import { type GuestDrive, guestDrive, sh, witnessed, writePattern } from './guest.js';

const MiB = 2 ** 20;
const BYTES = 4 * MiB;
const [raw, holder, protectedDrive] = [guestDrive('nvme0'), guestDrive('nvme1'), guestDrive('nvme2')];
const disk = (drive: GuestDrive): string => drive.disks[0]!;

function run(command: string): void {
  const { status, text } = sh(command);
  if (status !== 0) throw new Error(`${command}: ${text}`);
}

function mounted(t: Test, make: string, mount: string): void {
  run(`mkdir -p /mnt/fs && ${make} ${disk(holder)} && mount ${mount} ${disk(holder)} /mnt/fs`);
  t.teardown(() => run('umount /mnt/fs'));
}

const settle = 'sync; echo 3 > /proc/sys/vm/drop_caches';

async function on<T>(work: (system: System) => Promise<T>): Promise<T> {
  await using system = await openSystem({ backend: 'native' });
  return await work(system);
}

/** Direct, by the receipt and by the witness; the filesystem's own blocks are in host memory beside it. */
async function direct(
  t: Test,
  name: string,
  from: GuestDrive,
  to: GuestDrive,
  paths: [string, string],
): Promise<void> {
  const receipt = await witnessed(
    name,
    { bytes: BYTES, source: from.name, destination: to.name, provider: from.name, besides: 4 * MiB },
    () =>
      on((system) =>
        system.pipeline(paths[0], paths[1], { requireP2p: true, end: BYTES - 1, provider: from.bdf }),
      ),
  );
  t.match(receipt, { bytes: BYTES, transport: 'p2p-bus', unproven: null, path: { hostDram: 0 } }, name);
  t.equal(receipt.path.unproven, undefined);
}

t.test('btrfs', async (t) => {
  mounted(t, 'mkfs.btrfs -q -f -d single -m single', '-t btrfs');
  run(`dd if=/dev/urandom of=/mnt/fs/plain bs=1M count=4 2>/dev/null; ${settle}`);
  await direct(t, 'btrfs: plain extents are read directly', holder, raw, ['/mnt/fs/plain', disk(raw)]);

  run(
    `mount -o remount,compress-force=zstd /mnt/fs; yes compressible | head -c ${BYTES} > /mnt/fs/zip; ${settle}`,
  );
  const zip = (options: object): Promise<Receipt> =>
    on((system) => system.pipeline('/mnt/fs/zip', disk(raw), { ...options, end: BYTES - 1 }));
  await t.rejects(zip({ requireP2p: true }), {
    code: 'ERR_P2P_REQUIRED',
    message: /compressed or inline extents/,
  });
  await t.rejects(
    zip({ requireP2p: true, allowUnproven: true }),
    { code: 'ERR_P2P_REQUIRED' },
    'that is known',
  );
  t.match(await zip({ verify: true }), {
    transport: 'host-memory',
    verified: true,
    reason: /compressed or inline/,
  });

  const write = (options: object): Promise<Receipt> =>
    on((system) => system.pipeline(disk(raw), '/mnt/fs/new', { ...options, end: BYTES - 1 }));
  run('mount -o remount,compress=no /mnt/fs');
  await t.rejects(write({ requireP2p: true }), {
    code: 'ERR_P2P_REQUIRED',
    message: /checksums.*Pass allowUnproven/,
  });
  const taken = await write({ requireP2p: true, allowUnproven: true, verify: true });
  t.match(taken, { transport: 'p2p-bus', unproven: /checksums/, verified: true, path: { unproven: BYTES } });

  run('umount /mnt/fs && mount -o nodatasum /dev/disk /mnt/fs'.replace('/dev/disk', disk(holder)));
  writePattern(disk(raw), BYTES, 3);
  await direct(t, 'btrfs: without checksums it is written directly', raw, holder, [
    disk(raw),
    '/mnt/fs/nosum',
  ]);
});

t.test('overlayfs hands peer memory on to its layers', async (t) => {
  mounted(t, 'mkfs.ext4 -q -F', '-t ext4');
  run('mkdir /mnt/fs/low /mnt/fs/up /mnt/fs/work /mnt/fs/merged');
  run(`dd if=/dev/urandom of=/mnt/fs/low/file bs=1M count=4 2>/dev/null; ${settle}`);
  run(
    'mount -t overlay overlay -o lowerdir=/mnt/fs/low,upperdir=/mnt/fs/up,workdir=/mnt/fs/work /mnt/fs/merged',
  );
  try {
    await direct(t, 'overlayfs: read from its lower layer', holder, raw, ['/mnt/fs/merged/file', disk(raw)]);
    writePattern(disk(raw), BYTES, 4);
    await direct(t, 'overlayfs: written to its upper layer', raw, holder, [disk(raw), '/mnt/fs/merged/new']);
  } finally {
    run('umount /mnt/fs/merged');
  }
});

t.test('overlayfs over squashfs: buffered, and the receipt says so', async (t) => {
  mounted(t, 'mkfs.ext4 -q -F', '-t ext4');
  run('mkdir /mnt/fs/src /mnt/fs/low /mnt/fs/up /mnt/fs/work /mnt/fs/merged');
  run('dd if=/dev/urandom of=/mnt/fs/src/file bs=1000 count=301 2>/dev/null');
  run(
    'mksquashfs /mnt/fs/src /mnt/fs/image -quiet -noappend -no-progress -processors 1 && mount -o loop,ro /mnt/fs/image /mnt/fs/low',
  );
  run(
    'mount -t overlay overlay -o lowerdir=/mnt/fs/low,upperdir=/mnt/fs/up,workdir=/mnt/fs/work /mnt/fs/merged',
  );
  try {
    const receipt = await on((system) =>
      system.pipeline('/mnt/fs/merged/file', '/mnt/fs/out', { verify: true }),
    );
    t.match(receipt, { bytes: 301_000, transport: 'host-memory', verified: true, reason: /O_DIRECT/ });
    t.ok(readFileSync('/mnt/fs/out').equals(readFileSync('/mnt/fs/src/file')));
  } finally {
    run('umount /mnt/fs/merged; umount /mnt/fs/low');
  }
});

t.test('a namespace with metadata: passthrough is refused before its first command', async (t) => {
  const name = disk(protectedDrive).slice(5);
  t.equal(readFileSync(`/sys/block/${name}/metadata_bytes`, 'utf8').trim(), '8');
  await witnessed(
    'no command of ours reaches the namespace with metadata',
    { bytes: 0, provider: null, besides: MiB, commands: { nvme2: { read: 0, write: 0 } } },
    () =>
      on(async (system) => {
        const opened = system.target(name, { engine: 'passthrough' });
        await t.rejects(opened, { code: 'EOPNOTSUPP', message: /8 bytes of metadata/ });
        const target = await system.target(name);
        const read = { opcode: 2, cdw12: 7, data: Buffer.alloc(4096) };
        await t.rejects(target.passthrough(read), { code: 'EOPNOTSUPP', message: /8 bytes of metadata/ });
        const flush = await target.passthrough({ opcode: 0 });
        t.equal(flush.status, 0, 'what moves no blocks is sent');
        await target.close();
      }),
  );
  writePattern(disk(raw), MiB, 5);
  const receipt = await on((system) =>
    system.pipeline(disk(raw), disk(protectedDrive), { end: MiB - 1, verify: true }),
  );
  t.match(receipt, { bytes: MiB, verified: true }, 'the kernel carries the metadata');
});
