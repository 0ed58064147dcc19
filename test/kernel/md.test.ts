/** Which member has which bytes, and what becomes of a member's error: drivers/md over disks that are arrays of bytes. */
import t from 'tap';
import { parseRelease } from '../../lib/backend/kernel-release.js';
import { EINVAL, EIO } from '../../lib/base/errno.js';
import {
  type Bio,
  bioAddPage,
  bioAlloc,
  bioEndWith,
  bioPut,
  type Gendisk,
  submitBio,
} from '../../lib/kernel/bio.js';
import { MdArray, type MdLevel } from '../../lib/kernel/md.js';

const BLOCK = 512;
const CHUNK = 4096;

/** A disk that notes which bytes it was asked for. */
class Disk implements Gendisk {
  readonly name: string;
  readonly capacity: number;
  readonly readOnly = false;
  readonly dead = false;
  readonly asked: string[] = [];
  /** What it answers to reads and writes. */
  status = 0;
  readonly limits;

  constructor(name: string, capacity: number, pciP2pdma = true) {
    this.name = name;
    this.capacity = capacity;
    this.limits = {
      logicalBlockSize: BLOCK,
      dmaAlignment: 4,
      maxTransfer: 64 * 1024,
      maxSegments: 16,
      maxSegmentSize: 0x7ffff000,
      virtBoundary: 4096,
      pciP2pdma,
    };
  }

  submitBio(bio: Bio): void {
    this.asked.push(`${bio.opf} ${bio.sector}+${bio.size}`);
    if (bio.opf !== 'flush' && this.status === 0) bio.path.peerBus += bio.size;
    bioEndWith(bio, bio.opf === 'flush' ? 0 : this.status);
  }
}

interface Made {
  readonly disks: Disk[];
  readonly array: MdArray;
  run(op: Bio['opf'], sector: number, bytes: number): { status: number; peerBus: number };
}

function made(level: MdLevel, sizes: readonly number[], kernel = '7.2'): Made {
  const disks = sizes.map((size, i) => new Disk(`d${i}`, size));
  const array = new MdArray({
    name: 'md0',
    level,
    chunk: CHUNK,
    members: disks,
    release: parseRelease(kernel),
  });
  return {
    disks,
    array,
    run(op, sector, bytes) {
      const bio = bioAlloc(array, op);
      bio.sector = sector;
      if (bytes > 0) bioAddPage(bio, 0x10000, bytes, null);
      let ended = 0;
      const outcome = { status: 0, peerBus: 0 };
      bio.endIo = () => {
        ended++;
        outcome.status = bio.status;
        outcome.peerBus = bio.path.peerBus;
      };
      submitBio(bio);
      if (ended !== 1) throw new Error(`ended ${ended} times`);
      bioPut(bio);
      return outcome;
    },
  };
}

t.test('raid0: chunk after chunk, member after member', async (t) => {
  const { disks, array, run } = made('raid0', [5 * CHUNK, 5 * CHUNK + BLOCK]);
  t.equal(array.capacity, 10 * CHUNK, 'whole chunks of the smallest');
  t.same(run('write', CHUNK - BLOCK, 2 * CHUNK), { status: 0, peerBus: 2 * CHUNK });
  t.same(disks[0]!.asked, [`write ${CHUNK - BLOCK}+${BLOCK}`, `write ${CHUNK}+${CHUNK - BLOCK}`]);
  t.same(disks[1]!.asked, [`write 0+${CHUNK}`]);
  disks[1]!.status = -EIO;
  t.equal(run('read', 0, 3 * CHUNK).status, -EIO, 'what one member cannot, the array cannot');
});

t.test('linear: one member after the other, whatever their sizes', async (t) => {
  const { disks, array, run } = made('linear', [CHUNK, 3 * CHUNK]);
  t.equal(array.capacity, 4 * CHUNK);
  t.equal(run('read', CHUNK - BLOCK, 2 * BLOCK).status, 0);
  t.same(
    disks.map(({ asked }) => asked),
    [[`read ${CHUNK - BLOCK}+${BLOCK}`], [`read 0+${BLOCK}`]],
  );
});

