/** Archives and other programs' output, changed in ways that nobody thinks of: only our own errors, soon, and no more is known than before. */
import t from 'tap';
import { describeMachine, openSystem, P2pdmaError, type System } from '../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { entriesOf, type Packed, packed, tarOf } from '../helpers/archives.js';
import * as beside from '../helpers/beside.js';
import { hexDump } from '../helpers/lspci-dump.js';
import { fc } from '../helpers/random.js';
import { sureVerdict, verdictLines, verdictsByPair } from '../helpers/sent-verdicts.js';

const MOST_MS = 1000;
const RUNS = 100;
fc.configureGlobal({ seed: Number(process.env.FUZZ_SEED ?? 14) });
t.setTimeout(300_000);

/** Null: refused by an error of this package. */
async function open(sent: Buffer | readonly Buffer[], options: { kernel?: string; cpu?: string } = {}) {
  const from = process.cpuUsage();
  const system = await describeMachine(sent, options).catch((error: unknown) => {
    if (error instanceof P2pdmaError) return null;
    throw error;
  });
  const { user, system: inKernel } = process.cpuUsage(from);
  const ms = (user + inKernel) / 1000;
  if (ms > MOST_MS) throw new Error(`took ${Math.round(ms)} ms of CPU time`);
  return system;
}

const TOLD = { kernel: '6.12.30', cpu: 'intel:6' };

/** What is beside lspci never changes a verdict, and nothing about a drive is made up. */
async function assertBeside(
  lspci: Buffer,
  texts: readonly string[],
  verdicts: readonly string[],
): Promise<void> {
  const system = await open([lspci, ...texts.map((text) => Buffer.from(text))], TOLD);
  if (system === null) throw new Error('a machine that lspci describes was refused');
  const now = verdictLines(system);
  if (now.join('\n') !== verdicts.join('\n')) throw new Error(`other verdicts: ${now.join('\n')}`);
  const all = texts.join('\n');
  for (const { name, pdev, model, namespaces } of system.controllers) {
    if (pdev === null) throw new Error(`${name} has no function`);
    for (const made of [name === pdev.bdf ? '' : name, model ?? '']) {
      if (!all.includes(JSON.stringify(made).slice(1, -1))) throw new Error(`nobody told of '${made}'`);
    }
    for (const { name: disk, size } of namespaces) {
      if (!all.includes(disk) || !all.includes(`${size}`))
        throw new Error(`nobody told of ${disk}, ${size} bytes`);
    }
  }
  await system.close();
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** How many values there are in it, itself included. */
function count(json: Json): number {
  if (typeof json !== 'object' || json === null) return 1;
  return Object.values(json).reduce<number>((sum, one) => sum + count(one), 1);
}

/** With the value at this place, in the order of the text, put in place of what is there. */
function withValue(json: Json, at: number, value: Json): Json {
  if (at === 0) return value;
  if (typeof json !== 'object' || json === null) return json;
  let left = at - 1;
  const entries = Object.entries(json).map(([key, one]): [string, Json] => {
    const within = count(one);
    const changed = left >= 0 && left < within ? withValue(one, left, value) : one;
    left -= within;
    return [key, changed];
  });
  return Array.isArray(json) ? entries.map(([, one]) => one) : Object.fromEntries(entries);
}

const ODD = fc.oneof(
  fc.jsonValue() as fc.Arbitrary<Json>,
  fc.constantFrom<Json>(
    'nvme0',
    'nvme1n1',
    '/dev/nvme0n1',
    '0000:03:00.0',
    '0000:01:00.0',
    '../../x',
    'pcie',
    'tcp',
    2 ** 60,
    -512,
    '512',
  ),
);

t.test('values of JSON changed', async (t) => {
  const machine = await openSystem({ machine: 'acs' });
  const lspci = Buffer.from(hexDump(machine.topology));
  const verdicts = verdictLines(machine);
  const texts = [
    beside.nvmeListFlat(machine),
    beside.nvmeListNested(machine),
    beside.nvmeListSubsys(machine, '1.x'),
    beside.nvmeListSubsys(machine, '2.x'),
    beside.lsblk(machine, { exact: true }),
  ];
  for (const [changed, text] of texts.entries()) {
    const json = JSON.parse(text) as Json;
    const edits = fc.array(fc.tuple(fc.nat(count(json) - 1), ODD), { minLength: 1, maxLength: 6 });
    const property = fc.asyncProperty(edits, async (all) => {
      const odd = all.reduce<Json>((now, [at, value]) => withValue(now, at, value), json);
      await assertBeside(lspci, texts.with(changed, JSON.stringify(odd)), verdicts);
      await assertBeside(lspci, [JSON.stringify(odd)], verdicts);
    });
    await fc.assert(property, { numRuns: RUNS });
    t.pass(`text ${changed}`);
  }
  await machine.close();
});

t.test('texts cut, mixed and repeated', async (t) => {
  const machine = await openSystem({ machine: 'acs' });
  const lspci = Buffer.from(hexDump(machine.topology));
  const verdicts = verdictLines(machine);
  const texts = [
    beside.nvmeListNested(machine),
    beside.lsblk(machine, { exact: true }),
    beside.kernelLog(machine),
    beside.uname(machine),
  ];
  const all = texts.join('');
  const edits = fc.array(
    fc.tuple(
      fc.nat(all.length),
      fc.nat(200),
      fc.oneof(fc.string(), fc.constantFrom('\n', '[', '{', '"', '\0', '] kernel: ')),
    ),
    { minLength: 1, maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(edits, fc.nat(texts.length - 1), async (changes, which) => {
      let edited = texts[which]!;
      for (const [at, length, insert] of changes) {
        const from = at % (edited.length + 1);
        edited = edited.slice(0, from) + insert + edited.slice(from + length);
      }
      const system = await open([lspci, Buffer.from(edited)], TOLD);
      if (system === null) throw new Error('refused');
      if (verdictLines(system).join() !== verdicts.join()) throw new Error('other verdicts');
      await system.close();
    }),
    { numRuns: RUNS },
  );
  const pieces = [
    '[',
    '{"Devices":[',
    '[    1.000000] nvme nvme0: pci function 0000:03:00.0\n',
    ' kernel: ',
    'processor\t: 0\n',
    'Linux ',
    '"',
    ' ',
  ];
  for (const piece of pieces) {
    const system = await open([lspci, Buffer.from(piece.repeat(100_000))], TOLD);
    await system?.close();
    t.pass(JSON.stringify(piece));
  }
  await machine.close();
});

type Known = ReadonlyMap<string, string | null>;
const sure = (system: System): Known =>
  new Map(verdictsByPair(system).map(([pair, verdict]) => [pair, sureVerdict(verdict)]));

t.test('archives of which files are lost: nothing is known that was not known', async (t) => {
  const redirecting = twoDrivesBelowASwitch();
  for (const fn of redirecting.functions) if (fn.bdf === '0000:02:00.0') fn.acs = 0x1d;
  const entries = entriesOf(writeSysfsTree(t.testdir(), redirecting));
  const whole = await describeMachine(tarOf(entries));
  const known = sure(whole);
  const values = [...known.values()];
  t.ok(values.includes('NOT_SUPPORTED') && values.includes('BUS_ADDR'));
  const losing = async (kept: readonly Packed[]) => {
    const system = await open(tarOf(kept));
    if (system === null) return;
    for (const [pair, verdict] of sure(system)) {
      if (verdict !== null && known.get(pair) !== verdict)
        throw new Error(`${pair} is ${verdict}, of the whole ${known.get(pair)}`);
    }
    await system.close();
  };
  const files = fc.uniqueArray(fc.nat(entries.length - 1), { minLength: 1, maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(files, (lost) => losing(entries.filter((_, at) => !lost.includes(at)))),
    { numRuns: RUNS },
  );
  const folders = entries.filter(({ content }) => content === null).map(({ path }) => path);
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...folders), (folder) =>
      losing(entries.filter(({ path }) => path !== folder && !path.startsWith(`${folder}/`))),
    ),
    { numRuns: RUNS },
  );
  const name: fc.Arbitrary<string> = fc.constantFrom(
    'config',
    'class',
    'vendor',
    'device',
    'resource',
    'cpuinfo',
    'osrelease',
    'devices',
  );
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(name, { minLength: 1 }), (names) =>
      losing(entries.filter(({ path }) => !names.includes(path.split('/').at(-1)!))),
    ),
    { numRuns: 40 },
  );
  await whole.close();
  t.pass('all of them');
});

