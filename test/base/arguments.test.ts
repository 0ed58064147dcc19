/**
 * Every public function × what it does not take: an error in Node's code and class that names the function (or the option),
 * the argument and what came instead; and what node:fs says of options, ours says too.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { inspect, types } from 'node:util';
import client from 'prom-client';
import t from 'tap';
import * as p2p from '../../lib/index.js';
import { bytesOf } from '../helpers/copies.js';

const { openSystem, P2pdmaError } = p2p;
const system = await openSystem({ machine: 'switch' });
const target = await system.target('nvme0n1', { write: true });
const folder = t.testdir({ file: '0123456789' });
const file = join(folder, 'file');
t.teardown(() => system.close());

type Kind = 'TypeError' | 'RangeError';
type Row = readonly [call: string, run: () => unknown, code: p2p.ErrorCode, names: RegExp];

/** `values` each given to `run`, all wrong in the same way. */
function rows(
  call: string,
  names: RegExp,
  values: readonly unknown[],
  run: (value: never) => unknown,
  code: p2p.ErrorCode = 'ERR_INVALID_ARG_TYPE',
): Row[] {
  return values.map((value) => [`${call} ${shown(value)}`, () => run(value as never), code, names]);
}

function shown(value: unknown): string {
  return inspect(value, { depth: 0, breakLength: Number.POSITIVE_INFINITY });
}

const NO_STRINGS = [
  undefined,
  null,
  5,
  true,
  {},
  [],
  Symbol('x'),
  () => {},
  new Error('x'),
  new Set(['x\ny']),
];
const NO_PATHS = [...NO_STRINGS, Buffer.from('x')];
/** A function and a Buffer, which is a path, are ends of a copy. */
const NO_ENDS = [undefined, null, 5, true, {}, [], Symbol('x'), new ArrayBuffer(1)];
const NO_ARRAYS_OF_NAMES = [undefined, null, 5, 'nvme0n1', {}, [5], ['nvme0n1', null], new Set(['nvme0n1'])];
const NO_NUMBERS = [undefined, null, '5', true, {}, 5n];
const NO_WHOLE = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53];
const NO_OPTIONS = [5, true, Symbol('x'), 5n, () => {}];
const NO_MEMORY = [undefined, null, 5, 'text', {}, [1, 2], new ArrayBuffer(512), new Uint16Array(256)];
const BLOCK = Buffer.alloc(512);

