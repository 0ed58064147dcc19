/** What belongs to a copy of a file does not outlive the collections of the young objects: nothing old refers to it. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loopDevice, skipLoop, skipNative } from '../helpers/native.js';

const COUNT = 600;
/** Each way left 6 to 14 KB behind when something old referred to it, and leaves 1 KB. */
const MOST = 4096;
/** Drives are looked at anew for each copy: 19 KB where they are emulated, 40 KB where not, and now 3 and 6 KB. */
const MOST_OF_DRIVES = 12 * 1024;

/** Since 24, Node keeps each Writable (findings/node24-writable-kept.sh), and with it what belongs to it. */
const nodeKeepsWritables = Number(process.versions.node.split('.')[0]) >= 24;

const PIPE = `finished(system.createReadStream(from).pipe(system.createWriteStream(to, { flush: false })))`;

const WAYS = {
  ...(nodeKeepsWritables ? {} : { pipe: PIPE }),
  pipeline: `system.pipeline(from, to, { flush: false })`,
  read: `(async () => { for await (const _ of system.createReadStream(from)); })()`,
};

/** How many bytes of each copy became old. */
function becameOld(place: object, way: string, ends: readonly [from: string, to: string]): number {
  const lib = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href);
  const script = `
    import { finished } from 'node:stream/promises';
    import { getHeapSpaceStatistics } from 'node:v8';
    import { openSystem } from ${lib};
    const [, from, to] = process.argv;
    const system = await openSystem(${JSON.stringify(place)});
    const copies = async () => { for (let i = 0; i < ${COUNT}; i++) await ${way}; };
    const old = () => {
      for (let i = 0; i < 3; i++) gc({ type: 'minor' });
      return getHeapSpaceStatistics()
        .filter(({ space_name }) => /^(old|map|large_object|code|trusted)/.test(space_name))
        .reduce((sum, { space_used_size }) => sum + space_used_size, 0);
    };
    await copies();
    await copies();
    gc();
    const before = old();
    await copies();
    console.log(Math.round((old() - before) / ${COUNT}));
    await system.close();
  `;
  // A full collection in between would hide what is looked for.
  const flags = ['--expose-gc', '--no-incremental-marking', '--input-type=module'];
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', script, ...ends], {
    encoding: 'utf8',
  });
  if (stdout === '') throw new Error(stderr);
  return Number(stdout);
}

t.test('the objects of small copies are collected young', { skip: skipNative }, async (t) => {
  const folder = t.testdir({});
  const ends = [join(folder, 'from'), join(folder, 'to')] as const;
  for (const path of ends) writeFileSync(path, Buffer.alloc(65536, 7));
  for (const [name, way] of Object.entries(WAYS)) {
    const bytes = becameOld({ backend: 'native' }, way, ends);
    t.ok(bytes < MOST, `${name}: ${bytes} bytes of each copy became old`);
    t.comment(`${name}: ${bytes} bytes`);
  }
});

const RANGE = `system.pipeline(from, to, { flush: false, end: 65535 })`;
const skip = nodeKeepsWritables && 'this Node keeps each Writable';

t.test('and those of copies between emulated drives', { skip }, async (t) => {
  const bytes = becameOld({ machine: 'switch' }, RANGE, ['nvme0n1', 'nvme1n1']);
  t.ok(bytes < MOST_OF_DRIVES, `${bytes} bytes of each copy became old`);
  t.comment(`${bytes} bytes`);
});

t.test('and those of copies between block devices', { skip: skipLoop || skip }, async (t) => {
  const [from, to] = [loopDevice(t, 1 << 20), loopDevice(t, 1 << 20)];
  const bytes = becameOld({ backend: 'native' }, RANGE, [from, to]);
  t.ok(bytes < MOST_OF_DRIVES, `${bytes} bytes of each copy became old`);
  t.comment(`${bytes} bytes`);
});
