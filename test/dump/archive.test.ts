/** Archives of machines whose verdicts are known: the same machine read from its folder. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { describeMachine, openSystem, type System } from '../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { asTarSees, entriesOf, type Packed, type Packing, packed, tarOf } from '../helpers/archives.js';
import { hexDump } from '../helpers/lspci-dump.js';
import { verdictLines } from '../helpers/sent-verdicts.js';

/** All that was decided of every two drives. */
function verdicts(system: System): unknown[] {
  return system.explainAll().map(({ provider, clients }) => ({ provider, clients }));
}

/** All that is known of a machine, without where it was read. */
function facts(system: System): unknown {
  const { unknowns: _, find: _find, ...topology } = system.topology;
  return { topology, controllers: system.controllers, verdicts: verdicts(system) };
}

function captured(t: { testdir(): string }): { folder: string; entries: Packed[] } {
  const folder = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  return { folder, entries: entriesOf(folder) };
}

/** Two drives below a switch without ACS, and one on a root port of its own, under a host bridge that is not on the list. */
const VERDICTS = [
  '0000:03:00.0 to 0000:03:00.0: BUS_ADDR, same-function',
  '0000:03:00.0 to 0000:04:00.0: BUS_ADDR, common-bridge',
  '0000:03:00.0 to 0000:05:00.0: NOT_SUPPORTED, host-bridge-not-listed',
  '0000:04:00.0 to 0000:03:00.0: BUS_ADDR, common-bridge',
  '0000:04:00.0 to 0000:04:00.0: BUS_ADDR, same-function',
  '0000:04:00.0 to 0000:05:00.0: NOT_SUPPORTED, host-bridge-not-listed',
  '0000:05:00.0 to 0000:03:00.0: NOT_SUPPORTED, host-bridge-not-listed',
  '0000:05:00.0 to 0000:04:00.0: NOT_SUPPORTED, host-bridge-not-listed',
  '0000:05:00.0 to 0000:05:00.0: BUS_ADDR, same-function',
];

function inFolder(name: string, entries: readonly Packed[]): Packed[] {
  return [
    { path: name, content: null },
    ...entries.map(({ path, content }) => ({ path: `${name}/${path}`, content })),
  ];
}

const WAYS: readonly (Packing | null)[] = [null, 'gz', 'bz2', 'xz', 'zst'];

t.test('an archive of /sys and /proc is the machine in it, however it is packed', async (t) => {
  const { folder, entries } = captured(t);
  const whole = await openSystem({ root: folder, inspect: true });
  for (const way of WAYS) {
    for (const above of [null, 'captured']) {
      const tar = tarOf(above === null ? entries : inFolder(above, entries));
      const bytes = way === null ? tar : packed(tar, way);
      const form = way === null ? 'tar' : `tar.${way}`;
      await t.test(form, { skip: bytes === null && `no program for ${form} here` }, async (t) => {
        const read = await describeMachine(bytes!);
        t.strictSame(facts(read), facts(whole));
        t.match(read.evidence, {
          recognised: [`an archive (${form}) with boot/, proc/ and sys/`],
          notKnown: [],
        });
        t.strictSame(verdictLines(read), VERDICTS);
        await read.close();
      });
    }
  }
  await whole.close();
});

t.test('a tar of the live /sys: padded with zeros; /proc is empty in it, and is asked for', async (t) => {
  const { folder, entries } = captured(t);
  const whole = await openSystem({ root: folder, inspect: true });
  const { vendor, family } = whole.topology.cpu;
  const bytes = packed(tarOf(asTarSees(entries)), 'gz')!;
  const alone = await describeMachine(bytes);
  t.match(alone.evidence?.notKnown, [
    { what: /\/proc\/cpuinfo/, why: /empty, as tar copies \/proc/ },
    { what: 'the processor' },
    { what: 'the kernel' },
  ]);
  t.strictSame(alone.topology.cpu, { vendor: null, family: null, known: false });
  const told = await describeMachine(bytes, {
    cpu: `${vendor}:${family}`,
    kernel: whole.topology.kernel!.text,
  });
  t.strictSame(verdicts(told), verdicts(whole));
  t.strictSame(verdictLines(told), VERDICTS);
  t.strictSame(
    told.controllers.map(({ name, cmb, namespaces }) => ({ name, cmb, namespaces })),
    whole.controllers.map(({ name, cmb, namespaces }) => ({ name, cmb, namespaces })),
  );
  for (const system of [whole, alone, told]) await system.close();
});

