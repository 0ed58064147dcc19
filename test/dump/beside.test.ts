/** What other programs print beside lspci, written from machines whose verdicts are known. `UPDATE_DUMPS=1` writes the folder anew. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { describeMachine, diagnose, MACHINE_PRESETS, openSystem, type System } from '../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { entriesOf, tarOf } from '../helpers/archives.js';
import * as beside from '../helpers/beside.js';
import { hexDump, lspci } from '../helpers/lspci-dump.js';
import { withKernelLines } from '../helpers/lspci-words.js';
import { verdictLines } from '../helpers/sent-verdicts.js';

const FOLDER = fileURLToPath(new URL('../../../test/fixtures/dumps/acs-with-drives', import.meta.url));

const KNOWN: Readonly<Record<string, (of: System) => string>> = {
  'cpuinfo.txt': beside.cpuinfo,
  'dmesg.txt': beside.kernelLog,
  'lsblk.txt': (of) => beside.lsblk(of, { exact: true }),
  'lspci.txt': (of) => withKernelLines(lspci(hexDump(of.topology), '-vvvnn')),
  'nvme-list.txt': beside.nvmeListNested,
  'uname.txt': beside.uname,
};

t.test('a folder with lspci, nvme list, lsblk, dmesg, uname and cpuinfo', async (t) => {
  const machine = await openSystem({ machine: 'acs' });
  if (process.env.UPDATE_DUMPS === '1') {
    mkdirSync(FOLDER, { recursive: true });
    for (const [file, write] of Object.entries(KNOWN)) writeFileSync(join(FOLDER, file), write(machine));
  }
  for (const [file, write] of Object.entries(KNOWN)) {
    if (file !== 'lspci.txt')
      t.equal(readFileSync(join(FOLDER, file), 'utf8'), write(machine), `${file} is of acs`);
  }
  const read = await describeMachine(FOLDER);
  t.strictSame(read.evidence?.recognised, [
    '/proc/cpuinfo',
    'the kernel’s log, 6 of peer-to-peer DMA in it',
    'lsblk',
    'lspci -vvnn, 7 functions',
    'nvme list',
    'uname -a',
  ]);
  t.strictSame(read.evidence?.contradictions, []);
  t.match(
    read.evidence?.notKnown.map(({ what }) => what),
    [
      /^the layers of nvme0n1 and nvme1n1/,
      'peer memory (CMBs)',
      'the IOMMU’s mode',
      'the size of the peer-to-peer memory of 0000:03:00.0 and 0000:04:00.0',
    ],
  );
  t.strictSame(verdictLines(read), [
    '0000:03:00.0 to 0000:03:00.0: BUS_ADDR, same-function',
    '0000:03:00.0 to 0000:04:00.0: NOT_SUPPORTED, host-bridge-not-listed',
    '0000:04:00.0 to 0000:03:00.0: NOT_SUPPORTED, host-bridge-not-listed',
    '0000:04:00.0 to 0000:04:00.0: BUS_ADDR, same-function',
  ]);
  t.match(drives(read), drives(machine));
  t.strictSame(
    read.controllers.map(({ model }) => model),
    ['SAMPLE SSD 980 1TB', 'SAMPLE SSD 980 1TB'],
  );
  t.equal(read.topology.kernel?.text, '6.12.30-amd64');
  t.match(read.topology.cpu, { vendor: 'GenuineIntel', family: 6 });
  await Promise.all([machine.close(), read.close()]);
});

/** Names, places, namespaces. */
function drives({ controllers }: System) {
  return controllers.map(({ name, pdev, namespaces }) => ({
    name,
    bdf: pdev?.bdf ?? null,
    namespaces: namespaces.map(({ name: disk, nsid, size, logicalBlockSize }) => ({
      name: disk,
      nsid,
      size,
      logicalBlockSize,
    })),
  }));
}

/** Which function a multipath head belongs to is not told. */
function withoutHeads<T extends { namespaces: { name: string }[] }>(
  drive: T,
  _: number,
  all: readonly T[],
): T {
  const times = (name: string) =>
    all.filter(({ namespaces }) => namespaces.some((one) => one.name === name)).length;
  return { ...drive, namespaces: drive.namespaces.filter(({ name }) => times(name) === 1) };
}

