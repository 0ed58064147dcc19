import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { Journal } from '../../lib/copy/journal.js';
import { bytesOf } from '../helpers/copies.js';
import { directIoDir, loopDevice, skipLoop, skipNative } from '../helpers/native.js';
import { random } from '../helpers/random.js';

const MIB = 1024 * 1024;
const main = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));
const folder = directIoDir(t);
const file = (name: string) => join(folder, name);

/** `p2pdma copy … --json`, with its life's stages as promises. */
function copying(...args: string[]) {
  const child: ChildProcess = spawn(process.execPath, [main, 'copy', ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // biome-ignore lint/suspicious/noExplicitAny: lines of NDJSON
  const lines: any[] = [];
  let stdout = '';
  child.stdout!.on('data', (text) => {
    stdout += text;
  });
  const closed = once(child, 'close').then(([status, signal]) => ({
    status: status as number | null,
    signal: signal as string | null,
    lines,
    receipt: stdout === '' ? null : JSON.parse(stdout),
  }));
  const reader = createInterface({ input: child.stderr! });
  const began = new Promise<void>((resolve) => {
    reader.on('line', (line) => {
      try {
        lines.push(JSON.parse(line));
      } catch (error) {
        // SIGKILL may cut the last line off.
        if (!child.killed) throw error;
      }
      if (line.includes('"progress"')) resolve();
    });
    closed.then(() => resolve());
  });
  return { child, closed, began, lines };
}

const content = bytesOf(24 * MIB + 4321, 9);
writeFileSync(file('source'), content);

const KILLS = 20;

/** Kill it at random moments, and let the same command go on, until it was killed often enough. */
async function killed(t: Test, name: string, ...backend: string[]): Promise<void> {
  const to = file(`${name}-copy`);
  const journal = file(`${name}-journal`);
  const args = [file('source'), to, ...backend, '--resume', journal, '--bwlimit', '32MiB'];
  let kills = 0;
  let amid = 0;
  let complete = 0;
  while (kills < KILLS) {
    const { child, closed, began } = copying(...args);
    // Mostly while it copies, now and then before.
    if (kills % 5 !== 0) await began;
    await new Promise((resolve) => setTimeout(resolve, random() * 150));
    child.kill('SIGKILL');
    const { status, signal, lines } = await closed;
    if (signal === 'SIGKILL') kills++;
    else if (status !== 0) throw new Error(JSON.stringify(lines));
    const kept = await Journal.read(journal);
    const done = kept?.done ?? 0;
    if (done > 0) amid++;
    if (kept === null && signal === null) {
      complete++;
      if (!readFileSync(to).equals(content)) t.fail('complete, but not identical');
      rmSync(to);
    } else if (done > 0 && content.compare(readFileSync(to), 0, done, 0, done) !== 0) {
      t.fail(`the journal says ${done}, and the destination does not hold it`);
    }
  }
  const { status, receipt, lines } = await copying(...args, '--verify').closed;
  t.equal(status, 0, JSON.stringify(lines.at(-1)));
  t.match(receipt, { verified: true });
  t.ok(readFileSync(to).equals(content), 'identical');
  t.notOk(existsSync(journal), 'the journal is gone');
  t.ok(amid > KILLS / 4, `${amid} of ${kills} kills amid the copy, ${complete} complete copies between them`);
}

t.test('SIGKILL at random moments', { timeout: 280_000 }, async (t) => {
  const skipped = async () => {
    t.pass('natively', { skip: String(skipNative) });
  };
  await Promise.all([
    killed(t, 'emulated', '--machine', 'switch'),
    skipNative ? skipped() : killed(t, 'native', '--backend', 'native'),
  ]);
});

t.test('SIGKILL, onto a block device', { skip: skipLoop }, async (t) => {
  const device = loopDevice(t, 32 * MIB);
  const before = bytesOf(32 * MIB, 5);
  writeFileSync(device, before);
  const journal = file('device-journal');
  const args = [file('source'), device, '--backend', 'native', '--resume', journal];
  const { child, closed, lines } = copying(...args, '--bwlimit', '8MiB');
  // The first stretch of 1 MiB is marked, and the next is under way.
  while (child.exitCode === null && !(lines.at(-1)?.bytes > 1.5 * MIB)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  child.kill('SIGKILL');
  t.equal((await closed).signal, 'SIGKILL');
  const { done } = (await Journal.read(journal))!;
  t.ok(done > 0 && done < content.length, `${done} bytes are marked`);
  t.equal(content.compare(readFileSync(device), 0, done, 0, done), 0, 'and there');

  const rest = await copying(...args, '--verify').closed;
  t.equal(rest.status, 0, JSON.stringify(rest.lines.at(-1)));
  t.match(rest.receipt, { resumedFrom: done, bytes: content.length - done, verified: true });
  const after = readFileSync(device);
  t.ok(after.subarray(0, content.length).equals(content), 'identical');
  t.ok(after.subarray(content.length).equals(before.subarray(content.length)), 'nothing else was written');
  t.notOk(existsSync(journal), 'the journal is gone');
});

for (const [name, backend, skip] of [
  ['emulated', ['--machine', 'switch'], false],
  ['native', ['--backend', 'native'], skipNative],
] as const) {
  t.test(`SIGINT once, ${name}: stops cleanly, with receipt and journal`, { skip }, async (t) => {
    const [to, journal] = [file(`${name}-int`), file(`${name}-int-journal`)];
    const args = [file('source'), to, ...backend, '--resume', journal];
    const { child, closed, began } = copying(...args, '--bwlimit', '8MiB', '--verify');
    await began;
    child.kill('SIGINT');
    const { status, receipt, lines } = await closed;
    t.equal(status, 130);
    t.ok(receipt.bytes > 0 && receipt.bytes < content.length, `${receipt.bytes} bytes`);
    t.match(receipt, { verified: false, digest: null });
    t.ok(lines.some(({ type }) => type === 'stopping'));
    t.match(lines.at(-1), {
      type: 'stopped',
      message: /\d+ of \d+ bytes were copied; to continue, run the same command again/,
    });
    t.ok(readFileSync(to).equals(content.subarray(0, receipt.bytes)), 'what the receipt says is there');
    t.equal((await Journal.read(journal))!.done, receipt.bytes);

    const rest = await copying(...args, '--verify').closed;
    t.equal(rest.status, 0);
    t.match(rest.lines[0], { type: 'resuming', journal, done: receipt.bytes });
    t.match(rest.receipt, {
      resumedFrom: receipt.bytes,
      bytes: content.length - receipt.bytes,
      verified: true,
    });
    t.ok(readFileSync(to).equals(content));
  });
}

t.test('SIGINT and SIGTERM without a journal: a receipt of what is there', async (t) => {
  const ends = (['SIGINT', 'SIGTERM'] as const).map(async (signal) => {
    const to = file(`plain-${signal}`);
    const { child, closed, began } = copying(file('source'), to, '--machine', 'switch', '--bwlimit', '8MiB');
    await began;
    child.kill(signal);
    const { status, receipt } = await closed;
    t.equal(status, signal === 'SIGINT' ? 130 : 143);
    t.ok(readFileSync(to).equals(content.subarray(0, receipt.bytes)), `${receipt.bytes} bytes`);
  });
  await Promise.all(ends);
});

t.test('SIGINT twice: now, although a drive does not answer', async (t) => {
  const machine = JSON.parse(
    readFileSync(new URL('../../../test/fixtures/machine-two-drives.json', import.meta.url), 'utf8'),
  );
  machine.faults = [{ kind: 'no-completion', controller: 'nvme1', nth: 5 }];
  writeFileSync(file('deaf.json'), JSON.stringify(machine));
  const journal = file('deaf-journal');
  const { child, closed, lines } = copying(
    ...[file('source'), file('deaf'), '--machine', file('deaf.json'), '--resume', journal],
  );
  const until = async (condition: () => boolean) => {
    while (child.exitCode === null && !condition()) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  // It stands still.
  await until(() => lines.length > 3 && lines.at(-1).bytes > 0 && lines.at(-1).bytes === lines.at(-4).bytes);
  child.kill('SIGINT');
  await until(() => lines.some(({ type }) => type === 'stopping'));
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal(child.exitCode, null, 'once: it waits for the drive');
  const before = performance.now();
  child.kill('SIGINT');
  const { status, receipt } = await closed;
  t.equal(status, 130);
  t.equal(receipt, null);
  // The driver gives the drive up after 30 s.
  t.ok(performance.now() - before < 10_000);
  t.ok((await Journal.read(journal)) !== null, 'the journal stays, and can be read');
});