t.test('copied without root: ACS is not known, padded or not', async (t) => {
  const folder = writeSysfsTree(t.testdir(), { ...twoDrivesBelowASwitch(), configBytes: 64 });
  const entries = entriesOf(folder);
  for (const tar of [tarOf(entries), tarOf(asTarSees(entries))]) {
    const read = await describeMachine(tar, { kernel: '6.12.117' });
    const bridges = read.topology.functions.filter(({ portType }) => portType.endsWith('-port'));
    t.ok(bridges.length > 0);
    for (const { bdf, acs } of bridges) t.equal(acs, 'unknown', bdf);
    await read.close();
  }
});

t.test(
  'an attribute that could not be read is absent; configuration space of zeros is no function’s',
  async (t) => {
    const { entries } = captured(t);
    const zeroed = entries.map(({ path, content }) =>
      /02:00\.0\/config$/.test(path) ? { path, content: Buffer.alloc(4096) } : { path, content },
    );
    const read = await describeMachine(tarOf(zeroed));
    const port = read.topology.find('0000:02:00.0')!;
    t.equal(port.acs, 'unknown');
    t.match(
      read.topology.unknowns.map(({ file }) => file),
      [/02:00\.0\/config$/],
    );
    await read.close();
  },
);

t.test('hwloc-gather-topology --io', async (t) => {
  const { folder, entries } = captured(t);
  const kept =
    /^(sys(\/(devices|bus|class)?)?|sys\/devices\/pci.*|sys\/bus\/pci(\/devices.*)?|sys\/class\/block.*|proc|proc\/(cpuinfo|cmdline))$/;
  const gathered = [
    ...entries.filter(({ path }) => kept.test(path)),
    { path: 'proc/version', content: Buffer.from('Linux version 6.12.117 (builder@host) (gcc) #1 SMP\n') },
    { path: 'proc/hwloc-nofile-info', content: Buffer.from('Hostname: box\n') },
  ];
  const bytes = packed(tarOf(inFolder('box', gathered)), 'bz2');
  await t.test('read', { skip: bytes === null && 'no bzip2 here' }, async (t) => {
    const whole = await openSystem({ root: folder, inspect: true });
    const read = await describeMachine(bytes!);
    t.match(read.evidence, {
      recognised: ['an archive of hwloc-gather-topology (tar.bz2) with proc/ and sys/'],
      notKnown: [{ what: 'the IOMMU’s mode' }],
    });
    t.strictSame(
      read.topology.functions.map(({ bdf, acs, portType, p2pmem }) => ({ bdf, acs, portType, p2pmem })),
      whole.topology.functions.map(({ bdf, acs, portType, p2pmem }) => ({ bdf, acs, portType, p2pmem })),
    );
    t.strictSame(
      read.controllers.map(({ name, cmb }) => [name, cmb]),
      whole.controllers.filter(({ pdev }) => pdev !== null).map(({ name, cmb }) => [name, cmb]),
    );
    t.equal(read.topology.kernel?.text, '6.12.117');
    t.strictSame(verdictLines(read), VERDICTS);
    await Promise.all([read.close(), whole.close()]);
  });
  await t.test('without --io', async (t) => {
    const without = gathered.filter(({ path }) => !/pci|block/.test(path));
    await t.rejects(describeMachine(tarOf(without)), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /nothing .* says anything of a machine’s PCI functions/,
    });
  });
});

