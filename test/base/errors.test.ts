/** What an error carries besides its sentence, and that the sentence is this package's own. */
import { resolve } from 'node:path';
import t from 'tap';
import {
  describeOptions,
  diagnoseOptions,
  explainOptions,
  snapshotOptions,
  systemOptions,
} from '../../lib/backend/system-options.js';
import { demandOf } from '../../lib/base/demand.js';
import { errnoError, P2pdmaError } from '../../lib/base/errors.js';
import { libraryNames, said, speakWith } from '../../lib/base/sentence.js';
import * as z from '../../lib/base/zod.js';
import { createReadStream, diagnose, openSystem, planCopy } from '../../lib/index.js';
import { parseMachine } from '../../lib/machine/machine.js';
import { presets } from '../../lib/machine/presets.js';
import { machineSchema } from '../../lib/machine/schema.js';
import {
  copyOptions,
  parseOptions,
  readOptions,
  targetOptions,
  writeOptions,
} from '../../lib/streams/options.js';

function thrown(attempt: () => unknown): P2pdmaError {
  try {
    attempt();
  } catch (error) {
    if (error instanceof P2pdmaError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

t.test('facts: the option, what came, what it must be', async (t) => {
  const name = "it's highWaterMark.img";
  for (const [options, facts] of [
    [{ queueDepth: 0 }, { code: 'ERR_OUT_OF_RANGE', option: 'queueDepth', received: 0, demand: '1 or more' }],
    [{ queueDepth: 1025 }, { code: 'ERR_OUT_OF_RANGE', option: 'queueDepth', demand: '1024 or less' }],
    [{ start: Number.NaN }, { option: 'start', demand: 'a number' }],
    [{ start: 0.5 }, { code: 'ERR_OUT_OF_RANGE', option: 'start', demand: 'a whole number' }],
    [{ provider: '' }, { option: 'provider', demand: 'a string that is not empty' }],
    [{ sparse: 1 }, { code: 'ERR_INVALID_ARG_TYPE', option: 'sparse', received: 1, demand: 'true or false' }],
    [{ signal: 5 }, { code: 'ERR_INVALID_ARG_TYPE', option: 'signal', demand: 'an AbortSignal' }],
    [{ memory: 'hst' }, { option: 'memory', received: 'hst', demand: "one of 'auto', 'cmb', 'host'" }],
    [
      { start: 5, end: 4 },
      { code: 'ERR_OUT_OF_RANGE', option: 'start', received: 5 },
    ],
    [{ encoding: 'x' }, { option: 'encoding', received: 'x' }],
    [{ nope: 1 }, { option: 'nope' }],
  ] as const) {
    const error = thrown(() => createReadStream(name, options as never));
    t.match(error, facts, JSON.stringify(options));
    t.ok(Object.keys(facts).every((fact) => Object.hasOwn(error, fact)));
  }
  const system = await openSystem({ machine: 'switch' });
  t.teardown(() => system.close());
  await t.rejects(planCopy(name, 'nvme0n1', { system }), {
    code: 'ENOENT',
    path: resolve(name),
    message: `ENOENT: no such file or directory, open '${resolve(name)}'`,
  });
  await t.rejects(planCopy('nvme0n1', 'nvme1n1', { system, highWaterMark: 2 ** 26 }), {
    code: 'ERR_CHUNK_TOO_LARGE',
    option: 'highWaterMark',
    received: 2 ** 26,
  });
  const root = await diagnose({ root: 5 as never }).catch((error: unknown) => error);
  t.match(root, { option: 'root', received: 5, demand: 'a string' });
  const plan = await planCopy('nvme0n1', t.testdirName, { system, provider: 'none', requireP2p: true });
  const problem = plan.problems.find(({ code }) => code === 'ERR_P2P_REQUIRED')!;
  t.match(problem, { option: 'requireP2p', path: 'nvme0n1' });
  t.match(
    JSON.parse(JSON.stringify(plan)).problems,
    plan.problems.map(({ code, message, hint }) => ({ code, message, hint })),
  );
});

t.test('a sentence is said with whoever’s names; nobody reads it', async (t) => {
  const name = "it's highWaterMark.img";
  const error = new P2pdmaError('ERR_CHUNK_TOO_LARGE', (option) => `${option('highWaterMark')} of '${name}'`);
  t.equal(error.message, `highWaterMark of '${name}'`);
  t.match(error.hint, /^Make highWaterMark smaller/);
  speakWith((option) => `--${option.toLowerCase()}`);
  t.teardown(() => speakWith(libraryNames));
  t.same(P2pdmaError.told(error), {
    message: `--highwatermark of '${name}'`,
    hint: 'Make --highwatermark smaller than the CMB, or name another provider.',
  });
  speakWith(libraryNames);
  t.equal(
    said((option) => option('provider', 'none')),
    'provider: none',
  );
  t.equal(
    said('provider: none', () => 'x'),
    'provider: none',
  );
});

t.test('JSON has the facts, and not what was received, which JSON may have no words for', async (t) => {
  const error = thrown(() => createReadStream('x', { start: 5n as never }));
  t.same(error.received, 5n);
  t.match(JSON.parse(JSON.stringify(error)), {
    code: 'ERR_INVALID_ARG_TYPE',
    option: 'start',
    message: error.message,
  });
});

const WRONG = [
  undefined,
  null,
  -1,
  0,
  0.5,
  2 ** 60,
  Number.NaN,
  '',
  'x'.repeat(300),
  true,
  {},
  [],
  [null],
  5n,
  Symbol('s'),
];
const ZODS = /Invalid|Too (small|big)|expected|Unrecognized|another value|of the type/;

const TABLES = [
  ...[readOptions, writeOptions, copyOptions, targetOptions],
  ...[systemOptions, diagnoseOptions, describeOptions, explainOptions, snapshotOptions],
];

/** Every table and part of a table, with its name. */
function parts(name: string, type: z.core.$ZodType): [string, z.core.$ZodType][] {
  const below: [string, z.core.$ZodType][] =
    type instanceof z.core.$ZodObject
      ? Object.entries(type._zod.def.shape).map(([key, one]) => [`${name}.${key}`, one])
      : type instanceof z.core.$ZodArray
        ? [[name, type._zod.def.element]]
        : type instanceof z.core.$ZodPipe
          ? [[name, type._zod.def.in]]
          : type instanceof z.core.$ZodUnion
            ? type._zod.def.options.map((one) => [name, one])
            : 'innerType' in type._zod.def
              ? [[name, type._zod.def.innerType as z.core.$ZodType]]
              : [];
  return [[name, type], ...below.flatMap(([where, one]) => parts(where, one))];
}

t.test('every union says itself what it takes', async (t) => {
  const all = [...TABLES, machineSchema].flatMap((table) => parts('', table));
  const unions = all.filter(([, type]) => type instanceof z.core.$ZodUnion);
  t.ok(unions.length > 20, String(unions.length));
  const silent = unions.filter(([, type]) => type._zod.def.error === undefined);
  t.same(
    silent.map(([name]) => name),
    [],
  );
  t.same(
    parts('x', z.object({ a: z.optional(z.union([z.string(), z.number()])) })).filter(
      ([, type]) => type instanceof z.core.$ZodUnion && type._zod.def.error === undefined,
    ).length,
    1,
    'one that does not is seen',
  );
});

t.test('an option of several kinds: the error states all of them', async (t) => {
  const sent = 'a path, a URL, bytes, or several of them';
  const machine = "a preset's name, the path of a JSON file, or a description";
  const rate = 'a finite number of bytes per second, or a Pace';
  const end = 'a whole number of 0 or more, or Infinity';
  const rows = [
    [diagnoseOptions, 'from', [5, [5], null, {}], 'ERR_INVALID_ARG_TYPE', sent],
    [systemOptions, 'machine', [5, [], null], 'ERR_INVALID_ARG_TYPE', machine],
    [diagnoseOptions, 'machine', [5], 'ERR_INVALID_ARG_TYPE', machine],
    [copyOptions, 'bandwidth', ['x', {}, null], 'ERR_INVALID_ARG_TYPE', rate],
    [copyOptions, 'bandwidth', [Number.NaN, Number.POSITIVE_INFINITY], 'ERR_OUT_OF_RANGE', rate],
    [copyOptions, 'bandwidth', [0, -1], 'ERR_OUT_OF_RANGE', 'more than 0'],
    [readOptions, 'end', ['x', null], 'ERR_INVALID_ARG_TYPE', end],
    [readOptions, 'end', [0.5, Number.NEGATIVE_INFINITY], 'ERR_OUT_OF_RANGE', end],
    [readOptions, 'end', [-1], 'ERR_OUT_OF_RANGE', '0 or more'],
    [diagnoseOptions, 'from', [''], 'ERR_OUT_OF_RANGE', 'a string that is not empty'],
    [diagnoseOptions, 'from', [[]], 'ERR_OUT_OF_RANGE', 'an array of 1 or more'],
  ] as const;
  for (const [table, option, values, code, demand] of rows) {
    for (const received of values) {
      t.throws(() => parseOptions(table, { [option]: received }), { code, option, received, demand });
    }
  }
});

t.test('a number out of range: the error states the limit of its own row', async (t) => {
  for (const received of [1025, 2 ** 53, 1e300]) {
    const demand = '1024 or less';
    t.throws(() => parseOptions(readOptions, { queueDepth: received }), {
      ...{ code: 'ERR_OUT_OF_RANGE', option: 'queueDepth', received, demand },
    });
  }
  for (const received of [0, -1, -1e300]) {
    t.throws(() => parseOptions(readOptions, { queueDepth: received }), {
      ...{ code: 'ERR_OUT_OF_RANGE', received, demand: '1 or more' },
    });
  }
  const preset = presets.switch;
  const vendor = (value: unknown) => ({
    ...preset,
    functions: preset.functions.map((fn, i) => (i === 0 ? { ...fn, vendor: value } : fn)),
  });
  for (const value of [65536, 2 ** 53, 1e300, -1, -1e300]) {
    t.throws(() => parseMachine(vendor(value)), {
      message: /^functions\[0\]\.vendor: must be a whole number \(or a "0x…" string\) from 0 to 65535 \(/,
    });
  }
});

t.test('a machine description: one problem for one value of a wrong type', async (t) => {
  const preset = presets.switch;
  for (const key of ['hostBridges', 'functions']) {
    t.throws(() => parseMachine({ ...preset, [key]: '' }), {
      message: `${key}: must be an array (received "")`,
    });
  }
  t.throws(() => parseMachine({ ...preset, functions: '', name: '' }), {
    message:
      '2 problems: name: must be a string that is not empty (received ""); functions: must be an array (received "")',
  });
  t.throws(
    () => parseMachine({ ...preset, kernel: 'x'.repeat(201) }),
    { message: /^2 problems: kernel: must be a string of at most 200.*; kernel: must be a kernel release/ },
    'two faults of one value that both say something',
  );
});

t.test('no word of another library: options', async (t) => {
  for (const table of TABLES) {
    for (const option of Object.keys(table.shape)) {
      for (const value of WRONG) {
        let message = '';
        try {
          parseOptions(table, { [option]: value });
        } catch (error) {
          message = (error as Error).message;
        }
        t.notMatch(message, ZODS, `${option}: ${String(value)}`);
      }
    }
  }
});

t.test('no word of another library: machine descriptions', async (t) => {
  const machine = {
    version: 1,
    name: 'm',
    cpu: {},
    hostBridges: [{}],
    functions: [{}],
    faults: [{}],
    latency: {},
  };
  const inside: [string, (value: unknown) => object][] = [
    ...Object.keys(machineSchema.shape).map((key): [string, (value: unknown) => object] => [
      key,
      (value) => ({ ...machine, [key]: value }),
    ]),
    ...['bdf', 'type', 'vendor', 'class', 'acs', 'bars', 'nvme', 'p2pmem'].map(
      (key): [string, (value: unknown) => object] => [
        `functions ${key}`,
        (value) => ({ ...machine, functions: [{ [key]: value }] }),
      ],
    ),
    ...['name', 'serial', 'cmb', 'namespaces', 'queues'].map((key): [string, (value: unknown) => object] => [
      `nvme ${key}`,
      (value) => ({ ...machine, functions: [{ nvme: { [key]: value } }] }),
    ]),
  ];
  for (const [what, of] of inside) {
    for (const value of WRONG) {
      const result = machineSchema.safeParse(of(value), { reportInput: true, error: demandOf });
      const said = result.error?.issues.filter(({ code }) => code !== 'unrecognized_keys') ?? [];
      for (const { message } of said) t.notMatch(message, ZODS, `${what}: ${String(value)}`);
    }
  }
  const table = z.strictObject({
    list: z.array(z.int().check(z.multipleOf(4))).check(z.minLength(1), z.maxLength(2)),
    text: z.string().check(z.minLength(2), z.maxLength(3)),
  });
  const demands = (value: unknown) =>
    table.safeParse(value, { error: demandOf }).error?.issues.map(({ message }) => message);
  t.same(demands({ list: [], text: '' }), ['an array of 1 or more', 'a string of 2 characters or more']);
  t.same(demands({ list: [4, 4, 4], text: 'four' }), [
    'an array of at most 2',
    'a string of at most 3 characters',
  ]);
  t.same(demands({ list: [5], text: 'two' }), ['a multiple of 4']);
});

t.test(
  'what a drive could not store is not to be restored from a copy, also if its flush says so',
  async (t) => {
    for (const syscall of ['write', 'fsync']) {
      const { hint } = errnoError(-61, syscall, '/dev/nvme1n1');
      t.match(hint, /could not store these blocks/, syscall);
      t.notMatch(hint, /restor/i, syscall);
    }
    t.match(errnoError(-61, 'read', '/dev/nvme1n1').hint, /restore the block from a copy/);
  },
);
