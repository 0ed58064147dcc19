/** What is found out together is as of one moment, and what is asked later is as of then. */
import { rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { rangesOf } from '../../../lib/native/sysfs/inspect.js';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { OneReading } from '../../../lib/native/sysfs/one-reading.js';
import { underlying } from '../../../lib/native/sysfs/ranges.js';
import { SysfsTree } from '../../../lib/native/sysfs/tree.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { runningTree } from '../../helpers/running-tree.js';

t.test('each file is read once, and a failure is an answer', async (t) => {
  const dir = t.testdir({ sys: { a: '1\n', folder: { x: '' } } });
  const tree = new SysfsTree(dir);
  const then = new SysfsTree(new OneReading(tree.files), tree);
  t.equal(then.root, tree.root);
  t.equal(then.text('sys/a'), '1');
  t.equal(then.text('sys/late'), null);
  t.same(then.dir('sys/folder')?.names(), ['x']);
  writeFileSync(`${dir}/sys/a`, '2\n');
  writeFileSync(`${dir}/sys/late`, 'here\n');
  writeFileSync(`${dir}/sys/folder/y`, '');
  t.equal(then.text('sys/a'), '1');
  t.equal(then.text('sys/late'), null);
  t.same(then.dir('sys/folder')?.names(), ['x']);
  t.equal(tree.text('sys/a'), '2', 'the tree itself keeps nothing');
  t.equal(tree.text('sys/late'), 'here');
  t.same(tree.dir('sys/folder')?.names(), ['x', 'y']);
  t.same(tree.unknowns, [{ file: '/sys/late', why: 'missing' }], 'both note in one place, and once');
  t.equal(then.unknowns, tree.unknowns);
});

t.test('a listing of sysfs answers what is in it', async (t) => {
  const dir = t.testdir({ sys: { folder: { x: '', y: {} } }, proc: { x: '' } });
  const { files } = new SysfsTree(dir);
  const then = new OneReading(files);
  t.equal(then.kindOf(['sys', 'folder', 'late']), undefined);
  for (const folder of [['sys', 'folder'], ['proc']]) then.entries(folder);
  rmSync(`${dir}/sys/folder/x`);
  for (const path of ['sys/folder/late', 'sys/folder/z', 'proc/z']) writeFileSync(`${dir}/${path}`, '');
  t.equal(then.kindOf(['sys', 'folder', 'x']), 'file');
  t.equal(then.kindOf(['sys', 'folder', 'y']), 'directory');
  t.equal(then.kindOf(['sys', 'folder', 'z']), undefined);
  t.equal(then.kindOf(['sys', 'folder', 'late']), undefined, 'as it was answered before');
  t.equal(then.kindOf(['proc', 'z']), 'file', 'proc has more than it lists');
  t.throws(() => then.read(['sys', 'folder', 'z'], 1), { code: 'ENOENT' });
  t.equal(then.read(['proc', 'z'], 1).size, 0);
});

t.test('a question about more bytes is another question', async (t) => {
  const files = new OneReading(new SysfsTree(t.testdir({ a: 'abcdef' })).files);
  t.match(files.read(['a'], 2), { bytes: Buffer.from('ab'), size: 6 });
  t.match(files.read(['a'], 4), { bytes: Buffer.from('abcd'), size: 6 });
});

t.test('block devices: as of one moment within together(), as of now after it', async (t) => {
  const root = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  const sysfs = readSysfs(root);
  const size = () => sysfs.blockInfo('nvme0n1')!.size;
  const attribute = `${sysfs.devices.byName('nvme0n1')!.dir.real.join('/')}/size`;
  const set = (sectors: number) => writeFileSync(`${root}/${attribute}`, `${sectors}\n`);
  set(8);
  sysfs.together(() => {
    t.equal(size(), 4096);
    set(16);
    t.equal(size(), 4096);
    t.equal(
      sysfs.together(() => size()),
      4096,
      'also one inside the other',
    );
    t.equal(sysfs.devices, sysfs.devices);
  });
  t.equal(size(), 8192);
  t.throws(
    () =>
      sysfs.together(() => {
        size();
        throw new Error('on the way');
      }),
    /on the way/,
  );
  rmSync(`${root}/${attribute}`);
  t.equal(size(), null, 'nothing is kept after an error');
});

t.test(
  'a device: what opening it rarely needs is read when it is asked for, and then as of one moment',
  async (t) => {
    const tree = new SysfsTree(writeSysfsTree(t.testdir(), twoDrivesBelowASwitch()));
    const read: string[] = [];
    const sysfs = readSysfs(runningTree(tree.files, (path) => read.push(path.join('/'))));
    read.length = 0;
    const info = sysfs.blockInfo('nvme0n1p1')!;
    const seldom = () => read.filter((path) => /\/(ro|swaps|max_s[^/]*|dma_a[^/]*|logical[^/]*)$/.test(path));
    t.same(seldom(), []);
    t.equal(info.readOnly, false);
    t.equal(info.inUse.swap, false);
    t.ok(info.limits.maxTransfer > 0);
    t.equal(seldom().length, 3);
    t.same([info.readOnly, info.inUse.swap], [false, false]);
    const ranges = rangesOf(sysfs, '/dev/nvme0n1p1', info);
    t.equal(new Set(read).size, read.length, 'nothing is read twice, also for its ranges');
    t.same(ranges, underlying(sysfs.devices, { number: info.number! }));
  },
);
