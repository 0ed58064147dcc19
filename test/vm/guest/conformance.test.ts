/**
 * The suite that every backend runs, natively: a real kernel, real p2pmem/allocate, four drives under a switch;
 * by both engines. The argument says on what: namespaces, or files of a filesystem.
 */
import { open, stat } from 'node:fs/promises';
import t from 'tap';
import { openSystem } from '../../../lib/index.js';
import type { Backend } from '../../conformance/rig.js';
import { suite } from '../../conformance/suite.js';
import { guest, sh } from './guest.js';

const drives = guest().drives;
const provider = drives.find((drive) => drive.allocate !== null);
const [source, a, b, c] = drives.map((drive) => drive.disks[0]!) as [string, string, string, string];

async function peek(path: string, start: number, length: number): Promise<Buffer> {
  await using file = await open(path, 'r');
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, start + done);
    if (bytesRead === 0) throw new Error(`${path} ends at ${start + done}`);
    done += bytesRead;
  }
  return bytes;
}

async function poke(path: string, start: number, bytes: Buffer): Promise<void> {
  await using file = await open(path, 'r+');
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, start + done)).bytesWritten;
  }
  await file.sync();
}

type Engine = 'uring' | 'threads';
/** Under software emulation a CMB moves tens of MB/s at best. */
const UNIT = 256 * 1024;
const common = {
  provider: provider?.bdf ?? null,
  noProvider: 'this machine has no CMB',
  peerAlignment: {
    bytes: 512,
    reason: 'QEMU drops the ends of pages where a peer’s CMB address is no multiple of 512 (unaligned.test)',
  },
  peek,
  poke,
};

const namespaces = (engine: Engine): Backend => ({
  name: `namespaces, ${engine}`,
  unit: UNIT,
  open: async () => {
    const system = await openSystem({ backend: 'native', engine });
    const length = async (path: string) => {
      const target = await system.target(path);
      await target.close();
      return target.size;
    };
    return { ...common, system, source, destinations: [a, b, c], kind: 'block', length };
  },
});

/** One file on each of four drives. */
function files(filesystem: string, make: string): (engine: Engine) => Backend {
  const folders = drives.map((drive) => `/mnt/${drive.name}`);
  t.before(() => {
    for (const [i, folder] of folders.entries()) {
      const disk = drives[i]!.disks[0]!;
      const made = sh(`mkdir -p ${folder} && ${make} ${disk} && mount -t ${filesystem} ${disk} ${folder}`);
      if (made.status !== 0) throw new Error(made.text);
    }
  });
  t.teardown(() => {
    for (const folder of folders) sh(`umount ${folder}`);
  });
  const [from, ...to] = folders.map((folder) => `${folder}/file`);
  return (engine) => ({
    name: `files on ${filesystem}, ${engine}`,
    unit: UNIT,
    open: async () => {
      for (const path of [from!, ...to]) {
        await using file = await open(path, 'w');
        await file.truncate(4 * UNIT);
      }
      const system = await openSystem({ backend: 'native', engine });
      const destinations = to as unknown as [string, string, string];
      const length = async (path: string) => (await stat(path)).size;
      return { ...common, system, source: from!, destinations, kind: 'file', length };
    },
  });
}

const places: Record<string, () => (engine: Engine) => Backend> = {
  namespaces: () => namespaces,
  ext4: () => files('ext4', 'mkfs.ext4 -q -F'),
  xfs: () => files('xfs', 'mkfs.xfs -q -f'),
};
const place = places[process.argv[2]!]!();
for (const engine of ['uring', 'threads'] as const) suite(t, place(engine));
