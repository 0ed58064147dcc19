/**
 * Random vectored I/O, with segments in two CMBs and in host memory, against a plain byte array: on the owner of one of
 * the CMBs, on its peer, and on a drive that owns none. Machine: `four-drives`.
 */

import t from 'tap';
import { openSystem, type System, type Target } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { fc } from '../helpers/random.js';

const BLOCK = 512;
const SPAN = 256 * 1024;
const MEMORY = 192 * 1024;

type Kind = 'nvme0' | 'nvme1' | 'host' | 'heap';

interface Segment {
  readonly kind: Kind;
  /** Gap before it in its memory, in units of the DMA alignment. */
  readonly gap: number;
  readonly length: number;
}

interface Step {
  readonly op: 'readv' | 'writev';
  readonly block: number;
  readonly segments: readonly Segment[];
}

const segment: fc.Arbitrary<Segment> = fc.record({
  kind: fc.constantFrom<Kind>('nvme0', 'nvme1', 'host', 'heap'),
  gap: fc.integer({ min: 0, max: 300 }),
  length: fc.integer({ min: 0, max: 20 }).map((n) => n * BLOCK),
});

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom<'readv' | 'writev'>('readv', 'writev'),
  block: fc.integer({ min: 0, max: 350 }),
  segments: fc.array(segment, { minLength: 1, maxLength: 7 }),
});

interface Memory {
  readonly buffers: Record<Exclude<Kind, 'heap'>, Buffer>;
  free(): void;
}

function allocate(system: System): Memory {
  const pieces = {
    nvme0: system.allocate('nvme0', MEMORY),
    nvme1: system.allocate('nvme1', MEMORY),
    host: system.allocate(null, MEMORY),
  };
  return {
    buffers: { nvme0: pieces.nvme0.buffer, nvme1: pieces.nvme1.buffer, host: pieces.host.buffer },
    free: () => {
      for (const piece of Object.values(pieces)) piece.free();
    },
  };
}

/** Where each segment lies: one after the other in its memory, aligned as the drive wants it. */
function layOut(segments: readonly Segment[], { buffers }: Memory): Buffer[] {
  const at = { nvme0: 0, nvme1: 0, host: 0 };
  return segments.map(({ kind, gap, length }) => {
    if (kind === 'heap') return Buffer.allocUnsafeSlow(length);
    const start = at[kind] + gap * 4;
    at[kind] = start + length;
    return buffers[kind].subarray(start, start + length);
  });
}

for (const [drive, role] of [
  ['nvme0', 'the owner of a CMB'],
  ['nvme1', 'the owner of the other'],
  ['nvme2', 'a peer'],
] as const) {
  t.test(`${drive}, ${role}`, async (t) => {
    const system = await openSystem({ machine: 'four-drives' });
    const memory = allocate(system);
    const target = await system.target(`${drive}n1`, { write: true });
    t.equal(target.logicalBlockSize, BLOCK);
    let seed = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
        const model = bytesOf(SPAN, ++seed);
        await fillTarget(system, target, model);
        for (const { op, block, segments } of steps) {
          const views = layOut(segments, memory);
          const total = views.reduce((sum, view) => sum + view.length, 0);
          const position = block * BLOCK;
          const around = Object.values(memory.buffers).map((buffer) => buffer.fill(0x5a));
          if (op === 'writev') {
            let from = 0;
            const bytes = bytesOf(total, ++seed);
            for (const view of views) from += bytes.copy(view, 0, from, from + view.length);
            if ((await target.writev(views, position)) !== total) return false;
            bytes.copy(model, position);
          } else {
            if ((await target.readv(views, position)) !== total) return false;
            if (!Buffer.concat(views).equals(model.subarray(position, position + total))) return false;
            // Nothing between the segments was touched.
            for (const view of views) view.fill(0x5a);
            if (around.some((buffer) => buffer.some((byte) => byte !== 0x5a))) return false;
          }
        }
        return (await readAll(system, target)).equals(model);
      }),
      { numRuns: 40 },
    );
    await target.close();
    memory.free();
    t.same(await system.close(), NOTHING_LEFT, 'nothing is left over');
  });
}

t.test('several at once, over each other, end as if one came after the other', async (t) => {
  const system = await openSystem({ machine: 'four-drives' });
  const memory = allocate(system);
  const target = await system.target('nvme1n1', { write: true });
  const { nvme0, nvme1, host } = memory.buffers;
  nvme0.fill(1);
  nvme1.fill(2);
  host.fill(3);
  const length = 32 * 1024;
  const parts = [nvme0, nvme1, host].map((buffer) => [
    buffer.subarray(0, length / 2),
    buffer.subarray(length, length + length / 2),
  ]);
  await Promise.all(parts.map((views) => target.writev(views, 0)));
  const there = (await readAll(system, target)).subarray(0, length);
  for (let at = 0; at < length; at += BLOCK) {
    const block = there.subarray(at, at + BLOCK);
    if (![1, 2, 3].some((value) => block.equals(Buffer.alloc(BLOCK, value))))
      t.fail(`block at ${at} is torn`);
  }
  t.ok([1, 2, 3].includes(there[0]!));
  await target.close();
  memory.free();
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('bad vectors move nothing', async (t) => {
  const system = await openSystem({ machine: 'four-drives' });
  const memory = allocate(system);
  const { nvme0, host } = memory.buffers;
  const target = await system.target('nvme0n1', { write: true });
  nvme0.fill(7);
  await t.rejects(target.writev([nvme0.subarray(0, 512), host.subarray(0, 100)], 0), { code: 'EINVAL' });
  await t.rejects(target.writev([nvme0.subarray(1, 513), host.subarray(0, 512)], 0), { code: 'EINVAL' });
  await t.rejects(target.writev([host.subarray(0, 512), host.subarray(513, 1025)], 0), { code: 'EINVAL' });
  await t.rejects(target.readv([host.subarray(0, 512)], 256), { code: 'EINVAL' });
  await t.rejects(target.readv([host.subarray(0, 512)], -512), { code: 'ERR_OUT_OF_RANGE' });
  await t.rejects(target.writev([host], target.size - 512), { code: 'ENOSPC' });
  await t.rejects(target.writev(['text' as never], 0), { code: 'ERR_INVALID_ARG_TYPE' });
  await t.rejects(target.write('text' as never, 0), { code: 'ERR_INVALID_ARG_TYPE' });
  t.equal(await target.writev([], 0), 0, 'nothing to do');
  t.equal(await target.readv([host.subarray(0, 0), nvme0.subarray(0, 0)], 0), 0);
  // O_DIRECT wants every segment to be whole blocks, not only their sum.
  await t.rejects(target.writev([nvme0.subarray(0, 100), host.subarray(0, 412)], 0), { code: 'EINVAL' });
  t.ok((await readAll(system, target)).equals(Buffer.alloc(SPAN)), 'nothing was written');
  await target.close();
  memory.free();
  t.same(await system.close(), NOTHING_LEFT);
});

async function fillTarget(system: System, target: Target, bytes: Buffer): Promise<void> {
  const piece = system.allocate(null, SPAN);
  bytes.copy(piece.buffer);
  await target.write(piece.buffer, 0);
  piece.free();
}

async function readAll(system: System, target: Target): Promise<Buffer> {
  const piece = system.allocate(null, SPAN);
  await target.read(piece.buffer, 0);
  const bytes = Buffer.from(piece.buffer);
  piece.free();
  return bytes;
}