t.test('raid1: a write goes to each, a read to one', async (t) => {
  const { disks, array, run } = made('raid1', [8 * CHUNK, 9 * CHUNK]);
  t.equal(array.capacity, 8 * CHUNK);
  t.same(run('write', CHUNK, CHUNK), { status: 0, peerBus: 2 * CHUNK });
  t.equal(run('read', CHUNK, CHUNK).status, 0);
  t.equal(run('flush', 0, 0).status, 0);
  t.same(
    disks.map(({ asked }) => asked),
    [
      [`write ${CHUNK}+${CHUNK}`, `read ${CHUNK}+${CHUNK}`, 'flush 0+0'],
      [`write ${CHUNK}+${CHUNK}`, 'flush 0+0'],
    ],
  );
});

t.test('raid10: each chunk on two neighbours, the pairs striped; also over three', async (t) => {
  const { disks, array, run } = made('raid10', [4 * CHUNK, 4 * CHUNK, 4 * CHUNK]);
  t.equal(array.capacity, 6 * CHUNK);
  run('write', 0, 3 * CHUNK);
  t.same(
    disks.map(({ asked }) => asked),
    [
      [`write 0+${CHUNK}`, `write ${CHUNK}+${CHUNK}`],
      [`write 0+${CHUNK}`, `write ${CHUNK}+${CHUNK}`],
      [`write 0+${CHUNK}`, `write ${CHUNK}+${CHUNK}`],
    ],
    'chunk 0 on d0 and d1, chunk 1 on d2 and d0, chunk 2 on d1 and d2',
  );
});

t.test(
  'a mirror: a member that fails is out, one that refuses (EINVAL) is not, and nobody hears of it',
  async (t) => {
    const refused = made('raid1', [CHUNK, CHUNK]);
    refused.disks[1]!.status = -EINVAL;
    t.same(refused.run('write', 0, CHUNK), { status: 0, peerBus: CHUNK }, 'reported as done');
    t.same(refused.array.faulty, []);
    refused.disks[0]!.status = -EINVAL;
    t.equal(refused.run('write', 0, CHUNK).status, 0, 'even if none has it');
    t.equal(refused.run('read', 0, CHUNK).status, -EIO);

    const failed = made('raid1', [CHUNK, CHUNK]);
    failed.disks[0]!.status = -EIO;
    t.equal(failed.run('read', 0, CHUNK).status, 0, 'read from the other');
    t.equal(failed.run('write', 0, CHUNK).status, 0);
    t.same(failed.array.faulty, ['d0']);
    const before = failed.disks[0]!.asked.length;
    t.equal(failed.run('read', 0, CHUNK).status, 0);
    t.equal(failed.disks[0]!.asked.length, before, 'nothing is asked of it any more');
    failed.disks[1]!.status = -EIO;
    t.equal(failed.run('write', 0, CHUNK).status, -EIO, 'the last one stays, and its error is the array’s');
    t.same(failed.array.faulty, ['d0']);
  },
);

t.test('peer memory: from 7.2 on, if each member takes it; never in a row', async (t) => {
  for (const [kernel, level, takes] of [
    ['6.12.117', 'raid1', false],
    ['7.1.3', 'raid0', false],
    ['7.2', 'raid0', true],
    ['7.2', 'raid1', true],
    ['7.3', 'raid10', true],
    ['7.2', 'linear', false],
  ] as const) {
    t.equal(made(level, [CHUNK, CHUNK], kernel).array.limits.pciP2pdma, takes, `${level} on ${kernel}`);
  }
  const members = [new Disk('a', CHUNK), new Disk('b', CHUNK, false)];
  const array = new MdArray({
    ...{ name: 'md0', level: 'raid0', chunk: CHUNK, members },
    release: parseRelease('7.2'),
  });
  t.equal(array.limits.pciP2pdma, false);
});
