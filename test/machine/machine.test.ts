import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { P2pdmaError } from '../../lib/base/errors.js';
import {
  MACHINE_TEXT_LIMIT,
  type MachineInput,
  machineJsonSchema,
  parseMachine,
  parseMachineText,
} from '../../lib/machine/machine.js';
import { PRESET_NAMES } from '../../lib/machine/preset-names.js';
import { presets } from '../../lib/machine/presets.js';
import { fc } from '../helpers/random.js';

type Fn = MachineInput['functions'][number];

const port = (bdf: string, more: Partial<Fn> = {}): Fn => ({
  bdf,
  type: 'root-port',
  vendor: 1,
  device: 1,
  ...more,
});
const drive = (bdf: string, upstream: string | null, more: Partial<Fn> = {}): Fn => ({
  bdf,
  type: 'endpoint',
  upstream,
  vendor: 1,
  device: 2,
  nvme: { cmb: { size: '2MiB' }, namespaces: [{ nsid: 1, size: '1MiB' }] },
  ...more,
});
const machine = (functions: Fn[], more: Partial<MachineInput> = {}): MachineInput => ({
  version: 1,
  name: 'test',
  hostBridges: [{ bus: 0 }],
  functions,
  ...more,
});
const good = () =>
  machine([port('00:01.0'), drive('01:00.0', '00:01.0'), drive('02:00.0', '00:02.0'), port('00:02.0')]);