const functions: Row[] = [
  ...rows('openSystem', /options/, [...NO_OPTIONS, 'switch'], (v) => openSystem(v)),
  ...rows('openSystem machine', /option machine/, [5, true, null], (v) => openSystem({ machine: v })),
  ...rows('openSystem root', /option root/, [5, true, null], (v) => openSystem({ root: v })),
  ...rows('diagnose', /options/, [...NO_OPTIONS, '/'], (v) => p2p.diagnose(v)),
  ...rows('diagnose root', /option root/, [5, null], (v) => p2p.diagnose({ root: v })),
  ...rows('diagnose machine', /option machine/, [5, null], (v) => p2p.diagnose({ machine: v })),
  ...rows('describeMachine', /describeMachine: input/, [5, null, undefined, {}, [5]], (v) =>
    p2p.describeMachine(v),
  ),
  ...rows('describeMachine options', /options/, NO_OPTIONS, (v) => p2p.describeMachine(Buffer.alloc(0), v)),
  ...rows('describeMachine cpu', /option cpu/, [5, null], (v) =>
    p2p.describeMachine(Buffer.alloc(0), { cpu: v }),
  ),
  ...rows('hostBridgeVerdict host', /hostBridgeVerdict: host/, [undefined, null, 'x', 5], (v) =>
    p2p.hostBridgeVerdict(v, system.topology.hostBridges[0]!),
  ),
  ...rows('hostBridgeVerdict bridge', /hostBridgeVerdict: bridge/, [undefined, null, 'x', 5], (v) =>
    p2p.hostBridgeVerdict(system.topology, v),
  ),
  ...rows('prometheusMetrics system', /prometheusMetrics: system/, [undefined, null, {}, 'x'], (v) =>
    p2p.prometheusMetrics(v, client),
  ),
  ...rows('prometheusMetrics client', /prometheusMetrics: client/, [undefined, null, {}, 'x'], (v) =>
    p2p.prometheusMetrics(system, v),
  ),
  ...rows('prometheusMetrics options', /options/, [5, 'x', true], (v) =>
    p2p.prometheusMetrics(system, client, v),
  ),
  ...rows('prometheusMetrics prefix', /option prefix/, [5, null], (v) =>
    p2p.prometheusMetrics(system, client, { prefix: v }),
  ),
  ...rows('Pace', /Pace: bytesPerSecond/, NO_NUMBERS, (v) => new p2p.Pace(v)),
  ...rows('Pace', /Pace: bytesPerSecond/, [0, -1, Number.NaN], (v) => new p2p.Pace(v), 'ERR_OUT_OF_RANGE'),
  ...Object.entries({ pipeline: p2p.pipeline, planCopy: p2p.planCopy }).flatMap(([name, call]) => {
    return [
      ...rows(`${name} source`, /source/, NO_ENDS, (v) => call(v, file, { system })),
      ...rows(`${name} destinations`, /destination/, [undefined, null, 5, {}, [5], [file, null]], (v) =>
        call('nvme0n1', v, { system }),
      ),
      ...rows(`${name} options`, /options/, [...NO_OPTIONS, 'utf8'], (v) => call('nvme0n1', file, v)),
      ...rows(`${name} system`, /option system/, [null, 5, 'switch', {}], (v) =>
        call('nvme0n1', file, { system: v }),
      ),
      ...rows(`${name} journal`, /option journal/, [null, 5, {}], (v) =>
        call('nvme0n1', file, { system, journal: v }),
      ),
      ...rows(
        `${name} journal`,
        /option journal/,
        ['', 'a\0b'],
        (v) => call('nvme0n1', file, { system, journal: v }),
        'ERR_INVALID_ARG_VALUE',
      ),
      ...rows(
        `${name} journal`,
        /option journal/,
        [new URL('https://example.org/')],
        (v) => call('nvme0n1', file, { system, journal: v }),
        'ERR_INVALID_URL_SCHEME',
      ),
    ];
  }),
  ...rows('System.pipeline source', /source/, NO_ENDS, (v) => system.pipeline(v, file)),
  ...rows('System.pipeline options', /options/, [...NO_OPTIONS, 'utf8'], (v) =>
    system.pipeline('nvme0n1', file, v),
  ),
  ...rows('System.open', /path/, NO_STRINGS, (v) => system.open(v)),
  ...rows('System.target', /path/, NO_PATHS, (v) => system.target(v)),
  ...rows('System.target options', /options/, [...NO_OPTIONS, 'r'], (v) => system.target('nvme0n1', v)),
  ...rows('System.target write', /option write/, ['yes', 1], (v) => system.target('nvme0n1', { write: v })),
  ...rows('System.route', /route: targets/, NO_ARRAYS_OF_NAMES, (v) => system.route(v)),
  ...rows('System.findProvider', /findProvider: targets/, [...NO_ARRAYS_OF_NAMES, ['nvme0n1']], (v) =>
    system.findProvider(v),
  ),
  ...rows('System.explain provider', /explain: provider/, NO_STRINGS, (v) => system.explain(v, ['nvme0'])),
  ...rows('System.explain clients', /explain: clients/, NO_ARRAYS_OF_NAMES, (v) =>
    system.explain('nvme0', v),
  ),
  ...rows('System.locate', /locate: nameOrPath/, NO_STRINGS, (v) => system.locate(v)),
  ...rows('System.allocate provider', /allocate: provider/, [undefined, 5, {}], (v) =>
    system.allocate(v, 4096),
  ),
  ...rows('System.allocate bytes', /allocate: bytes/, NO_NUMBERS, (v) => system.allocate(null, v)),
  ...rows(
    'System.allocate bytes',
    /allocate: bytes/,
    [0, ...NO_WHOLE],
    (v) => system.allocate(null, v),
    'ERR_OUT_OF_RANGE',
  ),
  ...rows('System.snapshot', /options/, [...NO_OPTIONS, 'x'], (v) => system.snapshot(v)),
  ...rows('System.snapshot name', /option name/, [5, null], (v) => system.snapshot({ name: v })),
  ...(['read', 'write'] as const).flatMap((op) => [
    ...rows(`Target.${op} view`, new RegExp(`${op}: view`), NO_MEMORY, (v) => target[op](v, 0)),
    ...rows(`Target.${op} position`, new RegExp(`${op}: position`), NO_NUMBERS, (v) => target[op](BLOCK, v)),
    ...rows(
      `Target.${op} position`,
      new RegExp(`${op}: position`),
      NO_WHOLE,
      (v) => target[op](BLOCK, v),
      'ERR_OUT_OF_RANGE',
    ),
  ]),
  ...(['readv', 'writev'] as const).flatMap((op) => [
    ...rows(`Target.${op} views`, new RegExp(`${op}: views`), [...NO_MEMORY, BLOCK, [BLOCK, null]], (v) =>
      target[op](v, 0),
    ),
    ...rows(`Target.${op} position`, new RegExp(`${op}: position`), NO_NUMBERS, (v) =>
      target[op]([BLOCK], v),
    ),
  ]),
  ...rows('Target.passthrough', /passthrough: command/, [undefined, null, 5, 'read'], (v) =>
    target.passthrough(v),
  ),
  ...rows('Target.passthrough opcode', /passthrough: opcode/, NO_NUMBERS, (v) =>
    target.passthrough({ opcode: v }),
  ),
  ...rows(
    'Target.passthrough opcode',
    /passthrough: opcode/,
    [...NO_WHOLE, 256],
    (v) => target.passthrough({ opcode: v }),
    'ERR_OUT_OF_RANGE',
  ),
  ...rows('Target.passthrough cdw10', /passthrough: cdw10/, [null, '5', {}], (v) =>
    target.passthrough({ opcode: 6, admin: true, cdw10: v }),
  ),
  ...rows('Target.passthrough data', /passthrough: view/, [null, 'text', 5], (v) =>
    target.passthrough({ opcode: 6, admin: true, data: v }),
  ),
  ...streamRows('createReadStream', p2p.createReadStream, [undefined, ...NO_STRINGS.slice(1)]),
  ...streamRows('createWriteStream', p2p.createWriteStream, NO_STRINGS),
  ...streamRows('System.createReadStream', system.createReadStream.bind(system), NO_STRINGS),
  ...streamRows('System.createWriteStream', system.createWriteStream.bind(system), NO_STRINGS),
  ...streamRows('Target.createReadStream', (_: unknown, o: never) => target.createReadStream(o), []),
  ...streamRows('Target.createWriteStream', (_: unknown, o: never) => target.createWriteStream(o), []),
];