const read = (...texts: readonly (string | Buffer)[]) =>
  describeMachine(
    texts.map((text) => Buffer.from(text)),
    { cpu: 'intel:6', kernel: '6.12.30' },
  );

t.test(
  'each preset with all that is beside it: equal verdicts, drives by name, nothing contradicts',
  async (t) => {
    for (const preset of MACHINE_PRESETS) {
      const machine = await openSystem({ machine: preset });
      const texts = ['dmesg.txt', 'lsblk.txt', 'nvme-list.txt', 'uname.txt'].map((name) =>
        KNOWN[name]!(machine),
      );
      const { vendor, family } = machine.topology.cpu;
      const sent = await describeMachine(
        [hexDump(machine.topology), ...texts].map((text) => Buffer.from(text)),
        { cpu: `${vendor}:${family}`, kernel: machine.topology.kernel!.text },
      );
      t.strictSame(sent.evidence?.contradictions, [], preset);
      t.strictSame(verdictLines(sent), verdictLines(machine), preset);
      t.strictSame(
        drives(sent),
        drives(machine)
          .filter(({ bdf }) => bdf !== null)
          .map(withoutHeads),
        preset,
      );
      if (preset === 'multipath') t.match(sent.evidence?.notKnown, [{ what: 'which function nvme2n1 is' }]);
      await Promise.all([machine.close(), sent.close()]);
    }
  },
);

t.test('the forms of nvme-cli: a flat list has its places from list-subsys', async (t) => {
  const machine = await openSystem({ machine: 'four-drives' });
  const text = hexDump(machine.topology);
  for (const form of ['1.x', '2.0', '2.x'] as const) {
    const sent = await read(text, beside.nvmeListFlat(machine), beside.nvmeListSubsys(machine, form));
    t.strictSame(drives(sent), drives(machine), form);
    t.strictSame(sent.evidence?.contradictions, [], form);
    await sent.close();
  }
  const alone = await read(text, beside.nvmeListFlat(machine));
  t.match(alone.evidence?.notKnown, [
    { what: /^which function nvme0n1, nvme1n1, nvme2n1 and nvme3n1 is$/, why: /list-subsys/ },
  ]);
  t.strictSame(
    alone.controllers.map(({ name, namespaces }) => [name, namespaces]),
    alone.controllers.map(({ pdev }) => [pdev!.bdf, []]),
    'no name is guessed',
  );
  const logged = await read(text, beside.nvmeListFlat(machine), beside.kernelLog(machine));
  t.strictSame(
    logged.controllers.map(({ name, namespaces }) => [name, namespaces]),
    machine.controllers.map(({ name }) => [name, []]),
    'a log has names of controllers; whose a namespace is cannot be concluded from its number',
  );
  for (const system of [machine, alone, logged]) await system.close();
});

t.test('numbers that are not exact are not used', async (t) => {
  const machine = await openSystem({ machine: 'switch' });
  const rounded = await read(
    hexDump(machine.topology),
    beside.nvmeListSubsys(machine, '2.x'),
    beside.lsblk(machine, { exact: false }),
  );
  t.match(rounded.evidence?.notKnown, [
    { what: 'the exact size of nvme0n1 and nvme1n1', why: /lsblk -b -J/ },
  ]);
  t.ok(rounded.controllers.every(({ namespaces }) => namespaces.length === 0));
  const bare = await read(
    hexDump(machine.topology),
    beside.nvmeListSubsys(machine, '2.x'),
    beside.lsblk(machine, { exact: true }),
  );
  t.match(bare.evidence?.notKnown, [
    { what: 'the block size of nvme0n1 and nvme1n1', why: /512 stands in its place/ },
    { what: 'the namespace ID of nvme0n1 and nvme1n1' },
    { what: /^the layers of nvme0n1 and nvme1n1/ },
  ]);
  for (const size of [-1, 0, 1.5, 1000, 2 ** 60, '1T', null, {}, [], true]) {
    const odd = JSON.stringify({ blockdevices: [{ name: 'nvme0n1', size }] });
    const sent = await read(hexDump(machine.topology), beside.nvmeListSubsys(machine, '2.x'), odd);
    t.ok(
      sent.controllers.every(({ namespaces }) => namespaces.length === 0),
      JSON.stringify(size),
    );
    await sent.close();
  }
  for (const system of [machine, rounded, bare]) await system.close();
});

