/** `explain --kernel` on every preset: under each release each pair has an answer, and each answer its reason. */
import t from 'tap';
import { KERNEL_RELEASES, openSystem } from '../../lib/index.js';
import { presets } from '../../lib/machine/presets.js';

const RELEASES = [
  ...KERNEL_RELEASES,
  '5.14.0-503.el9',
  '6.1.0-28-amd64',
  '6.12.117+deb12-amd64',
  '6.17.0-35-generic',
  '6.6.0-28.oe2403.x86_64',
  '6.17.0-1.an8.x86_64',
  '7.9',
];
const MAP_TYPES = ['BUS_ADDR', 'THRU_HOST_BRIDGE', 'NOT_SUPPORTED', 'UNKNOWN'];

for (const [name, preset] of Object.entries(presets)) {
  t.test(name, async (t) => {
    for (const kernel of RELEASES) {
      const system = await openSystem({ machine: { ...preset, kernel } });
      const wrong = system.explainAll().flatMap(({ clients }) =>
        clients.filter(({ mapType, distance, reason }) => {
          const isYes = mapType === 'BUS_ADDR' || mapType === 'THRU_HOST_BRIDGE';
          return !MAP_TYPES.includes(mapType) || isYes !== distance >= 0 || !reason.endsWith('.');
        }),
      );
      t.same(wrong, [], `Linux ${kernel}`);
      t.equal(system.topology.kernel?.text, kernel);
      await system.close();
    }
  });
}
