/** What `onProgress` is called with and what `p2pdma copy --json` prints while it copies are one object. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { barLine, copyOutput } from '../../../lib/cli/copy/progress.js';
import { reportTo } from '../../../lib/copy/progress.js';
import { openSystem, type Progress } from '../../../lib/index.js';
import { p2pdma } from '../../helpers/cli.js';
import { bytesOf } from '../../helpers/copies.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-progress-'));
const file = (name: string) => join(folder, name);
t.teardown(() => rmSync(folder, { recursive: true }));
writeFileSync(file('source'), bytesOf(2 * MIB, 5));

/** What is written to stderr meanwhile. */
async function linesOf(work: () => Promise<void>): Promise<unknown[]> {
  const { write } = process.stderr;
  let text = '';
  process.stderr.write = (chunk: string | Uint8Array) => {
    text += chunk;
    return true;
  };
  try {
    await work();
  } finally {
    process.stderr.write = write;
  }
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

t.test('of one copy: the same keys in the same order, the same values', async (t) => {
  const seen: Progress[] = [];
  const print = copyOutput({ json: true }).progress!;
  const system = await openSystem({ machine: 'switch' });
  const lines = await linesOf(async () => {
    await system.pipeline(file('source'), file('copied'), {
      ...{ verify: true, bandwidth: 4 * MIB, highWaterMark: 64 * 1024 },
      onProgress: (progress) => {
        seen.push(progress);
        print(progress);
      },
    });
  });
  await system.close();
  t.ok(seen.length > 4, `${seen.length} times`);
  t.same([...new Set(seen.map(({ phase }) => phase))], ['copy', 'verify']);
  t.strictSame(lines, seen);
  for (const [i, line] of lines.entries()) t.strictSame(Object.keys(line as object), Object.keys(seen[i]!));
  const running = seen.filter(({ phase, bytes }) => phase === 'copy' && bytes > MIB && bytes < 2 * MIB);
  t.ok(running.length > 0);
  for (const { bytes, bytesPerSecond, etaSeconds } of running) {
    const rate = bytesPerSecond ?? 0;
    t.ok(rate > MIB && rate < 16 * MIB, `${rate} bytes/s`);
    t.equal(etaSeconds, Number(((2 * MIB - bytes) / rate).toFixed(1)));
  }
});

t.test('as the command prints it', async (t) => {
  const last: Progress[] = [];
  const system = await openSystem({ machine: 'switch' });
  await system.pipeline(file('source'), file('again'), {
    onProgress: (progress) => last.splice(0, 1, progress),
  });
  await system.close();
  const { status, stderr } = p2pdma('copy', file('source'), file('third'), '--machine', 'switch', '--json');
  t.equal(status, 0, stderr);
  const { bytesPerSecond, etaSeconds, ...printed } = JSON.parse(stderr.trimEnd().split('\n').at(-1)!);
  const { bytesPerSecond: rate, etaSeconds: left, ...told } = last[0]!;
  t.strictSame(printed, told);
  for (const one of [bytesPerSecond, rate, etaSeconds, left]) t.ok(one === null || typeof one === 'number');
});

t.test('one look tells no speed', async (t) => {
  const seen: Progress[] = [];
  const report = reportTo({ onProgress: (progress) => seen.push(progress) })!;
  const look = (phase: 'copy' | 'verify', bytes: number) =>
    report({
      ...{ phase, bytes, total: MIB, transport: null, provider: null },
      ...{ backend: 'emulator', machine: 'switch' },
    });
  look('copy', MIB);
  look('verify', 0);
  const began = performance.now();
  while (performance.now() - began < 2);
  look('verify', MIB);
  const [copied, first, second] = seen;
  for (const one of [copied, first]) t.match(one, { bytesPerSecond: null, etaSeconds: null });
  t.ok(second!.bytesPerSecond! > 0 && second!.bytesPerSecond! <= MIB * 500, `${second!.bytesPerSecond}`);
  t.notMatch(barLine(copied!, 1, 80), /\/s/, 'nor does the bar');
});
