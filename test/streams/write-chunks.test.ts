import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { holeChunk } from '../../lib/streams/lending.js';
import type { RangeWriter } from '../../lib/streams/range-writer.js';
import { writeChunks } from '../../lib/streams/write-chunks.js';

type Call = readonly [what: string, bytes: number, offset: number];

/** A range writer that notes what it is asked, and ends it at once: with an error where `fails` says so. */
function noting(fails: (call: Call) => Error | null = () => null) {
  const calls: Call[] = [];
  const end = (call: Call, ended: (error: Error | null, moved: number) => void) => {
    calls.push(call);
    const error = fails(call);
    ended(error, error === null ? call[1] : 0);
  };
  const ranges = {
    gather: (chunks: readonly Buffer[], at: number, _provider: unknown, ended: never) =>
      end([`gather ${chunks.length}`, chunks.reduce((sum, { length }) => sum + length, 0), at], ended),
    hole: (bytes: number, at: number, fresh: boolean, ended: never) =>
      end([fresh ? 'hole, fresh' : 'hole', bytes, at], ended),
    write: (view: Buffer, at: number, ended: never) => end(['write', view.length, at], ended),
  } as unknown as RangeWriter;
  return { ranges, calls };
}

t.test('each chunk goes its own way, to the place that its neighbours leave it', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const { buffer: reachable } = system.allocate(null, 4096);
  const { ranges, calls } = noting();
  const chunks = [Buffer.alloc(10), Buffer.alloc(20), reachable, holeChunk(512), Buffer.alloc(5)];
  const ended = await new Promise((resolve) =>
    writeChunks(ranges, chunks, { position: 100, provider: null, fresh: true }, (error, moved) =>
      resolve({ error, moved }),
    ),
  );
  t.same(calls, [
    ['gather 2', 30, 100],
    ['write', 4096, 130],
    ['hole, fresh', 512, 4226],
    ['gather 1', 5, 4738],
  ]);
  t.same(ended, { error: null, moved: 30 + 4096 + 512 + 5 });
  await system.close();
});

t.test('it ends with the first failure in the order of the bytes, and what is before it', async (t) => {
  const full = new Error('full');
  const { ranges } = noting(([what]) => (what === 'hole' ? full : null));
  const chunks = [Buffer.alloc(8), holeChunk(16), Buffer.alloc(4)];
  const ended = await new Promise((resolve) =>
    writeChunks(ranges, chunks, { position: 0, provider: null, fresh: false }, (error, moved) =>
      resolve({ error, moved }),
    ),
  );
  t.same(ended, { error: full, moved: 8 });
});
