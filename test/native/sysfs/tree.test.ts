import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { calcMapTypeAndDist } from '../../../lib/kernel/pci-p2pdma-distance.js';
import { inspect } from '../../../lib/native/sysfs/inspect.js';
import { readSysfs, type Sysfs } from '../../../lib/native/sysfs/machine.js';
import { underlying } from '../../../lib/native/sysfs/ranges.js';
import { snapshotMachine } from '../../../lib/native/sysfs/snapshot.js';
import { KernelFiles, SysfsTree } from '../../../lib/native/sysfs/tree.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { fc } from '../../helpers/random.js';

/** Everything a reader can be asked. */
function askEverything(sysfs: Sysfs): void {
  const { functions } = sysfs.topology;
  for (const dev of functions) {
    for (const other of functions) calcMapTypeAndDist(sysfs.topology, dev, other);
    sysfs.p2pmem(dev);
    sysfs.directory(dev.bdf);
  }
  for (const name of [
    'nvme0n1',
    'nvme0n1p1',
    'nvme1n1',
    'nvme2n1',
    'nvme3n1',
    'dm-0',
    'md0',
    'loop0',
    'vda',
  ]) {
    sysfs.blockInfo(name);
    inspect(sysfs, name);
    const number = sysfs.blockInfo(name)?.number;
    if (number != null) underlying(sysfs.devices, { number });
  }
  for (const path of ['/mnt/xfs/f', '/mnt/with blank/f', '/x', '/dev/mapper/vg-data']) sysfs.blockInfo(path);
  void sysfs.kernel;
  JSON.stringify(snapshotMachine(sysfs));
}

t.test('a symlink that leads out of the tree leads nowhere', async (t) => {
  const dir = t.testdir({ secret: '0xdead', tree: { sys: { a: { value: '0x1' } }, secret: '0x2' } });
  const link = (name: string, target: string) => symlinkSync(target, `${dir}/tree/sys/a/${name}`);
  link('up', '../../../secret');
  link('absolute', '/secret');
  link('outside', `${dir}/secret`);
  link('via', '../../../tree/sys/a/value');
  link('inside', '../a/value');
  const tree = new SysfsTree(`${dir}/tree`);
  const a = tree.dir('sys/a')!;
  t.equal(a.number('up'), null);
  t.equal(a.number('absolute'), 2, 'an absolute target counts from the root');
  t.equal(a.number('outside'), null);
  t.equal(a.number('via'), null, 'also when it comes back');
  t.equal(a.number('inside'), 1);
  t.equal(tree.dir('..'), null);
  t.equal(tree.text('sys/../../secret'), null);
  t.match(tree.unknowns, [
    { file: '/sys/a/up', why: 'leads out of the tree' },
    { file: '/sys/a/outside', why: 'missing' },
    { file: '/sys/a/via', why: 'leads out of the tree' },
    { file: '/..', why: 'leads out of the tree' },
    { file: '/sys/../../secret', why: 'leads out of the tree' },
  ]);
});

t.test('loops of symlinks end', async (t) => {
  const dir = t.testdir({ sys: {} });
  symlinkSync('b', `${dir}/sys/a`);
  symlinkSync('a', `${dir}/sys/b`);
  symlinkSync('.', `${dir}/sys/self`);
  const tree = new SysfsTree(dir);
  t.equal(tree.text('sys/a'), null);
  t.equal(tree.dir(`sys/${'self/'.repeat(100)}`), null);
  t.ok(tree.dir('sys/self/self/self'));
  t.match(tree.unknowns[0], { why: 'too many symlinks' });
});

t.test('only regular files are read, and only so much', { skip: process.platform === 'win32' }, async (t) => {
  const dir = t.testdir({ sys: { dir: {}, big: 'x'.repeat(200_000) } });
  execFileSync('mkfifo', [`${dir}/sys/fifo`]);
  const tree = new SysfsTree(dir);
  t.equal(tree.text('sys/fifo'), null, 'a FIFO would block for ever');
  t.equal(tree.text('sys/dir'), null);
  t.equal(tree.text('sys/big')?.length, 65536);
  t.equal(tree.bytes('sys/big', 100_000)?.length, 100_000);
  const content = tree.dir('sys')!.content('big', 64);
  t.match(content, { size: 200_000 }, 'the size is that of the whole file');
  t.equal(content!.bytes.length, 64);
  t.match(tree.unknowns, [{ why: 'not a regular file' }, { why: 'not a regular file' }]);
});

t.test('numbers: exact ones inside their bounds; the rest is named', async (t) => {
  const values = {
    a: '42\n',
    b: '0x1F',
    c: '-1',
    d: '9007199254740993',
    e: '',
    f: '1e3',
    g: ' 7 ',
    h: '4096',
  };
  const dir = new SysfsTree(t.testdir({ s: values })).dir('s')!;
  t.same(
    Object.keys(values).map((name) => dir.number(name, { max: 1000 })),
    [42, 31, null, null, null, null, 7, null],
  );
  t.equal(dir.number('c', { min: -1 }), -1);
  t.equal(dir.number('none', { optional: true }), null);
  t.match(dir.tree.unknowns, [
    { file: '/s/c', why: 'out of range: "-1"' },
    { file: '/s/d', why: 'not a number: "9007199254740993"' },
    { file: '/s/e', why: 'not a number: ""' },
    { file: '/s/f' },
    { file: '/s/h' },
  ]);
});

