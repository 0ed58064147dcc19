/** Every runtime of versions.json opens, copies, verifies, destroys and closes; none is ended by the addon; the command copies on it. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { main } from '../helpers/cli.js';
import { skipNative } from '../helpers/native.js';
import { fetched, names } from '../helpers/runtimes.js';

t.setTimeout(240_000);

const smoke = fileURLToPath(new URL('smoke.js', import.meta.url));
const NO_LEAKS = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };
const EXPECTED = {
  native: { verified: true, bytes: true, equal: true, cut: true, leaks: NO_LEAKS },
  emulated: { verified: true, transport: 'p2p-bus', cut: true, leaks: NO_LEAKS },
};

for (const name of names) {
  const { binary, skip } = fetched(name);
  t.test(name, { skip: skipNative || skip }, async (t) => {
    const run = (script: string, ...args: string[]): string => {
      const start = name === 'deno' ? ['run', '-A', script] : [script];
      const { status, signal, stdout, stderr } = spawnSync(binary, [...start, ...args], {
        ...{ encoding: 'utf8', timeout: 120_000 },
      });
      t.equal(signal, null, stderr);
      t.equal(status, 0, stderr);
      return stdout;
    };
    t.strictSame(JSON.parse(run(smoke) || 'null'), EXPECTED);

    const [from, to] = [join(t.testdir(), 'from'), join(t.testdirName, 'to')];
    writeFileSync(from, randomBytes(100_001));
    t.match(run(main, 'copy', from, to, '--verify'), /^verified +identical/m, 'the command copies');
    t.ok(readFileSync(to).equals(readFileSync(from)));
    const emulated = run(
      main,
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--machine',
      'switch',
      '--bytes',
      '1MiB',
      '--json',
    );
    t.match(JSON.parse(emulated.trimEnd().split('\n').at(-1)!), { bytes: 1048576, transport: 'p2p-bus' });
  });
}