t.test('a sosreport: lspci’s text, and the few files of /sys that are in it', async (t) => {
  const { folder, entries } = captured(t);
  const whole = await openSystem({ root: folder, inspect: true });
  const some = entries.filter(({ path, content }) =>
    content === null
      ? /^(sys(?!\/kernel)|proc)/.test(path)
      : /\/nvme\d+n\d+\/queue\/|^proc\/(cpuinfo|sys)/.test(path) || /^sys\/block\//.test(path),
  );
  const report = inFolder('sosreport-box-2026-11-28-abcdef', [
    ...some,
    { path: 'sos_commands/pci/lspci_-xxxx', content: Buffer.from(hexDump(whole.topology)) },
    { path: 'sos_commands/pci/lspci_-tv', content: Buffer.from('-[0000:00]-+-00.0\n') },
    { path: 'lspci', content: { link: 'sos_commands/pci/lspci_-xxxx' } },
    { path: 'etc/hosts', content: Buffer.from('127.0.0.1 box\n') },
    { path: 'var/log/messages', content: Buffer.alloc(3 * 2 ** 20, 'a line\n') },
  ]);
  const bytes = packed(tarOf(report), 'xz');
  await t.test('read', { skip: bytes === null && 'no xz here' }, async (t) => {
    const read = await describeMachine(bytes!);
    t.match(read.evidence?.recognised, [
      'a sosreport (tar.xz) with proc/, sys/ and texts',
      /^lspci -xxxx, \d+ functions$/,
    ]);
    t.match(read.evidence?.notKnown, [
      { what: 'peer memory (CMBs)', why: /what was copied does not show it/ },
      { what: 'the IOMMU’s mode' },
    ]);
    t.notMatch(JSON.stringify(read.evidence), /hosts|messages/);
    t.equal(read.topology.peerMemory, 'unknown');
    t.strictSame(read.topology.cpu, whole.topology.cpu);
    t.equal(read.topology.kernel?.text, '6.12.117');
    t.strictSame(
      read.topology.functions.map(({ bdf, acs, portType, upstream }) => [bdf, acs, portType, upstream?.bdf]),
      whole.topology.functions.map(({ bdf, acs, portType, upstream }) => [bdf, acs, portType, upstream?.bdf]),
    );
    t.strictSame(verdictLines(read), VERDICTS);
    const unpacked = await describeMachine(unpack(report, t.testdir()));
    t.equal(unpacked.evidence?.recognised[0], 'a sosreport (unpacked) with proc/, sys/ and texts');
    t.strictSame(unpacked.evidence?.notKnown, read.evidence?.notKnown);
    t.strictSame(facts(unpacked), facts(read));
    await unpacked.close();
    await read.close();
  });
  await whole.close();
});

/** The folder in which the one top folder of these entries is. */
function unpack(entries: readonly Packed[], into: string): string {
  for (const { path, content } of entries) {
    const at = join(into, path);
    mkdirSync(dirname(at), { recursive: true });
    if (content === null) mkdirSync(at, { recursive: true });
    else if (Buffer.isBuffer(content)) writeFileSync(at, content);
    else symlinkSync(content.link, at);
  }
  return join(into, entries[0]!.path.split('/')[0]!);
}

t.test('texts, packed together or one compressed', async (t) => {
  const machine = await openSystem({ machine: 'switch' });
  const text = Buffer.from(hexDump(machine.topology));
  const whole = await describeMachine(text);
  const one = await describeMachine(packed(text, 'gz')!);
  const many = await describeMachine(
    tarOf([
      { path: 'sent/lspci.txt', content: text },
      { path: 'sent/notes', content: Buffer.from('We swapped the drive.') },
    ]),
  );
  t.strictSame(verdicts(one), verdicts(whole));
  t.strictSame(verdicts(many), verdicts(whole));
  t.match(many.evidence?.recognised, ['an archive (tar) with texts', /^lspci -xxxx/]);
  t.match(many.evidence?.notKnown, [{ what: /sent\/notes/, why: /not recognised/ }]);
  for (const system of [machine, whole, one, many]) await system.close();
});

t.test('links lead nowhere outside', async (t) => {
  const { entries } = captured(t);
  const secret = t.testdirName;
  for (const link of [`${'../'.repeat(30)}${secret}`, `/${secret}`, '/etc', 'loop']) {
    const read = await describeMachine(
      tarOf([
        ...entries.filter(({ path }) => !path.startsWith('proc/cpuinfo')),
        { path: 'proc/cpuinfo', content: { link } },
        { path: 'proc/loop', content: { link: 'cpuinfo' } },
        { path: 'sys/bus/pci/devices/0000:99:00.0', content: { link } },
      ]),
    );
    t.equal(read.topology.find('0000:99:00.0'), null, link);
    t.equal(read.topology.cpu.vendor, null);
    await read.close();
  }
  await t.rejects(describeMachine(tarOf([...entries, { path: 'sys/../../x', content: Buffer.from('x') }])), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /leads out of it/,
  });
});