function refusal(json: unknown): P2pdmaError {
  try {
    parseMachine(json);
  } catch (error) {
    if (error instanceof P2pdmaError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

t.test('every preset parses, is described, and parses again to itself', async (t) => {
  for (const name of PRESET_NAMES) {
    const preset = presets[name];
    t.equal(preset.name, name);
    t.match(preset.description, /\.$/);
    t.equal(presets[name], preset, 'parsed once');
    t.strictSame(parseMachine(preset), preset, `${name} is its own normal form`);
    t.strictSame(parseMachineText(JSON.stringify(preset)), preset);
  }
});

t.test('fills in names, addresses, classes and BARs', async (t) => {
  const m = parseMachine(good());
  t.strictSame(
    m.functions.map((f) => f.bdf),
    ['0000:00:01.0', '0000:00:02.0', '0000:01:00.0', '0000:02:00.0'],
  );
  t.strictSame(
    m.functions.map((f) => f.class),
    [0x060400, 0x060400, 0x010802, 0x010802],
  );
  const [, , a, b] = m.functions;
  t.equal(a?.nvme?.name, 'nvme0');
  t.equal(b?.nvme?.name, 'nvme1');
  t.equal(a?.nvme?.cmb?.size, 0x200000);
  t.strictSame(
    a?.bars.map((bar) => [bar.index, bar.size]),
    [
      [0, 0x4000],
      [2, 0x200000],
    ],
  );
  for (const f of m.functions) for (const bar of f.bars) t.equal(bar.address % bar.size, 0);
});

t.test('names that are given are kept, and not given twice', async (t) => {
  const nvme = (name?: string) => ({ nvme: { ...(name === undefined ? {} : { name }) } });
  const m = parseMachine(
    machine([
      drive('00:02.0', null, nvme()),
      drive('00:03.0', null, nvme('nvme0')),
      drive('00:04.0', null, nvme()),
    ]),
  );
  t.strictSame(
    m.functions.map((f) => f.nvme?.name),
    ['nvme1', 'nvme0', 'nvme2'],
  );
});

t.test('numbers may be written as JSON numbers, hex strings and sizes', async (t) => {
  const m = parseMachine(
    machine([
      drive('00:02.0', null, {
        vendor: '0x8086',
        acs: '0x1d',
        nvme: { cmb: { size: '0x200000' }, namespaces: [{ nsid: '1', size: '1 GiB' }] },
        bars: [{ index: 2, size: '4 MiB', address: '0x2000000000' }],
      }),
    ]),
  );
  const [f] = m.functions;
  t.equal(f?.vendor, 0x8086);
  t.equal(f?.acs, 0x1d);
  t.equal(f?.nvme?.cmb?.size, 0x200000);
  t.equal(f?.nvme?.namespaces[0]?.size, 2 ** 30);
  t.equal(f?.bars[1]?.address, 0x2000000000);
  t.equal(f?.bars[1]?.size, 0x400000);
});

t.test('a machine captured without privileges is accepted', async (t) => {
  const m = parseMachine(
    machine(
      [
        port('00:01.0', { type: 'unknown', class: 0x060400, acs: 'unknown' }),
        {
          bdf: '01:00.0',
          type: 'unknown',
          upstream: '00:01.0',
          vendor: 1,
          device: 3,
          acs: 'unknown',
          bars: [{ index: 4, size: '64MiB', address: '0x384000000000', prefetchable: true }],
          p2pmem: { size: '32MiB', published: false },
        },
      ],
      { iommu: 'unknown' },
    ),
  );
  t.strictSame(m.functions[1]?.p2pmem, { size: 2 ** 25, available: 2 ** 25, published: false, bar: 4 });
  t.equal(m.functions[1]?.nvme, null);
});

t.test('the p2pmem of a drive: beside its CMB as described, otherwise the CMB itself', async (t) => {
  const p2pmemOf = (size: number, cmb: { size: string } | null) => {
    const bars = [{ index: 2, size: '16MiB', prefetchable: true }];
    const p2pmem = { size, available: size / 2, published: true };
    return parseMachine(machine([drive('00:02.0', null, { bars, nvme: { cmb }, p2pmem } as Partial<Fn>)]))
      .functions[0]!;
  };
  const registered = p2pmemOf(2 ** 22, { size: '16MiB' });
  t.match(registered, { nvme: { cmb: { size: 2 ** 24, lists: true } }, p2pmem: { size: 2 ** 22, bar: 2 } });
  t.match(p2pmemOf(0, { size: '16MiB' }), { nvme: { cmb: { size: 2 ** 24 } }, p2pmem: { size: 0 } });
  t.strictSame(p2pmemOf(2 ** 22, null).nvme!.cmb, {
    size: 2 ** 22,
    bar: 2,
    offset: 0,
    sqs: true,
    cqs: false,
    lists: false,
    rds: true,
    wds: true,
  });
  t.equal(p2pmemOf(0, null).nvme!.cmb, null);
  t.match(p2pmemOf(2 ** 25, null), { nvme: { cmb: null }, p2pmem: { bar: null } }, 'no BAR has room');
});

/** A row: what is wrong, the machine that has it, where it is said to be, and the words. */
type Row = [string, (m: MachineInput) => unknown, string, RegExp];

type Namespace = NonNullable<NonNullable<Fn['nvme']>['namespaces']>[number];

const EMPTY = { size: 0, extendedLba: {} };
const ZONED = { zoned: { zoneSize: '64KiB' } };
const PART = { number: 1, start: 4096, size: 4096 };

t.test('what is wrong is said: where, what, what to do', async (t) => {
  const rows: Row[] = [
    ['no object', () => 7, 'the machine description', /must be an object/],
    ['no functions', (m) => ({ ...m, functions: undefined }), 'functions', /missing/],
    ['version', (m) => ({ ...m, version: 2 }), 'version', /must be 1/],
    ['unknown key', (m) => ({ ...m, iomu: 'none' }), 'the machine description', /unknown key 'iomu'/],
    [
      'unknown key inside',
      (m) => machine([{ ...m.functions[0]!, colour: 'red' } as Fn]),
      'functions[0]',
      /unknown key 'colour'/,
    ],
    [
      'size',
      () => machine([drive('00:02.0', null, { nvme: { cmb: { size: 'big' } } })]),
      'functions[0].nvme.cmb.size',
      /16MiB/,
    ],
    ['BDF', () => machine([port('0:1')]), 'functions[0].bdf', /PCI address/],
    ['same BDF', () => machine([port('00:01.0'), port('0000:00:01.0')]), 'functions[1].bdf', /twice/],
    [
      'unknown upstream',
      () => machine([drive('01:00.0', '00:01.0')]),
      'functions[0].upstream',
      /no function 0000:00:01.0/,
    ],
    [
      'cycle',
      () =>
        machine([
          port('01:00.0', { type: 'upstream-port', upstream: '02:00.0' }),
          port('02:00.0', { type: 'downstream-port', upstream: '01:00.0' }),
        ]),
      'functions[0].upstream',
      /above itself/,
    ],
    [
      'upstream is no bridge',
      () => machine([drive('00:01.0', null), drive('01:00.0', '00:01.0')]),
      'functions[1].upstream',
      /not a bridge \(endpoint\)/,
    ],
    [
      'downstream port below a root port',
      () => machine([port('00:01.0'), port('01:00.0', { type: 'downstream-port', upstream: '00:01.0' })]),
      'functions[1].upstream',
      /below an upstream port/,
    ],
    [
      'no root bus',
      () => machine([drive('05:00.0', null)]),
      'functions[0].upstream',
      /bus 0000:05 is not a root bus/,
    ],
    [
      'one bus below two bridges',
      () =>
        machine([port('00:01.0'), port('00:02.0'), drive('01:00.0', '00:01.0'), drive('01:01.0', '00:02.0')]),
      'functions[3].upstream',
      /bus 0000:01 is below 0000:00:01.0/,
    ],
    [
      'two host bridges on one bus',
      (m) => ({ ...m, hostBridges: [{ bus: 0 }, { bus: 0 }] }),
      'hostBridges[1]',
      /has a host bridge already/,
    ],
    [
      'two names',
      () =>
        machine([
          drive('00:02.0', null, { nvme: { name: 'nvme0' } }),
          drive('00:03.0', null, { nvme: { name: 'nvme0' } }),
        ]),
      'functions[1].nvme.name',
      /both 'nvme0'/,
    ],
    [
      'BAR twice',
      () =>
        machine([
          drive('00:02.0', null, {
            bars: [
              { index: 4, size: 4096 },
              { index: 4, size: 4096 },
            ],
          }),
        ]),
      'functions[0].bars[1].index',
      /BAR 4 twice/,
    ],
    [
      'overlapping BARs',
      () =>
        machine([
          drive('00:02.0', null, { bars: [{ index: 4, size: '2MiB', address: '0x40000000' }] }),
          drive('00:03.0', null, { bars: [{ index: 4, size: '1MiB', address: '0x40100000' }] }),
        ]),
      'functions[1].bars (BAR 4)',
      /overlaps BAR 4 of 0000:00:02.0/,
    ],
    [
      'two bridges, one MiB',
      () =>
        machine([
          port('00:01.0'),
          port('00:02.0'),
          drive('01:00.0', '00:01.0', { bars: [{ index: 4, size: 4096, address: '0x40000000' }] }),
          drive('02:00.0', '00:02.0', { bars: [{ index: 4, size: 4096, address: '0x40001000' }] }),
        ]),
      'functions[3].bars (BAR 4)',
      /share the MiB at 0x40000000/,
    ],
    [
      'BAR not aligned',
      () => machine([drive('00:02.0', null, { bars: [{ index: 4, size: 8192, address: '0x40001000' }] })]),
      'functions[0].bars (BAR 4)',
      /not a multiple of its size/,
    ],
    [
      'bus address below zero',
      (m) => ({ ...m, hostBridges: [{ bus: 0, busOffset: -(2 ** 50) }] }),
      'functions[1].bars (BAR 0)',
      /52-bit/,
    ],
    [
      'CMB outside its BAR',
      () => machine([drive('00:02.0', null, { bars: [{ index: 2, size: '1MiB' }] })]),
      'functions[0].nvme.cmb',
      /not inside BAR 2/,
    ],
    [
      'CMB over the registers',
      () => machine([drive('00:02.0', null, { nvme: { cmb: { size: 4096, bar: 0 } } })]),
      'functions[0].nvme.cmb.offset',
      /registers/,
    ],
    [
      'half a block',
      () => machine([drive('00:02.0', null, { nvme: { namespaces: [{ nsid: 1, size: 1000 }] } })]),
      'functions[0].nvme.namespaces[0].size',
      /not a multiple of the block size 512/,
    ],
    [
      'namespace twice',
      () =>
        machine([
          drive('00:02.0', null, {
            nvme: {
              namespaces: [
                { nsid: 1, size: 512 },
                { nsid: 1, size: 512 },
              ],
            },
          }),
        ]),
      'functions[0].nvme.namespaces[1].nsid',
      /namespace 1 twice/,
    ],
    [
      'file without a name',
      () =>
        machine([drive('00:02.0', null, { nvme: { namespaces: [{ nsid: 1, size: 512, store: 'file' }] } })]),
      'functions[0].nvme.namespaces[0]',
      /without a file/,
    ],
    ...(
      [
        ['size 0', { size: 0 }, 'size', /it is 0, and the namespace has no extendedLba/],
        [
          'a size with extendedLba',
          { extendedLba: {} },
          'size',
          /it is 1048576, but the kernel gives .* size 0/,
        ],
        ['metadata twice', { ...EMPTY, metadata: 8 }, 'metadata', /of size 0 cannot have it/],
        ['zones of nothing', { ...EMPTY, zoned: { zoneSize: 4096 } }, 'zoned', /of size 0 cannot have it/],
        ['a part of nothing', { ...EMPTY, partitions: [PART] }, 'partitions', /of size 0 cannot have it/],
        ['a file of nothing', { ...EMPTY, store: 'file', file: 'x' }, 'file', /of size 0 cannot have it/],
        [
          'zones of 3 MiB',
          { zoned: { zoneSize: '3MiB' } },
          'zoned.zoneSize',
          /3145728 is not a power of two/,
        ],
        [
          'a zone of half a block',
          { blockSize: 4096, zoned: { zoneSize: 2048 } },
          'zoned.zoneSize',
          /that holds a block of 4096 bytes/,
        ],
        [
          'zones in a file',
          { store: 'file', file: 'x', ...ZONED },
          'zoned',
          /a file keeps no write pointers/,
        ],
        ['a part of zones', { ...ZONED, partitions: [PART] }, 'partitions', /the namespace is zoned/],
      ] satisfies [string, Partial<Namespace>, string, RegExp][]
    ).map(
      ([name, change, key, what]): Row => [
        name,
        () =>
          machine([drive('00:02.0', null, { nvme: { namespaces: [{ nsid: 1, size: '1MiB', ...change }] } })]),
        `functions[0].nvme.namespaces[0].${key}`,
        what,
      ],
    ),
    [
      'mdts',
      () => machine([drive('00:02.0', null, { nvme: { mdts: 12288 } })]),
      'functions[0].nvme.mdts',
      /power of two/,
    ],
    [
      'fault kind',
      (m) => ({ ...m, faults: [{ kind: 'gremlin' }] }),
      'faults[0].kind',
      /unknown kind of fault/,
    ],
    [
      'fault of no controller',
      (m) => ({ ...m, faults: [{ kind: 'remove', controller: 'nvme7', afterBytes: 0 }] }),
      'faults[0].controller',
      /no controller 'nvme7'/,
    ],
    [
      'fault of no namespace',
      (m) => ({ ...m, faults: [{ kind: 'media-error', namespace: 'nvme0n2', lba: 0 }] }),
      'faults[0].namespace',
      /no namespace 'nvme0n2'/,
    ],
    [
      'fault of no function',
      (m) => ({ ...m, faults: [{ kind: 'drop-peer-writes', function: '09:00.0' }] }),
      'faults[0].function',
      /no function '0000:09:00.0'/,
    ],
  ];
  for (const [name, mend, where, what] of rows) {
    const error = refusal(mend(good()));
    t.equal(error.code, 'ERR_MACHINE_INVALID', name);
    t.equal(error.path, where, name);
    t.ok(error.message.startsWith(`${where}: `), name);
    t.match(error.message, what, name);
    t.ok(error.hint.length > 5, name);
  }
});

t.test('a fault may name its controller by BDF', async (t) => {
  const m = parseMachine({
    ...good(),
    faults: [{ kind: 'remove', controller: '0000:01:00.0', afterBytes: '1MiB' }],
  });
  t.strictSame(m.faults, [{ kind: 'remove', controller: '0000:01:00.0', afterBytes: 0x100000 }]);
});

t.test('text that is no machine is refused before it costs anything', async (t) => {
  const quickly = (text: string, what: RegExp) => {
    const start = performance.now();
    t.throws(() => parseMachineText(text), { code: 'ERR_MACHINE_INVALID', message: what });
    t.ok(performance.now() - start < 1000);
  };
  quickly('x'.repeat(MACHINE_TEXT_LIMIT + 1), /characters/);
  quickly('['.repeat(MACHINE_TEXT_LIMIT), /nested/);
  quickly('{"a":'.repeat(100_000), /nested/);
  quickly('{"version": 1,', /not JSON/);
  quickly(`{"functions": [${'7,'.repeat(1_000_000)}7]}`, /1000001 entries/);
  t.doesNotThrow(() => parseMachineText(JSON.stringify({ ...good(), description: '[[[['.repeat(100) })));
});

t.test('whatever JSON comes, the answer is a machine or ERR_MACHINE_INVALID', async () => {
  fc.assert(
    fc.property(
      fc.jsonValue(),
      fc.constantFrom('functions', 'hostBridges', 'faults', 'cpu', 'latency'),
      (value, key) => {
        for (const json of [value, { ...good(), [key]: value }, { ...good(), [key]: [value] }]) {
          try {
            parseMachine(json);
          } catch (error) {
            if (!(error instanceof P2pdmaError) || error.code !== 'ERR_MACHINE_INVALID') throw error;
          }
        }
      },
    ),
  );
});

t.test('the published schema is the one that is checked', async (t) => {
  const file = new URL('../../../schema/machine.schema.json', import.meta.url);
  const schema = `${JSON.stringify(machineJsonSchema(), null, 2)}\n`;
  if (process.env.UPDATE_SCHEMA === '1') writeFileSync(file, schema);
  t.equal(readFileSync(file, 'utf8'), schema, 'run this test with UPDATE_SCHEMA=1 to renew it');
});
