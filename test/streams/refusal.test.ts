import t from 'tap';
import { EINVAL, EIO, EREMOTEIO } from '../../lib/base/errno.js';
import { isAligned, isPeerRefusal, refusalWords, transferError } from '../../lib/streams/refusal.js';

const peer = { bdf: '0000:03:00.0' };
const old = '6.12.117';
const recent = '6.17.0-35-generic';

t.test('host memory is never refused as a peer’s', async (t) => {
  for (const errno of [-EREMOTEIO, -EINVAL, EREMOTEIO]) {
    for (const release of [old, recent, null]) {
      t.equal(isPeerRefusal(errno, { provider: null, aligned: true, release }), false);
    }
  }
});

t.test(
  'a peer’s memory: EREMOTEIO on any kernel, EINVAL from 6.17 on and where the kernel is not known',
  async (t) => {
    const is = (errno: number, release: string | null, aligned = true) =>
      isPeerRefusal(errno, { provider: peer, aligned, release });
    t.equal(is(-EREMOTEIO, old), true);
    t.equal(is(-EREMOTEIO, recent), true, 'a queue that takes no peer memory');
    t.equal(is(-EREMOTEIO, recent, false), true);
    t.equal(is(-EINVAL, old), false, 'before 6.17 EINVAL is about the request');
    t.equal(is(-EINVAL, recent), true);
    t.equal(is(-EINVAL, null), true);
    t.equal(is(-EINVAL, recent, false), false, 'a request that is not aligned earns its EINVAL');
    t.equal(is(-EIO, recent), false);
  },
);

t.test('aligned: offset, length and address', async (t) => {
  const limits = {
    logicalBlockSize: 512,
    dmaAlignment: 4,
    maxTransfer: 131072,
    maxSegments: 128,
    pciP2pdma: true,
  };
  const memory = new ArrayBuffer(8192);
  t.equal(isAligned(limits, 1024, new Uint8Array(memory, 4, 512)), true);
  t.equal(isAligned(limits, 1000, new Uint8Array(memory, 4, 512)), false);
  t.equal(isAligned(limits, 1024, new Uint8Array(memory, 2, 512)), false);
  t.equal(isAligned(limits, 1024, new Uint8Array(memory, 0, 100)), false);
});

t.test('words blame peer-to-peer only where the memory was a peer’s', async (t) => {
  t.equal(
    refusalWords('/dev/nvme1n1', -EINVAL, peer),
    '/dev/nvme1n1: the kernel refused CMB memory of 0000:03:00.0 (EINVAL)',
  );
  const ofPeer = transferError(-EREMOTEIO, 'write', '/dev/nvme1n1', peer, { offset: 4096 });
  t.equal(ofPeer.message, "EREMOTEIO: remote I/O error, write '/dev/nvme1n1' at offset 4096");
  t.match(ofPeer.hint, /peer-to-peer DMA: `p2pdma explain`/);
  const ofHost = transferError(-EREMOTEIO, 'write', '/dev/nvme1n1', null, { offset: 4096, hint: undefined });
  t.equal(ofHost.code, 'EREMOTEIO');
  t.match(ofHost.hint, /drive itself could not write these blocks \(“critical target error”/);
  t.match(ofHost.hint, /peer-to-peer is not the cause/);
  const other = transferError(-EIO, 'read', '/dev/nvme1n1', null, { hint: 'its own' });
  t.equal(other.hint, 'its own');
});
