/** A small file costs no change of threads, and a large one does not hold up the JavaScript thread. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { child, skipNative } from '../helpers/native.js';

const script = `
  const backend = await openNative();
  const [path, bytes] = argv;
  const size = Number(bytes);
  const target = await backend.openTarget(path, { write: true });
  const view = backend.memory.allocBuffer(size).fill(9);
  await target.truncate(0);
  const wrote = (await io(target, 'write', 0, view)).result;
  view.fill(0);
  const got = (await io(target, 'read', 0, view)).result;
  const same = view.every((byte) => byte === 9);
  await target.close();
  await target.close();
  const { threads, fds } = nativeCounters();
  await backend.close();
  console.log(JSON.stringify({ wrote, got, same, threads, fds, watched: nativeCounters().watched }));
`;

t.test('truncated, written, read and closed', { skip: skipNative }, async (t) => {
  const folder = t.testdir({});
  for (const [size, threads] of [
    [64 * 1024, false],
    [1024 * 1024, true],
  ] as const) {
    const path = join(folder, `${size}`);
    writeFileSync(path, Buffer.alloc(size, 1));
    const { stdout, stderr } = child(script, [path, `${size}`]);
    t.equal(stderr, '');
    const { threads: used, ...facts } = JSON.parse(stdout);
    t.same(facts, { wrote: size, got: size, same: true, fds: 0, watched: 0 });
    t.equal(used > 0, threads, `${size} bytes: ${used} threads`);
    t.equal(statSync(path).size, size);
    t.ok(readFileSync(path).every((byte) => byte === 9));
  }
});
