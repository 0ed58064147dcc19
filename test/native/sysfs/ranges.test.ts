import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import t from 'tap';
import { BlockDevices } from '../../../lib/native/sysfs/devices.js';
import { underlying } from '../../../lib/native/sysfs/ranges.js';
import { SysfsTree } from '../../../lib/native/sysfs/tree.js';
import { runningTree } from '../../helpers/running-tree.js';

const root = mkdtempSync(join(tmpdir(), 'p2pdma-underlying-'));
t.teardown(() => rmSync(root, { recursive: true }));

function device(path: string, number: string, attributes: Record<string, string | number>): void {
  const dir = join(root, 'sys/devices', path);
  for (const [name, value] of Object.entries({ dev: number, ...attributes })) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), `${value}\n`);
  }
  mkdirSync(join(root, 'sys/dev/block'), { recursive: true });
  symlinkSync(relative(join(root, 'sys/dev/block'), dir), join(root, 'sys/dev/block', number));
}

const image = join(root, 'raw.img');
writeFileSync(image, 'data');
const { dev, ino } = statSync(image, { bigint: true });

device('nvme0n1', '259:0', { size: 1000 });
device('nvme0n1/nvme0n1p1', '259:1', { partition: 1, start: 8, size: 100 });
device('nvme0n1/nvme0n1p2', '259:2', { partition: 2, start: 108, size: 200 });
device('loop1', '7:1', { size: 64, 'loop/backing_file': image, 'loop/offset': 4096 });
device('loop2', '7:2', { size: 64, 'loop/backing_file': `${image}-gone (deleted)`, 'loop/offset': 0 });
device('dm-0', '254:0', { size: 50 });
mkdirSync(join(root, 'sys/devices/dm-0/slaves'));
symlinkSync('../../nvme0n1/nvme0n1p2', join(root, 'sys/devices/dm-0/slaves/nvme0n1p2'));

const captured = new BlockDevices(new SysfsTree(root), new Map());
/** The same as if it were this machine's. */
const devices = new BlockDevices(new SysfsTree(runningTree(new SysfsTree(root).files)), new Map());

const all = Number.POSITIVE_INFINITY;

t.test('a partition lies on its disk, from its start on', async (t) => {
  t.same(underlying(devices, { number: '259:1' }), [
    { on: 'device 259:1', name: '/dev/nvme0n1p1', start: 0, length: all, exact: true },
    { on: 'device 259:0', name: '/dev/nvme0n1', start: 8 * 512, length: 100 * 512, exact: true },
  ]);
});

t.test('a loop device lies on its file, from its offset on', async (t) => {
  t.same(underlying(devices, { number: '7:1' }), [
    { on: 'device 7:1', name: '/dev/loop1', start: 0, length: all, exact: true },
    { on: `file ${dev}:${ino}`, name: image, start: 4096, length: 64 * 512, exact: true },
  ]);
  t.equal(underlying(devices, { number: '7:2' }).length, 2, 'a file that is gone is nobody else’s');
});

t.test('the file of a captured loop device is the other machine’s: it is not looked at here', async (t) => {
  t.same(underlying(captured, { number: '7:1' })[1], {
    on: `file ${image}`,
    name: image,
    start: 4096,
    length: 64 * 512,
    exact: true,
  });
});

t.test('a mapped device lies somewhere in what it is mapped to', async (t) => {
  t.same(
    underlying(devices, { number: '254:0' }).map(({ name, start, length, exact }) => [
      name,
      start,
      length,
      exact,
    ]),
    [
      ['/dev/dm-0', 0, all, true],
      ['/dev/nvme0n1p2', 0, 200 * 512, false],
      ['/dev/nvme0n1', 108 * 512, 200 * 512, false],
    ],
  );
});

t.test('files by any name, there or not', async (t) => {
  const on = (path: string) => underlying(devices, path)[0]!.on;
  symlinkSync(image, join(root, 'link'));
  symlinkSync('new.img', join(root, 'dangling'));
  mkdirSync(join(root, 'far/away'), { recursive: true });
  symlinkSync('far/away', join(root, 'aside'));
  t.equal(on(join(root, 'link')), on(image));
  t.equal(on(join(root, 'dangling')), on(join(root, 'new.img')));
  t.equal(on(`${root}/far/../new.img`), on(join(root, 'new.img')));
  t.equal(on(`${root}/aside/../new.img`), on(join(root, 'far/new.img')), 'as the kernel goes');
  t.not(on(join(root, 'other.img')), on(join(root, 'new.img')));
});

t.test('a path below a file is a path: to open it fails, and says why', async (t) => {
  const [below, ...more] = underlying(devices, join(image, 'x'));
  t.match(below, { name: join(image, 'x'), start: 0 });
  t.same(more, []);
});