t.test('whether a namespace is a multipath head is not concluded', async (t) => {
  const machine = await openSystem({ machine: 'switch' });
  const from = [hexDump(machine.topology), beside.nvmeListNested(machine)].map((text) => Buffer.from(text));
  const sent = await describeMachine(from, { cpu: 'intel:6', kernel: '6.12.30' });
  t.equal(sent.locate('nvme0n1'), null);
  const { findings, verdict } = await diagnose({ from, cpu: 'intel:6', kernel: '6.12.30' });
  t.match(
    findings.filter(({ check }) => check === 'multipath'),
    [{ level: 'unknown', fact: /nvme0n1 and nvme1n1 are multipath heads is not known/ }],
  );
  t.equal(verdict, 'unknown');
  // A list of nvme-cli 1.x has a head below each of its controllers.
  const both = beside
    .nvmeListNested(machine)
    .replaceAll('"nvme1n1"', '"nvme0n1"')
    .replace('nvme-subsys1', 'nvme-subsys0');
  const { Devices } = JSON.parse(both) as {
    Devices: [{ Subsystems: [{ Controllers: object[] }, { Controllers: object[] }] }];
  };
  const [first, second] = Devices[0].Subsystems;
  first.Controllers.push(...second.Controllers);
  Devices[0].Subsystems.pop();
  const shared = await read(hexDump(machine.topology), JSON.stringify({ Devices }));
  t.match(shared.evidence?.notKnown, [{ what: 'which function nvme0n1 is' }]);
  t.strictSame(
    shared.controllers.map(({ name, namespaces }) => [name, namespaces.length]),
    [
      ['nvme0', 0],
      ['nvme1', 0],
    ],
  );
  for (const system of [machine, sent, shared]) await system.close();
});

t.test('what is not on PCIe, or was not sent, has no place', async (t) => {
  const machine = await openSystem({ machine: 'switch' });
  const list = beside.nvmeListSubsys(machine, '2.x');
  const fabric = await read(
    hexDump(machine.topology),
    list.replace('"pcie"', '"tcp"').replace(/"0000:03:00.0"/, '"traddr=10.0.0.1"'),
  );
  t.match(fabric.evidence?.notKnown, [{ what: 'the way to nvme0', why: /over tcp/ }]);
  t.strictSame(fabric.controllers.map(({ name }) => name).sort(), ['0000:03:00.0', 'nvme1']);
  const other = await read(hexDump(machine.topology), list.replace('0000:03:00.0', '0000:55:00.0'));
  t.match(other.evidence?.notKnown, [{ what: 'what 0000:55:00.0 is, which is nvme0', why: /not sent/ }]);
  t.equal(other.topology.find('0000:55:00.0'), null);
  for (const system of [machine, fabric, other]) await system.close();
});

t.test('what excludes each other is a contradiction, and is not used', async (t) => {
  const machine = await openSystem({ machine: 'switch' });
  const text = hexDump(machine.topology);
  const list = beside.nvmeListSubsys(machine, '2.x');
  const contradicts = async (texts: readonly string[], words: RegExp, names?: readonly string[]) => {
    const sent = await read(text, ...texts);
    t.match(sent.evidence?.contradictions, [words]);
    if (names !== undefined) t.strictSame(sent.controllers.map(({ name }) => name).sort(), names, `${words}`);
    await sent.close();
  };
  await contradicts(
    [list, beside.kernelLog(machine).replace('pci function 0000:03:00.0', 'pci function 0000:01:00.0')],
    /^the address of nvme0 is 0000:03:00\.0 by nvme list-subsys, and 0000:01:00\.0 by the kernel’s log$/,
    ['0000:03:00.0', 'nvme1'],
  );
  await contradicts(
    [list.replace('0000:03:00.0', '0000:01:00.0')],
    /^nvme0 is said to be 0000:01:00\.0, which is no NVMe controller/,
    ['0000:03:00.0', 'nvme1'],
  );
  await contradicts(
    [list.replace('0000:03:00.0', '0000:04:00.0')],
    /^0000:04:00\.0 is said to be nvme0 and nvme1$/,
  );
  await contradicts(
    [beside.uname(machine), beside.uname(machine).replace('6.12', '6.1')],
    /^uname says Linux 6\.12\.30-amd64, uname says 6\.1\.30-amd64; the first counts$/,
  );
  await contradicts(
    [
      beside.nvmeListNested(machine),
      beside.lsblk(machine, { exact: true }).replace(`${2 ** 30}`, `${2 ** 31}`),
    ],
    /^the size in bytes of nvme0n1 is 1073741824 by nvme list, and 2147483648 by lsblk$/,
  );
  const cpus = await describeMachine(
    [text, beside.cpuinfo(machine), beside.cpuinfo(machine).replace('GenuineIntel', 'AuthenticAMD')].map(
      (one) => Buffer.from(one),
    ),
  );
  t.match(cpus.evidence?.contradictions, [/tells of another processor/]);
  t.equal(cpus.topology.cpu.vendor, 'GenuineIntel');
  await Promise.all([machine.close(), cpus.close()]);
});