t.test('functions whose links make them each other’s parents do not hang anybody', async (t) => {
  const dir = t.testdir({});
  const [a, b] = ['0000:01:00.0', '0000:02:00.0'];
  for (const way of [`${a}/${b}`, `${b}/${a}`]) {
    mkdirSync(`${dir}/sys/devices/pci0000:00/${way}`, { recursive: true });
    writeFileSync(`${dir}/sys/devices/pci0000:00/${way}/vendor`, '0x1234');
  }
  mkdirSync(`${dir}/sys/bus/pci/devices`, { recursive: true });
  symlinkSync(`../../../devices/pci0000:00/${b}/${a}`, `${dir}/sys/bus/pci/devices/${a}`);
  symlinkSync(`../../../devices/pci0000:00/${a}/${b}`, `${dir}/sys/bus/pci/devices/${b}`);
  symlinkSync(`../../../devices/pci0000:00/${a}/${b}`, `${dir}/sys/bus/pci/devices/0000:03:00.0`);
  const sysfs = readSysfs(dir);
  t.equal(sysfs.topology.functions.length, 3);
  t.match(
    sysfs.topology.unknowns.find(({ why }) => why.startsWith('cannot be below')),
    { file: /01:00\.0/ },
  );
  t.match(
    sysfs.topology.unknowns.find(({ why }) => why.includes('another device')),
    { file: /03:00\.0/ },
  );
  askEverything(sysfs);
});

function filesOf(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : [];
  });
}

t.test('whatever is in whichever attributes, nothing throws', async (t) => {
  for (const layout of ['sysfs', 'plain', 'flat'] as const) {
    const root = writeSysfsTree(t.testdir({}), { ...twoDrivesBelowASwitch(), layout });
    const files = filesOf(root);
    const content = fc.oneof(
      fc.string({ maxLength: 80 }),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(
        '',
        '-1',
        '0',
        '1',
        '0xffffffffffffffff',
        '99999999999999999999',
        'NaN',
        '0x',
        '\0',
        '259:0',
        '../..',
      ),
      fc.constantFrom(Buffer.alloc(4096, 0xff), Buffer.alloc(4096), Buffer.alloc(64, 1)),
    );
    const damage = fc.array(fc.tuple(fc.nat({ max: files.length - 1 }), fc.option(content)), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(damage, (places) => {
        const undo = new Map<string, Buffer>();
        for (const [index, text] of places) {
          const file = files[index]!;
          if (!undo.has(file)) undo.set(file, readFileSync(file));
          if (text === null) rmSync(file, { force: true });
          else writeFileSync(file, text);
        }
        try {
          askEverything(readSysfs(root));
        } finally {
          for (const [file, before] of undo) writeFileSync(file, before);
        }
      }),
      { numRuns: 25 },
    );
  }
});

t.test(
  'every attribute in turn missing, empty, or no file: nothing throws, waits or is followed',
  async (t) => {
    const dir = t.testdir({ root: {}, secret: 'eui.secret' });
    const root = writeSysfsTree(join(dir, 'root'), twoDrivesBelowASwitch());
    for (const disk of ['nvme0n1', 'dm-0', 'loop0']) {
      writeFileSync(join(root, 'sys/class/block', disk, 'wwid'), `eui.${disk}`);
    }
    const files = filesOf(root);
    const stride = 9;
    for (let first = 0; first < stride; first++) {
      for (const damage of ['missing', 'directory', 'empty', 'FIFO', 'link out']) {
        const some = files.filter((_, index) => index % stride === first);
        const before = some.map((file) => readFileSync(file));
        for (const file of some) {
          rmSync(file);
          if (damage === 'directory') mkdirSync(file);
          if (damage === 'empty') writeFileSync(file, '');
          if (damage === 'link out') symlinkSync(join(dir, 'secret'), file);
        }
        if (damage === 'FIFO') execFileSync('mkfifo', some);
        const began = performance.now();
        const sysfs = readSysfs(root);
        askEverything(sysfs);
        t.ok(performance.now() - began < 10_000, `${damage} ${first}: nobody waits`);
        for (const disk of ['nvme0n1', 'dm-0', 'loop0']) t.not(inspect(sysfs, disk).identity, 'eui.secret');
        some.forEach((file, index) => {
          rmSync(file, { recursive: true, force: true });
          writeFileSync(file, before[index]!);
        });
      }
    }
    t.same(readSysfs(root).topology.unknowns, []);
  },
);

