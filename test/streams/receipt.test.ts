import t from 'tap';
import { zeroPath } from '../../lib/backend/path-bytes.js';
import { endReceipt, receiptOf, withReceipt, worse } from '../../lib/streams/receipt.js';

const end = {
  ...{ bytes: 512, began: 1000, ended: 3500, origin: { backend: 'native' as const, machine: null } },
  route: { provider: { bdf: '0000:03:00.0' }, unproven: null },
  ...{ transport: 'p2p-bus' as const, reason: 'a switch', path: zeroPath() },
};

t.test('of two ways the less direct one is said', async (t) => {
  const ways = ['p2p-bus', 'p2p-host-bridge', 'host-memory'] as const;
  for (const [i, a] of ways.entries()) {
    for (const [j, b] of ways.entries()) t.equal(worse(a, b), ways[Math.max(i, j)], `${a}, ${b}`);
  }
});

t.test('what an end says of itself', async (t) => {
  const path = zeroPath();
  const receipt = endReceipt({ ...end, path });
  t.match(receipt, {
    bytes: 512,
    seconds: 2.5,
    backend: 'native',
    provider: '0000:03:00.0',
    verified: false,
  });
  path.hostDram = 7;
  t.equal(receipt.path.hostDram, 0, 'it does not change afterwards');
  t.match(endReceipt({ ...end, transport: 'host-memory' }), { provider: null }, 'a CMB that was not used');
  t.match(endReceipt({ ...end, began: 0 }), { seconds: 0 }, 'not begun');
  t.match(endReceipt({ ...end, origin: undefined }), { backend: null, machine: null }, 'not open');
  const began = performance.now() - 5000;
  const { seconds } = endReceipt({ ...end, began, ended: 0 });
  t.ok(seconds >= 5 && seconds < 60, 'up to now while it is going on');
});

t.test('an error knows how far its copy came, if it came anywhere', async (t) => {
  const receipt = endReceipt(end);
  const error = new Error('x');
  t.equal(withReceipt(error, receipt), error);
  t.equal(receiptOf(error), receipt);
  t.equal(receiptOf(withReceipt(new Error('y'), endReceipt({ ...end, bytes: 0 }))), null);
  for (const other of [new Error('z'), null, 'text', undefined]) t.equal(receiptOf(other), null);
  t.equal(withReceipt('text', receipt), 'text');
});