t.test(
  'the kernel’s refusals are compared with what is calculated for the kernel that logged them',
  async (t) => {
    const [acs, plain] = [await openSystem({ machine: 'acs' }), await openSystem({ machine: 'switch' })];
    const log = beside.kernelLog(acs);
    const foreign = await read(hexDump(plain.topology), log);
    t.match(foreign.evidence?.contradictions, [
      /log says that ACS redirects between 0000:04:00\.0 and 0000:03:00\.0, and no ACS Control/,
      /log says that it refused 0000:04:00\.0 as a client of 0000:03:00\.0; by what was sent, it would not: /,
      /redirects/,
      /refused/,
    ]);
    const unsure = await read(hexDump(acs.topology, { bytes: 256 }), log);
    t.strictSame(unsure.evidence?.contradictions, []);
    t.match(
      unsure.evidence?.notKnown.filter(({ what }) => /refused/.test(what)),
      [{ what: 'why the kernel refused 0000:04:00.0 as a client of 0000:03:00.0' }, {}],
    );
    const gone = await read(hexDump(acs.topology, { without: ['0000:04:00.0'] }), log);
    t.match(
      gone.evidence?.notKnown.filter(({ what }) => /^what 0000/.test(what)),
      [{ why: /was not sent/ }, { what: /is to/, why: /not both were sent/ }, { what: /is to/ }],
    );
    // A machine on which a later kernel permits what its own kernel refused.
    const later = await describeMachine(
      [hexDump(acs.topology), log].map((one) => Buffer.from(one)),
      {
        kernel: '7.2',
        cpu: 'intel:6',
      },
    );
    t.strictSame(later.evidence?.contradictions, []);
    for (const system of [acs, plain, foreign, unsure, gone, later]) await system.close();
  },
);

t.test('a log over several boots, of drives that were plugged in again, as programs stamp it', async (t) => {
  const machine = await openSystem({ machine: 'acs' });
  const text = hexDump(machine.topology);
  const log = beside.kernelLog(machine);
  const earlier = log
    .replace('6.12', '5.10')
    .replaceAll('nvme0:', 'nvme7:')
    .replaceAll('0000:03:00.0', '0000:77:00.0');
  const again = '[  999.000000] nvme nvme5: pci function 0000:04:00.0\n';
  const sent = await read(text, `${earlier}${log}${again}`);
  t.strictSame(sent.controllers.map(({ name }) => name).sort(), ['nvme0', 'nvme5']);
  t.strictSame(sent.evidence?.contradictions, []);
  t.equal(
    sent.evidence?.notKnown.some(({ what }) => /77:00/.test(what)),
    false,
  );
  await sent.close();
  const stamps: readonly [RegExp, string][] = [
    [/^\[ *\d+\.\d+\] /gm, '[Sat Nov 28 22:22:52 2026] '],
    [/^\[ *\d+\.\d+\] /gm, 'Nov 28 22:22:52 box kernel: '],
    [/^/gm, '2026-11-28T22:22:52.123456+00:00 box kernel: '],
    [/^/gm, '<6>'],
    [/(?<=^\[ *\d+\.\d+\] )/gm, '[    T1] '],
    [/^/gm, '> '],
  ];
  for (const [where, stamp] of stamps) {
    const stamped = await read(text, log.trimEnd().replaceAll(where, stamp));
    t.match(stamped.evidence?.recognised, [/lspci/, 'the kernel’s log, 6 of peer-to-peer DMA in it'], stamp);
    t.strictSame(stamped.controllers.map(({ name }) => name).sort(), ['nvme0', 'nvme1'], stamp);
    await stamped.close();
  }
  const wrapped = await read(text, log.replaceAll('provider (0000', 'provider\n(0000'));
  t.match(
    wrapped.evidence?.notKnown.filter(({ what }) => /of the lines/.test(what)),
    [{ what: /^what 4 of the lines on peer-to-peer DMA/, why: /cut or wrapped/ }],
  );
  await Promise.all([machine.close(), wrapped.close()]);
});