function streamRows(
  name: string,
  call: (path: never, options: never) => unknown,
  noPaths: readonly unknown[],
): Row[] {
  return [
    ...rows(name, /path/, noPaths, (v) => call(v, {} as never)),
    ...rows(`${name} options`, /options/, NO_OPTIONS, (v) => call(file as never, v)),
    ...rows(
      `${name} encoding`,
      /option encoding/,
      ['nope', { encoding: 'nope' }, { encoding: 5 }],
      (v) => call(file as never, v),
      'ERR_INVALID_ARG_VALUE',
    ),
    ...rows(
      `${name} encoding`,
      /option encoding/,
      ['buffer', { encoding: 'buffer' }],
      (v) => call(file as never, v),
      'ERR_UNKNOWN_ENCODING',
    ),
  ];
}

const CLASSES: Partial<Record<p2p.ErrorCode, Kind>> = {
  ERR_INVALID_ARG_TYPE: 'TypeError',
  ERR_INVALID_ARG_VALUE: 'TypeError',
  ERR_INVALID_URL_SCHEME: 'TypeError',
  ERR_UNKNOWN_ENCODING: 'TypeError',
  ERR_OUT_OF_RANGE: 'RangeError',
};

for (const [name, run, code, names] of functions) {
  t.test(name, async (t) => {
    let error: unknown = 'nothing was thrown';
    try {
      await run();
    } catch (thrown) {
      error = thrown;
    }
    t.ok(error instanceof P2pdmaError, `a P2pdmaError (${String(error)})`);
    t.ok(error instanceof (CLASSES[code] === 'RangeError' ? RangeError : TypeError), `a ${CLASSES[code]}`);
    t.match(error, { code, message: names, name: CLASSES[code] });
    t.notMatch((error as Error).message, /\n/, 'in one line');
    t.ok((error as Error).stack?.startsWith(`${CLASSES[code]} [${code}]: ${(error as Error).message}`));
  });
}