t.test('what is not a machine, or several', async (t) => {
  const { entries } = captured(t);
  const refused = async (bytes: Buffer, message: RegExp): Promise<void> => {
    await t.rejects(describeMachine(bytes), { code: 'ERR_INVALID_ARG_VALUE', message }, `${message}`);
  };
  await refused(
    tarOf([...inFolder('a', entries), ...inFolder('b', entries)]),
    /several machines: 'a' and 'b'/,
  );
  await refused(tarOf([]), /nothing/);
  await refused(tarOf([{ path: 'x', content: Buffer.from('x') }]), /nothing/);
  await refused(packed(packed(tarOf(entries), 'gz')!, 'gz')!, /nothing/);
  await refused(tarOf([{ path: 'sys/GNUSparseFile.1/x', content: Buffer.from('x') }]), /sparse files/);
  await t.rejects(describeMachine(tarOf(entries), { cpu: 'intel:6' }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /says itself which processor/,
  });
});

t.test('a part of an archive is not taken for the whole', async (t) => {
  const { entries } = captured(t);
  const tar = tarOf(entries);
  for (const way of WAYS) {
    const bytes = way === null ? tar : packed(tar, way);
    if (bytes === null) continue;
    for (const share of [0.3, 0.6, 0.9, 0.999]) {
      const end = Math.floor(bytes.length * share);
      for (const cut of [end, end - (end % 512)]) {
        // Of tar itself the last two blocks are padding; the first of them suffices.
        if (cut < 1024 || (way === null && cut >= tar.length - 512)) continue;
        await t.rejects(
          describeMachine(bytes.subarray(0, cut)),
          { code: 'ERR_INVALID_ARG_VALUE', message: /is damaged/ },
          `${way ?? 'tar'} cut at ${cut} of ${bytes.length}`,
        );
      }
    }
  }
});

t.test('what unpacks to far more than was sent', async (t) => {
  const bomb = tarOf([
    { path: 'sys/bus/pci/devices/x', content: null },
    { path: 'y', content: Buffer.alloc(2 ** 25) },
  ]);
  for (const way of ['bz2', 'xz', 'zst'] as const) {
    const bytes = packed(bomb, way);
    if (bytes === null) continue;
    await t.rejects(describeMachine(bytes), { message: /more than 4000 times its size when unpacked/ }, way);
  }
  const large = tarOf([
    { path: 'sys/bus/pci/devices/0000:00:00.0/uevent', content: Buffer.alloc(17 * 2 ** 20, 'x') },
  ]);
  await t.rejects(describeMachine(large), { message: /uevent', which has more than 16 MiB/ });
  for (const [way, options] of [
    ['zst', ['--long=27', '--zstd=wlog=27']],
    ['xz', ['--lzma2=dict=128MiB']],
    ['xz', ['--check=sha256']],
    ['xz', ['--x86', '--lzma2']],
  ] as const) {
    const bytes = packed(tarOf([{ path: 'x', content: randomBytes(2 ** 20) }]), way, options);
    if (bytes === null) continue;
    await t.rejects(
      describeMachine(bytes),
      { message: /(window|dictionary) of more than|filter or a check/, hint: /-d/ },
      way,
    );
  }
});

t.test('several streams in one compressed file', async (t) => {
  const { folder, entries } = captured(t);
  const tar = tarOf(entries);
  const whole = await openSystem({ root: folder, inspect: true });
  for (const way of ['gz', 'bz2', 'xz', 'zst'] as const) {
    const parts = [tar.subarray(0, 100_000), tar.subarray(100_000)].map((part) => packed(part, way));
    if (parts.includes(null)) continue;
    const read = await describeMachine(Buffer.concat(parts as Buffer[]));
    t.strictSame(facts(read), facts(whole), way);
    await read.close();
  }
  await whole.close();
});