t.test('one file with what several commands printed', async (t) => {
  const machine = await openSystem({ machine: 'acs' });
  const [of, log, text] = [beside.uname(machine), beside.kernelLog(machine), hexDump(machine.topology)];
  for (const parts of [
    [of, text, log],
    [log, of, text],
    [text, log, of],
  ]) {
    const sent = await describeMachine(Buffer.from(`${parts.join('\n')}${beside.cpuinfo(machine)}`));
    t.strictSame([...sent.evidence!.recognised].sort(), [
      '/proc/cpuinfo',
      'lspci -xxxx, 7 functions',
      'the kernel’s log, 6 of peer-to-peer DMA in it',
      'uname -a',
    ]);
    t.strictSame(verdictLines(sent), verdictLines(machine));
    t.equal(sent.topology.kernel?.text, '6.12.30-amd64');
    t.equal(sent.topology.cpu.vendor, 'GenuineIntel');
    await sent.close();
  }
  await machine.close();
});

t.test('beside a copy of /sys its own files count', async (t) => {
  const folder = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  const tar = tarOf(entriesOf(folder));
  const whole = await describeMachine(tar);
  const machine = await openSystem({ root: folder, inspect: true });
  const list = beside.nvmeListNested(machine);
  const same = await describeMachine([Buffer.from(list), Buffer.from(beside.kernelLog(machine)), tar]);
  const bySys = drives(whole).filter(({ bdf }) => bdf !== null);
  t.strictSame(
    drives(same).filter(({ bdf }) => bdf !== null),
    bySys,
  );
  t.match(same.evidence?.contradictions, [
    /^\/proc says Linux 6\.12\.117, the kernel’s log says 6\.12\.117-amd64/,
  ]);
  t.equal(same.topology.kernel?.text, '6.12.117', 'whatever was named first');
  const [first] = bySys;
  const other = await describeMachine([
    Buffer.from(list.replace(`"${first!.name}"`, '"nvme99"').replaceAll('nvme0n1', 'nvme99n1')),
    tar,
  ]);
  t.match(other.evidence?.contradictions, [/is said to be nvme99, and \/sys shows nvme/]);
  t.strictSame(
    drives(other).filter(({ bdf }) => bdf !== null),
    bySys,
  );
  for (const system of [whole, machine, same, other]) await system.close();
});

t.test('cut or foreign files say nothing', async (t) => {
  const machine = await openSystem({ machine: 'switch' });
  const text = hexDump(machine.topology);
  for (const [name, content] of [
    ['JSON that ends early', beside.nvmeListNested(machine).slice(0, -20)],
    ['no devices', '{"Devices":[]}'],
    ['another JSON', '{"Devices":"none","blockdevices":{"name":"nvme0n1"}}'],
    ['a list', '[1,null,{"Subsystems":[null,{"Paths":null}]}]'],
    ['a uname that is cut', 'Linux box 6.12.3'],
    ['a letter', 'Dear all,\nLinux version 6 is nice.\n'],
  ] as const) {
    const sent = await read(text, content);
    t.match(sent.evidence?.notKnown, [{ what: "what 'the bytes given' says", why: /not recognised/ }], name);
    await sent.close();
  }
  const cut = await describeMachine(
    [text, beside.cpuinfo(machine).slice(0, 40)].map((one) => Buffer.from(one)),
  );
  t.match(cut.evidence?.notKnown, [
    { what: /of the processor/, why: 'it is cut' },
    { what: 'the processor' },
  ]);
  t.equal(cut.topology.cpu.known, false);
  await t.rejects(describeMachine(Buffer.from(beside.nvmeListNested(machine))), {
    code: 'ERR_INVALID_ARG_VALUE',
  });
  await Promise.all([machine.close(), cut.close()]);
});
