/** More memory than one buffer of the runtime can be: an allocation or an error with a code, never the end of the process. */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { skipNative } from '../helpers/native.js';

const index = new URL('../../lib/index.js', import.meta.url).href;
const LARGE = [2 ** 32, 2 ** 32 + 1, 2 ** 32 + 4096, 5 * 2 ** 30, 2 ** 40, Number.MAX_SAFE_INTEGER];

/** Reserved, never touched: no memory is needed for it. */
function allocate(open: string, bytes: number, env: NodeJS.ProcessEnv = {}): string {
  const code = `
    const { openSystem, P2pdmaError } = await import(${JSON.stringify(index)});
    const system = await openSystem(${open});
    try {
      const { buffer, free } = system.allocate(null, ${bytes});
      console.log(buffer.length === ${bytes} ? 'allocated' : 'another length');
    } catch (error) {
      console.log(error instanceof P2pdmaError ? error.code : error);
    }
    await system.close();`;
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', code],
    { encoding: 'utf8', env: { ...process.env, ...env } },
  );
  return status === 0 ? stdout.trim() : `ended with ${signal ?? status}: ${stderr}`;
}

for (const bytes of LARGE) {
  t.test(`natively, ${bytes} bytes`, { skip: skipNative }, async (t) => {
    t.match(allocate("{ backend: 'native' }", bytes), /^(allocated|ENOMEM)$/);
    const wasm = allocate("{ backend: 'native' }", bytes, { P2PDMA_NO_EXTERNAL_BUFFERS: '1' });
    t.match(wasm, /^(allocated|ENOMEM)$/, 'where external buffers are refused');
  });
}

t.test('emulated', async (t) => {
  for (const bytes of LARGE.slice(1)) {
    t.match(allocate("{ machine: 'switch' }", bytes), /^(allocated|ENOMEM)$/, `${bytes} bytes`);
  }
});