t.test('archives with bytes changed: refused, or the same machine', async (t) => {
  const entries = entriesOf(writeSysfsTree(t.testdir(), twoDrivesBelowASwitch()));
  const tar = tarOf(entries);
  const whole = await describeMachine(tar);
  const known = JSON.stringify([...sure(whole)]);
  for (const way of ['gz', 'bz2', 'xz', 'zst'] as const) {
    // Without a checksum zstd notices only what it cannot read.
    const bytes = packed(tar, way, way === 'zst' ? ['--check'] : []);
    if (bytes === null) continue;
    const edits = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 8,
    });
    const property = fc.asyncProperty(edits, async (all) => {
      const changed = Buffer.from(bytes);
      for (const [at, bits] of all) changed[at]! ^= bits;
      const system = await open(changed);
      if (system !== null && JSON.stringify([...sure(system)]) !== known) throw new Error('another machine');
      await system?.close();
    });
    await fc.assert(property, { numRuns: 50 });
    t.pass(way);
  }
  // tar has checksums of its headers only: what is in a file may change, and that is another machine.
  const edits = fc.array(fc.tuple(fc.nat(tar.length - 1), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 40,
  });
  await fc.assert(
    fc.asyncProperty(edits, async (all) => {
      const changed = Buffer.from(tar);
      for (const [at, bits] of all) changed[at]! ^= bits;
      const system = await open(changed);
      if (system !== null) verdictsByPair(system);
      await system?.close();
    }),
    { numRuns: 50 },
  );
  await whole.close();
});
