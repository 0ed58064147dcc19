/** One transfer, over as many requests as it takes, of a target whose answers are given. */
import t from 'tap';
import type { BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import type { P2pdmaError } from '../../lib/base/errors.js';
import { Transfer } from '../../lib/streams/transfer.js';

const BLOCK = 512;

/** A file read directly: request n finds it `lengths[n]` bytes long, and its last block is followed by zeros in memory. */
function fileOf(lengths: readonly number[], size: number) {
  const asked: number[] = [];
  const target = {
    ...{ kind: 'file', path: 'file', size, limits: { logicalBlockSize: BLOCK } },
    submit(io: IoRequest) {
      const length = lengths[asked.length]!;
      asked.push(io.offset);
      const view = io.segments[0]!;
      const brought = Math.max(0, Math.min(view.length, length - io.offset));
      view.fill(1, 0, brought);
      view.fill(0, brought, Math.ceil(brought / BLOCK) * BLOCK);
      io.result = brought;
      process.nextTick(() => io.done(io));
    },
  } as unknown as BlockTarget;
  return { target, asked };
}

function read(target: BlockTarget, view: Uint8Array, expect: number): Promise<Transfer> {
  return new Promise((resolve) =>
    new Transfer().start(target, { op: 'read', view, offset: 0, expect }, resolve),
  );
}

t.test('a file that is cut short between two requests of one read ends where it was cut', async (t) => {
  for (const [before, after] of [
    [98, 85],
    [1000, 999],
    [1000, 513],
    [1000, 512],
    [1000, 0],
    [5000, 4700],
  ] as const) {
    const view = Buffer.alloc(8192, 7);
    const { target, asked } = fileOf([before, after], after);
    const { moved, error } = await read(target, view, before);
    const again = before - (before % BLOCK);
    t.same(asked, [0, again]);
    t.equal(moved, Math.max(after, again), `${before}, then ${after}`);
    t.ok(
      view.subarray(0, moved).every((byte) => byte === 1),
      'all of it was the file’s',
    );
    t.match(error, { code: 'ERR_SHORT_TRANSFER', offset: moved } satisfies Partial<P2pdmaError>);
  }
});

t.test('a file that grows between two requests is read on', async (t) => {
  const view = Buffer.alloc(8192, 7);
  const { target, asked } = fileOf([98, 700, 700], 700);
  const { moved, error } = await read(target, view, 98);
  t.same([moved, error, asked], [700, null, [0, 0]], 'up to where its size says that it ends');
  t.ok(view.subarray(0, moved).every((byte) => byte === 1));
});

t.test('a file that ends where it says is not asked twice', async (t) => {
  const { target, asked } = fileOf([98], 98);
  const { moved, error } = await read(target, Buffer.alloc(8192), 98);
  t.same([moved, error, asked], [98, null, [0]]);
});
