/** What belongs to a copy of a file does not outlive the collections of the young objects: nothing old refers to it. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { skipNative } from '../helpers/native.js';

const COUNT = 600;
/** Each way left 6 to 14 KB behind when something old referred to it, and leaves about 1 KB. */
const MOST = 4096;

/** Since 24, Node keeps each Writable (findings/node24-writable-kept.sh), and with it what belongs to it. */
const nodeKeepsWritables = Number(process.versions.node.split('.')[0]) >= 24;

const PIPE = `finished(system.createReadStream(from).pipe(system.createWriteStream(to, { flush: false })))`;

const WAYS = {
  ...(nodeKeepsWritables ? {} : { pipe: PIPE }),
  pipeline: `system.pipeline(from, to, { flush: false })`,
  read: `(async () => { for await (const _ of system.createReadStream(from)); })()`,
};

t.test('the objects of small copies are collected young', { skip: skipNative }, async (t) => {
  const folder = t.testdir({});
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  for (const path of [from, to]) writeFileSync(path, Buffer.alloc(65536, 7));
  const lib = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href);
  for (const [name, way] of Object.entries(WAYS)) {
    const script = `
      import { finished } from 'node:stream/promises';
      import { getHeapSpaceStatistics } from 'node:v8';
      import { openSystem } from ${lib};
      const [, from, to] = process.argv;
      const system = await openSystem({ backend: 'native' });
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
    const { stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', script, from, to], {
      encoding: 'utf8',
    });
    const bytes = Number(stdout);
    t.ok(stdout !== '' && bytes < MOST, `${name}: ${bytes} bytes of each copy became old ${stderr}`);
    t.comment(`${name}: ${bytes} bytes`);
  }
});