t.test('every public function is in the table', async (t) => {
  const called = new Set(functions.map(([name]) => name.split(' ')[0]));
  const missing = (names: string[], skip: string[]) =>
    names.filter((name) => !called.has(name) && !skip.includes(name.split('.').at(-1)!));
  const methods = (name: string, { prototype }: { prototype: object }) =>
    Object.entries(Object.getOwnPropertyDescriptors(prototype))
      .filter(([, { value }]) => typeof value === 'function')
      .map(([method]) => `${name}.${method}`);
  const plain = Object.entries(p2p).filter(([, value]) => typeof value === 'function' && !isClass(value));
  t.strictSame(
    missing(
      plain.map(([name]) => name),
      // Of whatever was thrown it says null.
      ['receiptOf'],
    ),
    [],
  );
  // These take nothing.
  const none = [
    'constructor',
    'close',
    'trace',
    'metrics',
    'explainAll',
    'stacked',
    'disks',
    'flush',
    'shutdown',
    'meter',
  ];
  t.strictSame(missing(methods('System', p2p.System), none), []);
  t.strictSame(missing(methods('Target', p2p.Target), none), []);
});

function isClass(value: unknown): boolean {
  return String(value).startsWith('class ');
}

t.test('a stream lends nothing that is no chunk', async (t) => {
  const reader = system.createReadStream('nvme0n1', { memory: 'cmb', end: 8191 });
  for await (const chunk of reader) {
    for (const value of [undefined, null, 5, 'text', {}]) {
      t.throws(
        () => reader.release(value as never),
        { code: 'ERR_INVALID_ARG_TYPE', message: /release: chunk/ },
        shown(value),
      );
    }
    t.throws(() => reader.release(Buffer.alloc(512)), { code: 'ERR_NOT_LENT' });
    reader.release(chunk);
  }
});

