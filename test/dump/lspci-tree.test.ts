/** The drawing of `lspci -t`. */
import t from 'tap';
import { looksLikeTree, parseTree } from '../../lib/dump/lspci-tree.js';
import { describeMachine, MACHINE_PRESETS, openSystem } from '../../lib/index.js';
import { hexDump, lspci, noLspci } from '../helpers/lspci-dump.js';

const DRAWING = String.raw`-+-[10000:e0]-+-00.0
 |            \-02.0-[e1]----00.0
 +-[0000:40]---00.0
 \-[0000:00]-+-00.0
             +-01.0-[01-04]----00.0-[02-04]--+-00.0-[03]--+-00.0
             |                               |            \-00.1
             |                               \-01.0-[04]----00.0
             +-02.0-[05]--
             \-1f.3
`;

const drawn = (text: string) =>
  parseTree(text)?.map(({ bdf, buses, vendor, device }) => ({
    bdf,
    ...(buses == null ? {} : { below: `${buses.secondary}-${buses.subordinate}` }),
    ...(vendor === undefined ? {} : { ids: [vendor, device] }),
  }));

t.test('roots, bridges, functions', async (t) => {
  t.ok(looksLikeTree(DRAWING));
  t.strictSame(drawn(DRAWING), [
    { bdf: '10000:e0:00.0' },
    { bdf: '10000:e0:02.0', below: '225-225' },
    { bdf: '10000:e1:00.0' },
    { bdf: '0000:40:00.0' },
    { bdf: '0000:00:00.0' },
    { bdf: '0000:00:01.0', below: '1-4' },
    { bdf: '0000:01:00.0', below: '2-4' },
    { bdf: '0000:02:00.0', below: '3-3' },
    { bdf: '0000:03:00.0' },
    { bdf: '0000:03:00.1' },
    { bdf: '0000:02:01.0', below: '4-4' },
    { bdf: '0000:04:00.0' },
    { bdf: '0000:00:02.0', below: '5-5' },
    { bdf: '0000:00:1f.3' },
  ]);
});

t.test('with names, IDs and regions', async (t) => {
  const text = String.raw`-[0000:00]-+-00.0  Intel Corporation [AMD] Thing [8086:2020]
           +-01.0-[01]----00.0  144d:a80a
           |                  Memory at fe000000 (64-bit, non-prefetchable)
           \-02.0  Nothing
`;
  t.strictSame(drawn(text), [
    { bdf: '0000:00:00.0', ids: [0x8086, 0x2020] },
    { bdf: '0000:00:01.0', below: '1-1' },
    { bdf: '0000:01:00.0', ids: [0x144d, 0xa80a] },
    { bdf: '0000:00:02.0' },
  ]);
});

t.test('a bus whose bridge is missing is not put below the one above it', async (t) => {
  const text = String.raw`-[0000:00]---01.0-[01-04]--+-[0000:03]---00.0
                           \-[0000:01]---00.0
`;
  t.strictSame(drawn(text), [
    { bdf: '0000:00:01.0', below: '1-4' },
    { bdf: '0000:03:00.0' },
    { bdf: '0000:01:00.0' },
  ]);
});

t.test('quoted; lost columns are said', async (t) => {
  t.strictSame(drawn(DRAWING.replaceAll(/^/gm, '> ')), drawn(DRAWING));
  const lost = DRAWING.replaceAll(/^[ |]+/gm, '');
  t.equal(parseTree(lost), null);
  const system = await describeMachine(Buffer.from(`00:00.0 Host bridge: x\n\n${lost}`));
  t.match(system.evidence?.notKnown, [{ what: /lspci -t/, why: /columns are lost/ }]);
  await system.close();
});

t.test('each preset: the buses are those of the bytes', { skip: noLspci }, async (t) => {
  for (const machine of MACHINE_PRESETS) {
    const before = await openSystem({ machine });
    const text = lspci(hexDump(before.topology), '-t');
    const tree = await describeMachine([
      Buffer.from(lspci(hexDump(before.topology), '-n')),
      Buffer.from(text),
    ]);
    const above = ({ topology }: typeof tree) =>
      topology.functions.map(({ bdf, upstream }) => `${bdf} below ${upstream?.bdf ?? 'none'}`);
    t.strictSame(above(tree), above(before), machine);
    await Promise.all([before.close(), tree.close()]);
  }
});
