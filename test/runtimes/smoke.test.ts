/** Every runtime of versions.json opens, copies, verifies, destroys and closes; none is ended by the addon. */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { skipNative } from '../helpers/native.js';

t.setTimeout(240_000);

const { names, runtime } = createRequire(import.meta.url)('../../../scripts/runtimes.cjs') as {
  names: readonly string[];
  runtime(name: string): string;
};
const smoke = fileURLToPath(new URL('smoke.js', import.meta.url));
const NO_LEAKS = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };
const EXPECTED = {
  native: { verified: true, bytes: true, equal: true, cut: true, leaks: NO_LEAKS },
  emulated: { verified: true, transport: 'p2p-bus', cut: true, leaks: NO_LEAKS },
};

/** The binary, or why it cannot be had. */
function fetched(name: string): { binary: string } | { skip: string } {
  try {
    return { binary: runtime(name) };
  } catch (error) {
    return { skip: (error as Error).message };
  }
}

for (const name of names) {
  const has = fetched(name);
  t.test(name, { skip: skipNative || ('skip' in has ? has.skip : false) }, async (t) => {
    if (!('binary' in has)) return;
    const args = name === 'deno' ? ['run', '-A', smoke] : [smoke];
    const { status, signal, stdout, stderr } = spawnSync(has.binary, args, {
      encoding: 'utf8',
      timeout: 60_000,
    });
    t.equal(signal, null, stderr);
    t.equal(status, 0, stderr);
    t.strictSame(JSON.parse(stdout || 'null'), EXPECTED);
  });
}
