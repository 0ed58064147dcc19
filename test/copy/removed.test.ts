/** An end of a copy that goes away under it: exit code 1 and a receipt, where a name that was never there is 2. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openSystem, receiptOf } from '../../lib/index.js';
import { directIoDir, skipNative } from '../helpers/native.js';

const main = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));
const MIB = 2 ** 20;

async function p2pdma(words: string[], meanwhile?: () => Promise<void>) {
  const child = spawn(process.execPath, [main, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text: Buffer) => {
    stdout += text;
  });
  child.stderr.on('data', (text: Buffer) => {
    stderr += text;
  });
  const closed = once(child, 'close') as Promise<[number]>;
  await meanwhile?.();
  const [status] = await closed;
  return { status, stdout, stderr };
}

/** Gives up after a while: whatever the command ended with is looked at then. */
async function removedOnceWritten(path: string, bytes: number): Promise<void> {
  const until = performance.now() + 20_000;
  while (performance.now() < until && (!existsSync(path) || statSync(path).size < bytes)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  rmSync(path, { force: true });
}

t.test('a destination that is removed: exit code 1, and the receipt', { skip: skipNative }, async (t) => {
  const folder = directIoDir(t);
  const [a, b, journal] = ['a', 'b', 'j'].map((name) => join(folder, name)) as [string, string, string];
  writeFileSync(a, Buffer.alloc(8 * MIB, 7));
  for (const [option, words] of [
    ['--verify', ['--verify']],
    ['--resume', ['--resume', journal]],
  ] as const) {
    const run = await p2pdma(['copy', a, b, '--bwlimit', '6m', '--json', ...words], () =>
      removedOnceWritten(b, MIB),
    );
    t.equal(run.status, 1, `${option}: ${run.stderr}`);
    t.match(run.stderr, /ENOENT/, option);
    const receipt = JSON.parse(run.stdout);
    t.ok(receipt.bytes >= MIB && !receipt.verified, `${option}: ${run.stdout}`);
    rmSync(b, { force: true });
  }
  const never = await p2pdma(['copy', join(folder, 'no-such'), b, '--json']);
  t.match(never, { status: 2, stdout: '' });
});

t.test('a drive that is pulled out under the copy', async (t) => {
  const drive = (bdf: string) => ({
    ...{ bdf, type: 'root-complex-endpoint', vendor: 0x1b36, device: 0x10 },
    nvme: { namespaces: [{ nsid: 1, size: 16 * MIB }] },
  });
  const machine = {
    ...{ version: 1, name: 'pulled', hostBridges: [{ bus: 0 }] },
    functions: [drive('0000:00:01.0'), drive('0000:00:02.0')],
    faults: [{ kind: 'remove', controller: 'nvme1', afterBytes: 4 * MIB }],
  };
  const file = join(t.testdir({ 'machine.json': JSON.stringify(machine) }), 'machine.json');
  const run = await p2pdma(['copy', 'nvme0n1', 'nvme1n1', '--machine', file, '--json']);
  t.equal(run.status, 1, run.stderr);
  const { bytes, machine: name } = JSON.parse(run.stdout);
  t.ok(bytes > 0 && bytes <= 4 * MIB, `${bytes} bytes`);
  t.equal(name, 'pulled');

  const system = await openSystem({ machine: file });
  t.equal(receiptOf(new Error('another')), null);
  const error = await system.pipeline('nvme0n1', 'nvme1n1').catch((e: unknown) => e);
  t.match(receiptOf(error), { machine: 'pulled', verified: false });
  await system.close();
});
