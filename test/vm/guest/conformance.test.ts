/** The suite that every backend runs, natively: a real kernel, real p2pmem/allocate, four drives under a switch. */
import { open, stat } from 'node:fs/promises';
import t from 'tap';
import { openSystem } from '../../../lib/index.js';
import { type Backend, suite } from '../../conformance/suite.js';
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

const common = { provider: provider?.bdf ?? null, noProvider: 'this machine has no CMB', peek, poke };

const namespaces: Backend = {
  name: 'namespaces',
  open: async () => {
    const system = await openSystem({ backend: 'native' });
    const length = async (path: string) => {
      const target = await system.target(path);
      await target.close();
      return target.size;
    };
    return { ...common, system, source, destinations: [a, b, c], kind: 'block', length };
  },
};

/** One file on each of four drives. */
function files(filesystem: string, make: string): Backend {
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
  return {
    name: `files on ${filesystem}`,
    open: async () => {
      for (const path of [from!, ...to]) {
        await using file = await open(path, 'w');
        await file.truncate(4 * 2 ** 20);
      }
      const system = await openSystem({ backend: 'native' });
      const destinations = to as unknown as [string, string, string];
      const length = async (path: string) => (await stat(path)).size;
      return { ...common, system, source: from!, destinations, kind: 'file', length };
    },
  };
}

const which = process.argv[2] ?? 'namespaces';
if (which === 'namespaces') suite(t, namespaces);
if (which === 'ext4') suite(t, files('ext4', 'mkfs.ext4 -q -F'));
if (which === 'xfs') suite(t, files('xfs', 'mkfs.xfs -q -f'));
