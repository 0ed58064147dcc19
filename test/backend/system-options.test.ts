/** Options that name two machines: neither their types nor their check takes them. */
import t from 'tap';
import { diagnose, openSystem, type SystemOptions } from '../../lib/index.js';

const REFUSED = { code: 'ERR_INVALID_ARG_VALUE' };

t.test('pairs that contradict each other', async (t) => {
  // @ts-expect-error a tree is not emulated
  await t.rejects(openSystem({ root: '/captured', machine: 'switch' }), REFUSED);
  // @ts-expect-error a tree is read natively
  await t.rejects(openSystem({ root: '/captured', backend: 'emulator' }), REFUSED);
  // @ts-expect-error a machine is emulated
  await t.rejects(openSystem({ machine: 'switch', backend: 'native' }), REFUSED);
  // @ts-expect-error two machines
  await t.rejects(diagnose({ root: '/captured', machine: 'switch' }), REFUSED);
});

/** Nothing here is run: it compiles. */
export function taken(backend: 'auto' | 'native' | 'emulator', wide: SystemOptions): void {
  openSystem({ backend });
  openSystem({ backend: 'native', root: '/captured', inspect: true });
  openSystem({ backend: 'auto', root: '/captured', kernel: '7.2' });
  openSystem({ backend: 'emulator', machine: 'switch', kernel: '7.2' });
  openSystem({ machine: { version: 1 } });
  openSystem(wide);
  diagnose({ root: '/captured', kernel: '7.2' });
  diagnose({ machine: 'switch' });
}
