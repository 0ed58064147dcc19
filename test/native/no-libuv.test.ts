/**
 * Where the runtime has no libuv the engine is woken through a threadsafe function, and JavaScript says when a turn of
 * the event loop ends. What holds with libuv holds there too.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { asan, skipNative } from '../helpers/native.js';

t.setTimeout(asan ? 600_000 : 240_000);

for (const name of ['engine', 'lifecycle', 'memory']) {
  t.test(`${name}.test passes without libuv`, { skip: skipNative }, async (t) => {
    const file = fileURLToPath(new URL(`${name}.test.js`, import.meta.url));
    const { status, stdout } = spawnSync(process.execPath, ['--enable-source-maps', file], {
      env: { ...process.env, P2PDMA_NO_LIBUV: '1' },
      encoding: 'utf8',
    });
    const failed = stdout.split('\n').filter((line) => /^\s*not ok/.test(line));
    t.strictSame(failed, []);
    t.equal(status, 0);
    t.match(stdout, /^ok \d+ /m, 'and it ran');
  });
}
