/** A third drive lends its CMB to a copy and is pulled out under it: the copy goes on through host memory, and says so. */
import t from 'tap';
import { EmulatorBackend } from '../../lib/emulator/backend.js';
import { openSystem, P2pdmaError, type System } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';

const MIB = 1024 * 1024;
const SIZE = 6 * MIB;
const source = bytesOf(SIZE + 4096, 3);

/** Pull `controller` out as soon as so much was written. */
function pull(system: System, controller: string, bytes: number) {
  let pulled = false;
  return ({ bytes: done }: { bytes: number }) => {
    if (pulled || done < bytes) return;
    pulled = true;
    const backend = system.context.backend;
    if (!(backend instanceof EmulatorBackend)) throw new Error('not emulated');
    backend.remove(controller);
  };
}

const options = { provider: 'nvme0', highWaterMark: 65536, bandwidth: 12 * MIB, end: SIZE - 1 };

for (const destinations of [['nvme1n1'], ['nvme1n1', 'nvme3n1']]) {
  t.test(`to ${destinations.join(' and ')}: whole, through host memory from there on`, async (t) => {
    const system = await openSystem({ machine: 'four-drives' });
    await poke(system, 'nvme2n1', 0, source);
    const receipt = await system.pipeline('nvme2n1', destinations, {
      ...options,
      verify: true,
      onProgress: pull(system, 'nvme0', MIB),
    });
    t.match(receipt, { bytes: SIZE, verified: true, transport: 'host-memory', provider: null });
    t.match(receipt.reason, /CMB memory of 0000:03:00.0 failed|gone/, 'says what happened');
    t.ok(receipt.path.hostDram > 0 && receipt.path.peerBus > 0, 'some of it went each way');
    for (const name of destinations) {
      t.ok((await peek(system, name, 0, SIZE)).equals(source.subarray(0, SIZE)), `${name}: every byte`);
    }
    t.same(await system.close(), NOTHING_LEFT);
  });
}

t.test('peer to peer or nothing: it fails, and is not silently something else', async (t) => {
  const system = await openSystem({ machine: 'four-drives' });
  await poke(system, 'nvme2n1', 0, source);
  const error: unknown = await system
    .pipeline('nvme2n1', 'nvme1n1', {
      ...options,
      requireP2p: true,
      onProgress: pull(system, 'nvme0', MIB),
    })
    .then(
      () => null,
      (error) => error,
    );
  t.ok(error instanceof P2pdmaError, String(error));
  // What was in flight with the memory ends as the controller ends it; what comes after finds none.
  t.match(error, { code: /ERR_P2P_REQUIRED|EFAULT|EIO/ });
  t.same(await system.close(), NOTHING_LEFT);
});
