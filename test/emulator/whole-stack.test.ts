/**
 * Random transfers through the whole emulated stack against a model: plain byte arrays for the drives, and the rules
 * of P2PDMA for what may succeed.
 */

import t from 'tap';
import { EIO, EREMOTEIO } from '../../lib/base/errno.js';
import { openEmulator } from '../../lib/emulator/boot.js';
import type { PresetName } from '../../lib/machine/preset-names.js';
import { presets } from '../../lib/machine/presets.js';
import { io, pattern, sameBytes } from '../helpers/emulated-io.js';
import { fc } from '../helpers/random.js';

const PAGE = 4096;
const SPAN = 256 * 1024;
const POOL = 64 * 1024;

/** What peer traffic does on each machine: the path it takes, or null: it is refused. */
const machines: [PresetName, 'peerBus' | 'hostBridge' | null][] = [
  ['switch', 'peerBus'],
  ['nested-switches', 'peerBus'],
  ['bus-offset', 'peerBus'],
  ['iommu-switch', 'peerBus'],
  ['iommu', 'hostBridge'],
  ['root-ports-listed', 'hostBridge'],
  ['acs-listed', 'hostBridge'],
  ['root-ports', null],
  ['acs', null],
];

type Kind = 'cmb0' | 'cmb1' | 'host';

const transferArbitrary = fc.record({
  drive: fc.nat(1),
  op: fc.constantFrom('read', 'write') as fc.Arbitrary<'read' | 'write'>,
  block: fc.nat(SPAN / 512 - 1),
  pieces: fc.array(
    fc.record({
      kind: fc.constantFrom('cmb0', 'cmb1', 'host') as fc.Arbitrary<Kind>,
      pages: fc.integer({ min: 1, max: 4 }),
      at: fc.nat(POOL / PAGE - 4),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  /** A single piece may start at any multiple of 4 and end inside a page. */
  shift: fc.nat(1023).map((n) => n * 4),
  trim: fc.integer({ min: 0, max: 7 }),
  seed: fc.nat(1000),
});

for (const [preset, peerPath] of machines) {
  t.test(`${preset}: every transfer does what the model says, or is refused whole`, async (t) => {
    const backend = await openEmulator({ machine: presets[preset] });
    const drives = [
      await backend.openTarget('nvme0n1', { write: true }),
      await backend.openTarget('nvme1n1', { write: true }),
    ];
    const mappings = {
      cmb0: backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, POOL),
      cmb1: backend.memory.mmapP2pmem(backend.controllers[1]!.pdev!, POOL),
      host: backend.memory.allocHost(POOL),
    };
    const media = [new Uint8Array(SPAN + POOL), new Uint8Array(SPAN + POOL)];

    await fc.assert(
      fc.asyncProperty(transferArbitrary, async ({ drive, op, block, pieces, shift, trim, seed }) => {
        const lone = pieces.length === 1;
        const used: { kind: Kind; view: Uint8Array }[] = [];
        const taken = new Set<string>();
        for (const { kind, pages, at } of pieces) {
          const from = at * PAGE + (lone ? shift : 0);
          const length = Math.min(pages * PAGE - (lone ? trim * 512 : 0), POOL - from);
          const whole = length - (length % 512);
          let free = whole > 0;
          for (let page = at; page < at + pages; page++) free &&= !taken.has(`${kind}${page}`);
          if (!free) continue;
          for (let page = at; page < at + pages; page++) taken.add(`${kind}${page}`);
          used.push({ kind, view: new Uint8Array(mappings[kind].buffer, from, whole) });
        }
        if (used.length === 0) return;
        const total = used.reduce((sum, { view }) => sum + view.length, 0);
        const offset = block * 512;
        const medium = media[drive]!.subarray(offset, offset + total);
        const data = pattern(total, seed + 1);
        let at = 0;
        for (const { view } of used) {
          view.set(data.subarray(at, at + view.length));
          at += view.length;
        }

        const own = `cmb${drive}`;
        const owned = used.filter(({ kind }) => kind === own).length;
        const peers = used.filter(({ kind }) => kind !== own && kind !== 'host').length;
        const bytesOf = (test: (kind: Kind) => boolean) =>
          used.reduce((sum, { kind, view }) => sum + (test(kind) ? view.length : 0), 0);
        let expected = total;
        if (peers > 0 && peerPath === null) expected = -EREMOTEIO;
        else if (owned > 0 && owned < used.length) expected = -EIO;

        const { result, path } = await io(drives[drive]!, op, offset, ...used.map(({ view }) => view));
        if (result !== expected) throw new Error(`result ${result}, expected ${expected}`);
        if (result > 0) {
          if (op === 'write') medium.set(data);
          else data.set(medium);
          const paths = {
            internal: bytesOf((k) => k === own),
            peerBus: 0,
            hostBridge: 0,
            hostDram: bytesOf((k) => k === 'host'),
          };
          if (peerPath !== null) paths[peerPath] = bytesOf((k) => k !== own && k !== 'host');
          if (JSON.stringify(path) !== JSON.stringify(paths)) throw new Error(`path ${JSON.stringify(path)}`);
        }
        at = 0;
        for (const { view } of used) {
          if (!sameBytes(view, data.subarray(at, at + view.length))) throw new Error('memory differs');
          at += view.length;
        }
        const back = new Uint8Array(Math.ceil(total / PAGE) * PAGE);
        await io(drives[drive]!, 'read', offset, back);
        if (!sameBytes(back.subarray(0, total), medium)) throw new Error('the medium differs');
      }),
      { numRuns: 150 },
    );
    t.pass('150 transfers');

    for (const drive of drives) await drive.close();
    for (const mapping of Object.values(mappings)) mapping.munmap();
    t.same(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
  });
}