t.test('attributes that tar filled up with NUL say what they said before', async (t) => {
  const plain = writeSysfsTree(t.testdir({}), twoDrivesBelowASwitch());
  const before = JSON.stringify(everythingOf(readSysfs(plain)));
  for (const file of filesOf(join(plain, 'sys'))) {
    const bytes = readFileSync(file);
    writeFileSync(file, Buffer.concat([bytes, Buffer.alloc(Math.max(0, 4096 - bytes.length))]));
  }
  t.equal(JSON.stringify(everythingOf(readSysfs(plain))), before);
});

t.test('what was copied without root and filled up says that it was: ACS is not known', async (t) => {
  const root = writeSysfsTree(t.testdir({}), { ...twoDrivesBelowASwitch(), configBytes: 64 });
  for (const file of filesOf(join(root, 'sys')).filter((path) => path.endsWith('/config'))) {
    writeFileSync(file, Buffer.concat([readFileSync(file), Buffer.alloc(4096 - 64)]));
  }
  const { topology } = readSysfs(root);
  t.equal(topology.find('02:00.0')?.acs, 'unknown');
  t.match(topology.find('02:00.0')?.portType, 'downstream-port');
  t.ok(
    topology.unknowns.some(({ why }) => why === 'only 64 bytes readable (the rest needs root): ACS unknown'),
  );
});

/** Without names of files, which differ. */
function everythingOf(sysfs: Sysfs): unknown {
  return {
    machine: snapshotMachine(sysfs, { withSerials: true }),
    unknowns: sysfs.topology.unknowns,
    kernel: sysfs.kernel,
    controllers: sysfs.controllers.map(({ pdev, ...rest }) => ({ ...rest, on: pdev?.bdf })),
    blocks: ['nvme0n1', 'nvme0n1p2', 'dm-0', 'md0', 'loop0', 'vda'].map((name) => {
      const { client, disks, legs, ...rest } = sysfs.blockInfo(name)!;
      const legsAt = legs?.clients.map(({ bdf }) => bdf);
      return {
        ...rest,
        client: client?.bdf,
        legsAt,
        disks: disks.map((disk) => [disk.name, disk.client?.bdf]),
      };
    }),
  };
}

t.test(
  'what a kernel shows is looked at no more than is needed',
  { skip: process.platform === 'win32' },
  async (t) => {
    const long = 'x'.repeat(4096);
    const dir = t.testdir({
      sys: { devices: { disk: { size: '8\n', long, queue: { ro: '0\n' } } }, class: {} },
      proc: { swaps: long.repeat(20) },
    });
    symlinkSync('../devices/disk', `${dir}/sys/class/disk`);
    symlinkSync('../devices/gone', `${dir}/sys/class/gone`);
    const asked: string[] = [];
    const files = new (class extends KernelFiles {
      override kindOf(path: readonly string[]) {
        asked.push(path.join('/'));
        return super.kindOf(path);
      }
    })(dir);
    const tree = new SysfsTree(files);
    const disk = tree.dir('sys/class/disk')!;
    t.same(disk.real, ['sys', 'devices', 'disk']);
    t.same(asked, ['sys', 'sys/class', 'sys/class/disk'], 'where a link leads is not asked');
    asked.length = 0;
    t.equal(disk.number('size'), 8);
    t.equal(disk.text('long'), long, 'as long as one call gives');
    t.equal(tree.text('proc/swaps', 1 << 20)?.length, 20 * 4096);
    t.equal(disk.text('none', { optional: true }), null);
    t.equal(disk.text('lost'), null);
    t.equal(disk.text('queue'), null);
    t.same(asked, ['proc', 'proc/swaps'], 'an attribute is opened');
    t.equal(tree.dir('sys/class/gone')!.text('size'), null);
    t.match(tree.unknowns, [
      { file: '/sys/class/disk/lost', why: 'missing' },
      { file: '/sys/class/disk/queue', why: 'not a regular file' },
      { file: '/sys/class/gone/size', why: 'missing' },
    ]);
  },
);

t.test(
  'directories that always are there are remembered only if they are, and hold what they hold',
  async (t) => {
    const dir = t.testdir({ sys: {} });
    const tree = new SysfsTree(new KernelFiles(dir));
    t.equal(tree.dir('sys/class', { optional: true }), null);
    mkdirSync(`${dir}/sys/class/block/loop0`, { recursive: true });
    t.ok(tree.dir('sys/class/block/loop0'), 'sysfs was mounted');
    rmSync(`${dir}/sys/class/block/loop0`, { recursive: true });
    t.equal(tree.dir('sys/class/block/loop0', { optional: true }), null, 'a device was removed');
    mkdirSync(`${dir}/sys/class/block/loop0`);
    t.ok(tree.dir('sys/class/block/loop0'));
    rmSync(`${dir}/sys/class`, { recursive: true });
    t.equal(tree.dir('sys/class/block/loop0', { optional: true }), null, 'sysfs was unmounted');
    t.same(tree.unknowns, []);
  },
);
