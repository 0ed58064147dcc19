/** Reading ahead of a target whose answers come when, and in the order in which, the test gives them. */
import t from 'tap';
import type { BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import { zeroPath } from '../../lib/backend/path-bytes.js';
import { EIO } from '../../lib/base/errno.js';
import type { P2pdmaError } from '../../lib/base/errors.js';
import { AsyncScope } from '../../lib/streams/async-scope.js';
import { Extents } from '../../lib/streams/extents.js';
import { isHole } from '../../lib/streams/lending.js';
import { Pace } from '../../lib/streams/pace.js';
import { type Piece, ReadAhead, type Reading } from '../../lib/streams/read-ahead.js';
import type { Slot } from '../../lib/streams/slot-pool.js';
import { bytesOf } from '../helpers/copies.js';
import { fc } from '../helpers/random.js';

const BLOCK = 512;
/** What memory holds before a read; no byte of the target does. */
const UNREAD = 0xdb;

/** `length` bytes, none of them UNREAD. */
function contentOf(length: number): Buffer {
  return bytesOf(length, 5).map((byte) => (byte === UNREAD ? 0 : byte)) as Buffer;
}

/** Keeps what is submitted until `answer()`. */
class Disk {
  readonly path = 'disk';
  readonly limits = { logicalBlockSize: BLOCK };
  readonly kind: 'file' | 'namespace';
  content: Buffer;
  /** What it says that its size is. */
  size: number;
  /** Not answered yet. */
  readonly asked: IoRequest[] = [];
  /** Where each request began. */
  readonly offsets: number[] = [];

  constructor(kind: Disk['kind'], content: Buffer) {
    this.kind = kind;
    this.content = content;
    this.size = content.length;
  }

  submit(io: IoRequest): void {
    this.asked.push(io);
    this.offsets.push(io.offset);
  }

  /** Answer the request at `index` of those that wait: all of its bytes, at most `most` of them, or an errno. */
  answer(index = 0, most: number = Number.MAX_SAFE_INTEGER): void {
    const [io] = this.asked.splice(index, 1);
    const { segments, offset, path } = io!;
    const view = segments[0]!;
    if (most < 0) io!.result = most;
    else {
      const there = this.content.subarray(offset, offset + Math.min(view.length, most));
      view.set(there);
      io!.result = there.length;
      path.hostDram = there.length;
    }
    io!.done(io!);
  }
}

interface Setting {
  readonly disk: Disk;
  readonly from?: number;
  readonly end?: number;
  readonly depth?: number;
  readonly chunk?: number;
  /** How many reads there is memory for; 0: as many as are wanted, of ordinary memory. */
  readonly slots?: number;
  readonly canary?: boolean;
  readonly pace?: Pace | null;
  readonly extents?: Extents | null;
  readonly retries?: Reading['retries'];
}

/** A slot, as far as a reader knows it. */
class FakeSlot {
  readonly pool = { provider: { bdf: '0000:03:00.0' } };
  readonly rig: Rig;
  filling = true;
  isGone = false;
  constructor(rig: Rig) {
    this.rig = rig;
  }
  settle(): void {
    if (!this.filling) this.rig.free++;
  }
}

class Rig {
  readonly ahead: ReadAhead;
  readonly given: FakeSlot[] = [];
  readonly path = zeroPath();
  /** Memory that is left for slots. */
  free: number;
  went = 0;

  constructor(setting: Setting) {
    const { disk, from = 0, end = Number.MAX_SAFE_INTEGER, depth = 4, chunk = 2 * BLOCK } = setting;
    const { slots = 0, canary = false, pace = null, extents = null } = setting;
    this.free = slots;
    const memory = (bytes: number): Piece | null => {
      const view = Buffer.alloc(bytes, UNREAD);
      if (slots === 0) return { view, slot: null };
      if (this.free === 0) return null;
      this.free--;
      const slot = new FakeSlot(this);
      this.given.push(slot);
      return { view, slot: slot as unknown as Slot };
    };
    this.ahead = new ReadAhead(
      {
        ...{ target: disk as unknown as BlockTarget, extents, pace, path: this.path },
        settings: { canary },
        scope: new AsyncScope(),
      },
      {
        memory,
        depth,
        chunk: () => chunk,
        go: () => this.went++,
        retries: setting.retries ?? (() => false),
      },
      from,
      end,
    );
  }

  /** A copy of the next chunk, which is given back; null: there is none now. */
  take(): Buffer | null {
    const job = this.ahead.take();
    if (job === null) return null;
    if (job.error !== null) throw job.error;
    const bytes = Buffer.from(job.hole ? new Uint8Array(job.to) : job.bytes);
    job.drop();
    this.ahead.put(job);
    return bytes;
  }

  /** Everything there is to take now. */
  all(): Buffer {
    const chunks: Buffer[] = [];
    for (let chunk = this.take(); chunk !== null; chunk = this.take()) chunks.push(chunk);
    return Buffer.concat(chunks);
  }
}

t.test('what is read is the range that was asked for, in order, however answers come', async (t) => {
  const spec = fc.record({
    kind: fc.constantFrom('file' as const, 'namespace' as const),
    size: fc.nat(12_000),
    from: fc.nat(12_000),
    end: fc.oneof(fc.nat(14_000), fc.constant(Number.MAX_SAFE_INTEGER)),
    depth: fc.integer({ min: 1, max: 5 }),
    chunk: fc.integer({ min: 1, max: 6 }),
    slots: fc.nat(3),
    order: fc.infiniteStream(fc.nat(1000)),
  });
  let short = 0;
  fc.assert(
    fc.property(spec, ({ kind, size: wanted, from: anywhere, end, depth, chunk, slots, order }) => {
      const size = kind === 'file' ? wanted : wanted - (wanted % BLOCK);
      const from = Math.min(anywhere, size);
      const content = contentOf(size);
      const disk = new Disk(kind, content);
      const rig = new Rig({
        ...{ disk, from, end: Math.max(from, end), depth },
        chunk: chunk * BLOCK,
        slots,
      });
      const chunks: Buffer[] = [];
      for (let step = 0; ; step++) {
        rig.ahead.fill();
        if (rig.ahead.inFlight !== disk.asked.length || disk.asked.length > depth) return false;
        chunks.push(rig.all());
        if (rig.ahead.ended) break;
        rig.ahead.fill();
        if (disk.asked.length === 0 || step > 1000) return false;
        const drawn = order.next().value as number;
        const index = drawn % disk.asked.length;
        // A short answer now and then: of whole blocks, as direct I/O gives them anywhere but at a file's end.
        const most = drawn % 3 === 0 ? (1 + (drawn % 4)) * BLOCK : Number.MAX_SAFE_INTEGER;
        if (most < disk.asked[index]!.segments[0]!.length) short++;
        disk.answer(index, most);
      }
      const right = content.subarray(from, Math.max(from, end));
      return (
        Buffer.concat(chunks).equals(right) &&
        rig.ahead.position === from + right.length &&
        rig.free === slots &&
        rig.ahead.inFlight === 0
      );
    }),
    { numRuns: 400 },
  );
  t.ok(short > 0, 'answers were short too');
});

t.test('an answer behind one that is missing waits for it', async (t) => {
  const disk = new Disk('namespace', contentOf(8 * BLOCK));
  const rig = new Rig({ disk });
  rig.ahead.fill();
  t.same(disk.offsets, [0, 1024, 2048, 3072]);
  disk.answer(2);
  disk.answer(1);
  t.equal(rig.take(), null);
  t.equal(rig.ahead.position, 0);
  disk.answer(0);
  t.equal(rig.went, 3, 'told of each');
  t.ok(rig.all().equals(disk.content.subarray(0, 3072)));
  t.same([rig.ahead.position, rig.ahead.reads, rig.ahead.inFlight], [3072, 3, 1]);
  t.equal(rig.path.hostDram, 3072);
});

t.test('reads cover whole blocks; the bytes before and behind the range are not handed out', async (t) => {
  const disk = new Disk('namespace', contentOf(8 * BLOCK));
  const rig = new Rig({ disk, from: 700, end: 1800, chunk: 8 * BLOCK });
  rig.ahead.fill();
  t.same([disk.offsets, disk.asked[0]!.segments[0]!.length], [[512], 1536]);
  disk.answer();
  t.ok(rig.all().equals(disk.content.subarray(700, 1800)));
  t.equal(rig.ahead.ended, true);
});

t.test('nothing to read: it has ended before it begins', async (t) => {
  for (const [from, end] of [
    [0, 0],
    [1024, 1024],
    [4096, 9999],
  ] as const) {
    const disk = new Disk('namespace', contentOf(4096));
    const rig = new Rig({ disk, from, end });
    rig.ahead.fill();
    t.same([rig.ahead.ended, disk.offsets, rig.take()], [true, [], null], `${from}..${end}`);
  }
});

t.test('a file ends where reading finds its end', async (t) => {
  t.test('it was cut short: what lies behind is neither handed out nor kept', async (t) => {
    const disk = new Disk('file', contentOf(4096));
    const rig = new Rig({ disk, slots: 4 });
    rig.ahead.fill();
    disk.size = 1100;
    disk.content = disk.content.subarray(0, 1100);
    for (const _ of [0, 1, 2, 3]) disk.answer(0);
    for (; disk.asked.length > 0; ) disk.answer(0);
    t.ok(rig.all().equals(disk.content), '1100 bytes');
    t.same([rig.ahead.ended, rig.ahead.position, rig.free], [true, 1100, 4]);
  });

  t.test('it has grown: it is read on, unless an end was asked for', async (t) => {
    for (const [end, right] of [
      [Number.MAX_SAFE_INTEGER, 9000],
      [3000, 3000],
      [2048, 2048],
    ] as const) {
      const disk = new Disk('file', contentOf(9000));
      disk.size = 2048;
      const rig = new Rig({ disk, end, depth: 8 });
      const chunks: Buffer[] = [];
      rig.ahead.fill();
      disk.size = 9000;
      for (; !rig.ahead.ended; rig.ahead.fill()) {
        if (disk.asked.length > 0) disk.answer(0);
        chunks.push(rig.all());
      }
      t.ok(Buffer.concat(chunks).equals(disk.content.subarray(0, right)), `up to ${end}: ${right}`);
    }
  });

  t.test('one read sees the end, and what was added to the last block meanwhile', async (t) => {
    for (const [size, later] of [
      [1024, 1024],
      [1100, 1100],
      [1100, 1300],
    ] as const) {
      const disk = new Disk('file', contentOf(later));
      disk.size = size;
      const rig = new Rig({ disk, chunk: 4096 });
      rig.ahead.fill();
      t.equal(disk.asked[0]!.segments[0]!.length, 1536, 'whole blocks, and a byte beyond the end');
      disk.size = later;
      disk.answer();
      t.ok(rig.take()!.equals(disk.content), `${size}, then ${later}`);
      t.same([rig.ahead.ended, disk.offsets], [true, [0]]);
    }
  });

  t.test('a size of 0 says nothing: one read at a time, until one brings nothing', async (t) => {
    const disk = new Disk('file', contentOf(3000));
    disk.size = 0;
    const rig = new Rig({ disk });
    const chunks: Buffer[] = [];
    for (rig.ahead.fill(); !rig.ahead.ended; rig.ahead.fill()) {
      t.equal(disk.asked.length, 1);
      disk.answer(0);
      chunks.push(rig.all());
    }
    t.ok(Buffer.concat(chunks).equals(disk.content));
  });
});

t.test('no memory: no read, and on when there is some', async (t) => {
  const disk = new Disk('namespace', contentOf(4096));
  const rig = new Rig({ disk, slots: 2 });
  rig.ahead.fill();
  t.same(disk.offsets, [0, 1024]);
  disk.answer();
  rig.ahead.fill();
  t.equal(disk.offsets.length, 2, 'it is still in the memory that it was read into');
  rig.all();
  rig.ahead.fill();
  t.same(disk.offsets, [0, 1024, 2048]);
});

t.test('a read that fails', async (t) => {
  t.test('is handed out in its turn, behind what came before it', async (t) => {
    const disk = new Disk('namespace', contentOf(4096));
    const rig = new Rig({ disk });
    rig.ahead.fill();
    disk.answer(1, -EIO);
    t.equal(rig.take(), null);
    disk.answer(0);
    t.ok(rig.take()!.equals(disk.content.subarray(0, 1024)));
    t.throws(() => rig.take(), { code: 'EIO', offset: 1024 } satisfies Partial<P2pdmaError>);
    t.equal(rig.ahead.position, 1024, 'what failed was not read');
  });

  t.test('of a device that brings nothing within its size: an error, not an end', async (t) => {
    const disk = new Disk('namespace', contentOf(4096));
    const rig = new Rig({ disk });
    rig.ahead.fill();
    disk.answer(0, 0);
    t.throws(() => rig.take(), { code: 'ERR_SHORT_TRANSFER' });
  });

  t.test('may be begun again, in other memory', async (t) => {
    const disk = new Disk('namespace', contentOf(1024));
    const refused: string[] = [];
    const rig: Rig = new Rig({
      disk,
      retries: (job, error) => {
        refused.push((error as P2pdmaError).code);
        job.drop();
        rig.ahead.again(job, { view: Buffer.alloc(1024, UNREAD), slot: null });
        return true;
      },
      slots: 1,
    });
    rig.ahead.fill();
    disk.answer(0, -EIO);
    t.same([refused, disk.offsets, rig.free, rig.ahead.inFlight], [['EIO'], [0, 0], 1, 1]);
    disk.answer(0);
    t.ok(rig.all().equals(disk.content));
  });
});

t.test('memory that went away under what was read: not handed out', async (t) => {
  for (const again of [false, true]) {
    const disk = new Disk('namespace', contentOf(1024));
    const rig: Rig = new Rig({
      disk,
      slots: 1,
      retries: (job, error) => {
        t.equal((error as P2pdmaError).code, 'EFAULT');
        if (again) rig.ahead.again(job, { view: Buffer.alloc(1024, UNREAD), slot: null });
        return again;
      },
    });
    rig.ahead.fill();
    disk.answer(0);
    rig.given[0]!.isGone = true;
    if (!again) t.throws(() => rig.take(), { code: 'EFAULT', offset: 0 });
    else {
      t.equal(rig.take(), null);
      disk.answer(0);
      t.ok(rig.all().equals(disk.content), 'read once more');
    }
  }
});

t.test('canary: a read that says it succeeded, and left the memory as it was', async (t) => {
  const disk = new Disk('namespace', contentOf(2048));
  const rig = new Rig({ disk, canary: true, slots: 2 });
  rig.ahead.fill();
  disk.answer(0);
  t.ok(rig.take()!.equals(disk.content.subarray(0, 1024)));
  const io = disk.asked.shift()!;
  io.result = 1024;
  io.done(io);
  t.throws(() => rig.take(), { code: 'ERR_VERIFY_MISMATCH', offset: 1024 });
});

t.test('a hole is not read, and has its place among what is', async (t) => {
  const disk = new Disk('namespace', contentOf(4096));
  disk.content.fill(0, 1024, 3072);
  const extents = new Extents({
    seekData: (at: number) => (at >= 1024 && at < 3072 ? 3072 : at),
    seekHole: (at: number) => (at < 1024 ? 1024 : 4096),
  } as unknown as BlockTarget);
  const rig = new Rig({ disk, extents, chunk: 4096 });
  rig.ahead.fill();
  t.same(disk.offsets, [0, 3072]);
  disk.answer(1);
  t.equal(rig.take(), null);
  disk.answer(0);
  t.equal(rig.take()!.length, 1024);
  const hole = rig.ahead.take()!;
  t.same([hole.hole, isHole(hole.view), hole.to, rig.ahead.position], [true, true, 2048, 3072]);
  rig.ahead.put(hole);
  t.ok(rig.all().equals(disk.content.subarray(3072)));
  t.equal(rig.ahead.ended, true);
});

t.test('a limit of bandwidth: the next read waits, and is said to be due', async (t) => {
  const disk = new Disk('namespace', contentOf(4096));
  const pace = new Pace(1024 * 1000);
  pace.spend(40 * 1024, performance.now() + 100);
  const rig = new Rig({ disk, pace });
  rig.ahead.fill();
  rig.ahead.fill();
  t.same([disk.offsets, rig.went], [[], 0]);
  while (rig.went === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  // The event loop counts whole milliseconds: a timer can be early by a part of one.
  t.ok(pace.delay(performance.now()) < 1, 'not before');
  while (pace.delay(performance.now()) > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  rig.ahead.fill();
  t.same(disk.offsets.slice(0, 1), [0]);
  const halted = rig.ahead.halt();
  while (disk.asked.length > 0) disk.answer();
  await halted;
});

t.test('stop(): what was begun is handed out, and nothing more begins', async (t) => {
  const disk = new Disk('namespace', contentOf(8192));
  const rig = new Rig({ disk, depth: 2 });
  rig.ahead.fill();
  rig.ahead.stop();
  disk.answer(0);
  disk.answer(0);
  rig.ahead.fill();
  t.ok(rig.all().equals(disk.content.subarray(0, 2048)));
  t.same([rig.ahead.ended, disk.offsets.length], [true, 2]);
});

t.test(
  'halt(): waits for what is in flight, lets go of it, and says where reading is to go on',
  async (t) => {
    const disk = new Disk('namespace', contentOf(8192));
    const rig = new Rig({ disk, slots: 4 });
    rig.ahead.fill();
    disk.answer(1);
    disk.answer(0);
    rig.take();
    let over = false;
    const halted = rig.ahead.halt().then((at) => {
      over = true;
      return at;
    });
    t.equal(rig.free, 2, 'what was taken, and what had been read and was not');
    disk.answer(0);
    await new Promise(setImmediate);
    t.equal(over, false, 'one is in flight');
    const { went } = rig;
    disk.answer(0, -EIO);
    t.equal(await halted, 1024);
    t.equal(rig.went, went, 'nobody is told of what nobody wants');
    rig.ahead.fill();
    t.same(
      [rig.free, rig.ahead.inFlight, rig.ahead.ended, rig.take(), disk.asked.length],
      [4, 0, true, null, 0],
    );
  },
);
