/** Targets and the memory of a CMB: which memory may be read into, by whom, and when it is given back. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { PciDev } from '../../lib/backend/topology.js';
import { loadAddon, nativeCounters } from '../../lib/native/addon.js';
import { acquireEngine } from '../../lib/native/engine.js';
import { NativeMemory } from '../../lib/native/memory.js';
import { openPath } from '../../lib/native/open.js';
import type { Sysfs } from '../../lib/native/sysfs/machine.js';
import { NativeTarget } from '../../lib/native/target.js';
import { fakePciDev } from '../helpers/fake-cmb.js';
import { directIoDir, pattern, skipNative, transfer } from '../helpers/native.js';

const engines = ['uring', 'threads'] as const;
const KiB = 1024;
const MiB = 1024 * KiB;

t.test('memory of a CMB', { skip: skipNative }, async (t) => {
  // A file on tmpfs in place of `p2pmem/allocate`, and a file that claims to be a drive.
  const directory = directIoDir(t);
  mkdirSync(join(directory, 'p2pmem'));
  const door = join(directory, 'p2pmem/allocate');
  writeFileSync(door, Buffer.alloc(MiB));
  const provider: PciDev = {
    ...fakePciDev('0000:03:00.0'),
    p2pmem: { size: MiB, available: MiB, published: true },
  };
  const other = fakePciDev('0000:04:00.0');
  const sysfs = {
    live: false,
    controllers: [],
    directory: () => directory,
    p2pmem: () => provider.p2pmem,
  } as unknown as Sysfs;
  const memory = new NativeMemory(sysfs);
  const cmb = new Uint8Array(memory.mmapP2pmem(provider, 64 * KiB).buffer);
  const host = new Uint8Array(memory.allocHost(64 * KiB).buffer);
  const file = join(directory, 'data');
  const content = pattern(256 * KiB);
  writeFileSync(file, content);
  const addon = loadAddon();
  const open = async (client: PciDev, kind: 'uring' | 'threads') => {
    const engine = acquireEngine(kind);
    return new NativeTarget(
      await openPath({ addon, engine, controllers: [] }, file, { write: true }, null),
      {
        name: 'fake',
        path: file,
        kind: 'file',
        client,
        noP2pReason: null,
        unproven: null,
        metadataBytes: null,
      },
      engine,
      {
        topology: {
          cpu: { vendor: null, family: null },
          kernel: null,
          iommu: 'none',
          hostBridges: [],
          functions: [provider, other],
          unknowns: [],
          find: () => null,
        },
        passthrough: false,
        onClose: () => {},
      },
    );
  };

  for (const engine of engines) {
    await t.test(`${engine}: bytes are booked by the way they go`, async (t) => {
      const owner = await open(provider, engine);
      const internal = await transfer(owner, 'read', 0, cmb.subarray(0, 8192));
      t.equal(internal.result, 8192);
      t.same(internal.path, { internal: 8192, peerBus: 0, hostBridge: 0, hostDram: 0 });
      t.ok(Buffer.from(cmb.subarray(0, 8192)).equals(content.subarray(0, 8192)));

      // The owner fails a command that mixes: it is cut there, and is one transfer all the same.
      const mixed = await transfer(
        owner,
        'read',
        4096,
        cmb.subarray(0, 4096),
        host.subarray(0, 8192),
        cmb.subarray(4096, 8192),
      );
      t.equal(mixed.result, 16384);
      t.same(mixed.path, { internal: 8192, peerBus: 0, hostBridge: 0, hostDram: 8192 });
      t.ok(Buffer.from(host.subarray(0, 8192)).equals(content.subarray(8192, 16384)));
      t.ok(Buffer.from(cmb.subarray(4096, 8192)).equals(content.subarray(16384, 20480)));
      const tail = await transfer(owner, 'read', 252 * KiB, cmb.subarray(0, 4096), host.subarray(0, 8192));
      t.equal(tail.result, 4096, 'the end is in the first piece');
      await owner.close();

      const peer = await open(other, engine);
      const io = await transfer(peer, 'read', 0, host.subarray(0, 4096), cmb.subarray(0, 4096));
      t.equal(io.result, 8192);
      t.equal(io.path.hostDram, 4096);
      t.equal(io.path.peerBus + io.path.hostBridge, 4096);
      await peer.close();
    });
  }
  memory.close();
  t.equal(nativeCounters().mappings, 0);
});
