import t from 'tap';
import { openEmulator } from '../../lib/emulator/boot.js';
import { presets } from '../../lib/machine/presets.js';
import { chooseRoute } from '../../lib/streams/route.js';

t.test('a way that is not proven, when peer-to-peer is required, needs the caller’s word', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const [source, destination] = await Promise.all([
    backend.openTarget('nvme0n1', {}),
    backend.openTarget('nvme1n1', { write: true }),
  ]);
  const { name, client, noP2pReason } = destination;
  const doubtful = { name, client, noP2pReason, unproven: 'btrfs may do it otherwise' };
  const choose = (options: Parameters<typeof chooseRoute>[2]) =>
    chooseRoute(backend, [source, doubtful], options);

  t.match(choose({}), { transport: 'p2p-bus', unproven: 'btrfs may do it otherwise' });
  t.match(choose({ requireP2p: true, allowUnproven: true }), { transport: 'p2p-bus', unproven: /btrfs/ });
  t.match(choose({ requireP2p: true }), {
    transport: 'host-memory',
    provider: null,
    reason: 'nvme1n1: btrfs may do it otherwise. Pass allowUnproven to take its word for it',
  });
  await Promise.all([source.close(), destination.close()]);
  await backend.close();
});
