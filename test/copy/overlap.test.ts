/**
 * Source and destination lie on the same bytes, whatever they are named or opened by: the copy is refused before it has changed
 * one. Two separate parts of one file can be copied, as far as it is known where they are.
 */
import { createReadStream, createWriteStream, readFileSync, type WriteStream, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import t, { type Test } from 'tap';
import {
  openSystem,
  type P2pFileHandle,
  type PipelineDestination,
  type PipelineOptions,
  type PipelineSource,
  planCopy,
  type System,
} from '../../lib/index.js';
import { NOTHING_LEFT } from '../helpers/copies.js';
import { skipNative } from '../helpers/native.js';

const MIB = 1024 * 1024;
const content = Buffer.alloc(MIB, 'p2pdma');

type Opened = FileHandle | P2pFileHandle;

interface Bench {
  readonly system: System;
  readonly path: string;
  /** Handles, closed when the test ends. */
  readonly handles: Opened[];
}

type Make<T> = (bench: Bench) => T | Promise<T>;

const kept = async <T extends Opened>({ handles }: Bench, opening: Promise<T>): Promise<T> => {
  const handle = await opening;
  handles.push(handle);
  return handle;
};

const SOURCES: Record<string, Make<PipelineSource>> = {
  'a path': ({ path }) => path,
  'a Target': ({ system, path }) => system.target(path),
  'a stream': ({ system, path }) => system.createReadStream(path),
  'a stream of node:fs': ({ path }) => createReadStream(path),
  'a FileHandle': (bench) => kept(bench, open(bench.path, 'r')),
  'a handle of system.open()': (bench) => kept(bench, bench.system.open(bench.path, 'r')),
};

const DESTINATIONS: Record<string, Make<PipelineDestination>> = {
  'a path': ({ path }) => path,
  'a Target': ({ system, path }) => system.target(path, { write: true }),
  'a stream that truncates it': ({ system, path }) => system.createWriteStream(path),
  'a stream that writes in it': ({ system, path }) => system.createWriteStream(path, { flags: 'r+' }),
  'a stream behind its end': ({ system, path }) =>
    system.createWriteStream(path, { flags: 'r+', start: 2 * MIB }),
  'a stream that appends to it': ({ system, path }) => system.createWriteStream(path, { flags: 'a' }),
  'a FileHandle': (bench) => kept(bench, open(bench.path, 'r+')),
  'a FileHandle that appends': (bench) => kept(bench, open(bench.path, 'a')),
  'a handle of system.open()': (bench) => kept(bench, bench.system.open(bench.path, 'r+')),
  'a handle that appends': (bench) => kept(bench, bench.system.open(bench.path, 'a')),
};

/** Run on each backend, with a file of its own; everything is given back at the end. */
function each(name: string, body: (t: Test, bench: Bench) => Promise<void>) {
  for (const backend of ['native', 'emulator'] as const) {
    t.test(`${name}, ${backend}`, { skip: backend === 'native' && skipNative }, async (t) => {
      const system = await openSystem(backend === 'native' ? { backend } : { machine: 'switch' });
      const handles: Opened[] = [];
      const path = join(t.testdir(), 'file');
      writeFileSync(path, content);
      await body(t, { system, path, handles });
      for (const handle of handles) await handle.close();
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
}

each('a file is not copied onto itself', async (t, one) => {
  for (const [from, source] of Object.entries(SOURCES)) {
    for (const [to, destination] of Object.entries(DESTINATIONS)) {
      // A source that must be awaited comes first: a stream that truncates the file does so soon after it was created.
      const [a, b] = [await source(one), await destination(one)];
      await t.rejects(one.system.pipeline(a, b), { code: 'ERR_OVERLAP' }, `${from} to ${to}`);
      t.ok(readFileSync(one.path).equals(content), `${from} to ${to}: it is as it was`);
    }
  }
});

each('separate parts of one file', async (t, one) => {
  const { path, system } = one;
  const half = content.subarray(0, MIB / 2);
  const part = { end: MIB / 2 - 1 };
  const there = { ...part, destinationStart: MIB / 2, flags: 'r+' } as const;
  const within: [string, PipelineSource, PipelineDestination, PipelineOptions][] = [
    ['paths', path, path, there],
    ['a stream', system.createReadStream(path, part), path, { destinationStart: MIB / 2, flags: 'r+' }],
    ['a FileHandle', path, await kept(one, open(path, 'r+')), there],
    ['a handle of system.open()', path, await kept(one, system.open(path, 'r+')), there],
    ['a stream of node:fs', path, createWriteStream(path, { flags: 'r+', start: MIB / 2 }), part],
    ['appended', path, system.createWriteStream(path, { flags: 'a' }), part],
  ];
  for (const [name, source, destination, options] of within) {
    writeFileSync(path, content);
    t.equal((await system.pipeline(source, destination, options)).bytes, half.length, name);
    const behind = name === 'appended' ? content : half;
    t.ok(readFileSync(path).equals(Buffer.concat([behind, half])), `${name}: it is there`);
  }
});

each('a file is not read on where it is written', async (t, one) => {
  const { path, system } = one;
  const behind = { destinationStart: 2 * MIB, flags: 'r+' } as const;
  await t.rejects(system.pipeline(path, path, behind), {
    code: 'ERR_OVERLAP',
    message: /are both .*, and it would grow while it is read, without end/,
    hint: /Say with .*end/,
  });
  await t.rejects(system.pipeline(path, path, { ...behind, end: 3 * MIB }), { code: 'ERR_OVERLAP' });
  t.equal((await system.pipeline(path, path, { ...behind, end: MIB - 1 })).bytes, MIB);
  t.ok(readFileSync(path).equals(Buffer.concat([content, Buffer.alloc(MIB), content])));
});

each('what is refused says why', async (t, { path, system, handles }) => {
  const handle = await open(path, 'r+');
  const own = await system.open(path, 'r+');
  handles.push(handle, own);
  const refusals: [() => PipelineSource, () => PipelineDestination, RegExp][] = [
    [() => createReadStream(path), () => path, /are both .*, and it would be truncated before it is read/],
    [() => handle, () => path, /are one: .*, and it would be truncated before it is read/],
    [
      () => path,
      () => system.createWriteStream(path),
      /are one: .*, which the stream with the flags 'w' trunc/,
    ],
    [() => path, () => handle, /are one: .*, and where in it each of them is cannot be known/],
    [() => path, () => own, /are both .*, and bytes 0…1048575 overlap 0…1048575/],
    [() => own, () => own, /are both/],
    [() => handle, () => handle, /are both/],
  ];
  for (const [source, destination, message] of refusals) {
    await t.rejects(system.pipeline(source(), destination()), { code: 'ERR_OVERLAP', message });
  }
  t.ok(readFileSync(path).equals(content));
});

each(
  'one that truncates it and is open already, or is of node:fs, is refused too',
  async (t, { path, system }) => {
    const writer = system.createWriteStream(path);
    await new Promise((resolve) => writer.once('open', resolve));
    await t.rejects(system.pipeline(path, writer), { code: 'ERR_OVERLAP' });
    const theirs: WriteStream = createWriteStream(path);
    await t.rejects(system.pipeline(path, theirs), {
      code: 'ERR_OVERLAP',
      message: /truncates when it is opened/,
    });
  },
);

each('one file as two destinations', async (t, { path, system }) => {
  const writer = system.createWriteStream(`${path}-other`);
  const twice = { code: 'ERR_OVERLAP', message: /is named twice as a destination/ };
  await t.rejects(system.pipeline(path, [writer, writer]), twice);
  const through = new PassThrough();
  await t.rejects(system.pipeline(path, [through, through]), {
    code: 'ERR_OVERLAP',
    message: /^the PassThrough is named twice as a destination/,
  });
  const [a, b] = [system.createWriteStream(`${path}-other`), system.createWriteStream(`${path}-other`)];
  await t.rejects(system.pipeline(path, [a, b]), twice);
  await t.rejects(system.pipeline(path, [`${path}-other`, system.createWriteStream(`${path}-other`)]), twice);
  t.equal(
    (await system.pipeline(createReadStream(path), `${path}-other`)).bytes,
    MIB,
    'another file is none of it',
  );
});

t.test('what lies on the same bytes overlaps, by whatever name', async (t) => {
  const home = t.testdir({ source: content });
  const file = (name: string) => join(home, name);
  const machine = JSON.parse(
    readFileSync(new URL('../../../test/fixtures/machine-two-drives.json', import.meta.url), 'utf8'),
  );
  const drive = machine.functions.find((one: { nvme?: unknown }) => one.nvme);
  Object.assign(drive.nvme.namespaces[0], { store: 'file', file: file('behind.img') });
  // It is made by the first write, and there is none here.
  writeFileSync(file('behind.img'), Buffer.alloc(MIB, 'behind'));
  const system = await openSystem({ machine });
  const behind = readFileSync(file('behind.img'));
  const refused = async (from: string, to: string | string[], options = {}) => {
    await t.rejects(planCopy(from, to, { system, ...options }), { code: 'ERR_OVERLAP' }, `${from} ${to}`);
    await t.rejects(system.pipeline(from, to, options), { code: 'ERR_OVERLAP' });
  };
  await refused('nvme0n1', file('behind.img'));
  await refused(file('behind.img'), 'nvme0n1');
  await refused(file('source'), ['nvme0n1', file('behind.img')]);
  await refused(file('behind.img'), 'nvme1n1', { journal: file('behind.img') });
  t.ok(readFileSync(file('behind.img')).equals(behind));

  // As partitions and logical volumes would lie.
  const { backend } = system.context;
  const real = backend.inspect.bind(backend);
  const disk = (start: number, length: number, exact: boolean) => ({
    on: 'the disk',
    name: '/dev/disk',
    start,
    length,
    exact,
  });
  const lie = (a: ReturnType<typeof disk>, b: ReturnType<typeof disk>) => {
    backend.inspect = (path, as) => {
      const end = real(path, as);
      return { ...end, ranges: [...end.ranges, path === 'nvme0n1' ? a : b] };
    };
  };
  const whole = disk(0, Number.POSITIVE_INFINITY, true);
  const copies = async (options = {}) =>
    (await planCopy('nvme0n1', 'nvme1n1', { system, end: 4095, ...options })).bytes;
  lie(whole, disk(MIB, MIB, true));
  t.equal(await copies(), 4096, 'of the disk, before the partition');
  await refused('nvme0n1', 'nvme1n1', { start: MIB, end: MIB + 4095 });
  lie(disk(MIB, MIB, true), disk(2 * MIB, MIB, true));
  t.equal(await copies(), 4096, 'one partition to another');
  lie(disk(0, 2 * MIB, false), disk(0, 2 * MIB, false));
  t.equal(await copies(), 4096, 'one logical volume to another');
  lie(whole, disk(0, 2 * MIB, false));
  await refused('nvme0n1', 'nvme1n1', { end: 4095 });
  await system.close();
});