t.test('errors about arguments are Node’s, and ours', async (t) => {
  const error = new P2pdmaError('ERR_OUT_OF_RANGE', 'too far', { hint: 'Nearer.', path: 'x' });
  t.ok(types.isNativeError(error));
  t.ok(error instanceof RangeError && error instanceof Error && error instanceof P2pdmaError);
  t.notOk((error as Error) instanceof TypeError);
  t.match(error, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', hint: 'Nearer.', path: 'x' });
  t.match(inspect(error), /^RangeError \[ERR_OUT_OF_RANGE\]: too far\n {4}at /);
  t.notOk(new RangeError('x') instanceof P2pdmaError, 'others’ are not ours');
  t.notOk(Object.assign(new TypeError('x'), { code: 'ERR_INVALID_ARG_TYPE' }) instanceof P2pdmaError);
  t.notOk((null as unknown) instanceof P2pdmaError);
  const other = new P2pdmaError('EIO', 'broken');
  t.ok(other instanceof P2pdmaError && !((other as Error) instanceof TypeError));
  t.equal(other.name, 'P2pdmaError');
});

t.test('an abort is an AbortError wherever it comes out', async (t) => {
  const reason = new Error('enough');
  const signal = AbortSignal.abort(reason);
  const expected = { name: 'AbortError', code: 'ABORT_ERR', cause: reason };
  await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', { signal, end: 8191 }), expected, 'pipeline');
  await t.rejects(
    system.pipeline('nvme0n1', join(folder, 'copy'), { signal, journal: join(folder, 'journal'), end: 8191 }),
    expected,
    'a copy with a journal',
  );
  await t.rejects(finished(system.createReadStream('nvme0n1', { signal }).resume()), expected, 'reader');
  await t.rejects(finished(system.createWriteStream('nvme1n1', { signal })), expected, 'writer');
  await t.rejects(finished(target.createReadStream({ signal }).resume()), expected, 'a target’s reader');
  await t.rejects(finished(target.createWriteStream({ signal })), expected, 'a target’s writer');
  const later = new AbortController();
  const copy = system.pipeline('nvme0n1', 'nvme1n1', {
    signal: later.signal,
    bandwidth: 1e6,
    highWaterMark: 65536,
  });
  setTimeout(() => later.abort(), 20);
  const error = await copy.catch((thrown: unknown) => thrown);
  t.match(error, { name: 'AbortError', code: 'ABORT_ERR' }, 'under way');
  t.equal((error as Error).cause, later.signal.reason);
});

// ---- Options as node:fs takes them.

for (const [name, lib] of [
  ['node:fs', fs],
  ['emulator', system],
] as const) {
  t.test(`${name}: options that an object inherits count`, async (t) => {
    const path = join(folder, `inherited-${name.replace(':', '-')}`);
    fs.writeFileSync(path, '0123456789');
    class Defaults {
      declare flags: 'r+';
    }
    Object.assign(Defaults.prototype, { flags: 'r+' });
    const writer = lib.createWriteStream(path, Object.assign(new Defaults(), { start: 4 }));
    writer.end('X');
    await finished(writer);
    t.equal(fs.readFileSync(path, 'latin1'), '0123X56789');
    const reader = lib.createReadStream(path, Object.create({ start: 2, end: 4 }));
    t.equal((await text(reader)).toString(), '23X');
  });

  t.test(`${name}: no options, and an encoding in their place`, async (t) => {
    const path = join(folder, `encoding-${name.replace(':', '-')}`);
    fs.writeFileSync(path, 'grün');
    for (const none of [null, undefined, {}, { encoding: null }, { encoding: undefined }] as const) {
      const reader = lib.createReadStream(path, none as object);
      t.ok(Buffer.isBuffer((await reader.toArray())[0]), `bytes with ${inspect(none)}`);
    }
    for (const utf8 of ['utf8', { encoding: 'utf8' }, Object.create({ encoding: 'utf8' })] as const) {
      const reader = lib.createReadStream(path, utf8);
      t.equal(reader.readableEncoding, 'utf8');
      t.strictSame(await reader.toArray(), ['grün'], `text with ${inspect(utf8)}`);
    }
    t.strictSame(await lib.createReadStream(path, 'hex').toArray(), ['6772c3bc6e']);
    for (const latin1 of ['latin1', { encoding: 'latin1' }] as const) {
      const writer = lib.createWriteStream(path, latin1);
      writer.write('ü');
      writer.end('ü', 'utf8');
      await finished(writer);
      t.equal(fs.readFileSync(path, 'hex'), 'fcc3bc', `a default encoding with ${inspect(latin1)}`);
    }
  });

  t.test(`${name}: what is no options`, async (t) => {
    for (const value of [5, true, Symbol('x'), 5n]) {
      for (const call of ['createReadStream', 'createWriteStream'] as const) {
        const expected = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
        t.throws(() => lib[call](file, value as never), expected, `${call} ${String(value)}`);
      }
    }
    for (const [value, code] of [
      ['nope', 'ERR_INVALID_ARG_VALUE'],
      [{ encoding: 5 }, 'ERR_INVALID_ARG_VALUE'],
      ['buffer', 'ERR_UNKNOWN_ENCODING'],
    ] as const) {
      t.throws(() => lib.createReadStream(file, value as never), { name: 'TypeError', code });
      t.throws(() => lib.createWriteStream(file, value as never), { name: 'TypeError', code });
    }
  });
}

t.test('a reader with an encoding hands text to a writer, as node:fs does', async (t) => {
  const bytes = bytesOf(100_000, 1);
  const [from, theirs, ours] = ['text-from', 'text-fs', 'text-p2p'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  fs.writeFileSync(from, bytes);
  await finished(fs.createReadStream(from, 'utf8').pipe(fs.createWriteStream(theirs)));
  await finished(system.createReadStream(from, 'utf8').pipe(system.createWriteStream(ours)));
  t.ok(fs.readFileSync(ours).equals(fs.readFileSync(theirs)));
});

async function text(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

t.test('importing it leaves no enumerable global behind', async (t) => {
  const index = new URL('../../lib/index.js', import.meta.url).href;
  const script = `
    const before = Object.keys(globalThis);
    const { openSystem } = await import('${index}');
    await (await openSystem({ machine: 'switch' })).close();
    console.log(JSON.stringify(Object.keys(globalThis).filter((name) => !before.includes(name))));
  `;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  t.equal(stderr, '');
  t.strictSame(JSON.parse(stdout), []);
});
