/**
 * Runs in the guest, started by init: each test file of the plan under node, one after the other, their
 * output as subtests of one TAP stream on standard output (the second serial port, which the host reads).
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync, writeSync } from 'node:fs';
import type { GuestPlan } from '../boot.js';
import { describeGuest, setAcsControl } from './guest.js';

const say = (line: string) => writeSync(1, `${line}\n`);

async function runFile({ file, args, limitSeconds }: GuestPlan['tests'][number]): Promise<string | null> {
  const child = spawn(process.execPath, [`/repo/${file}`, ...args], {
    cwd: '/tmp',
    // tap gives up on a test after 30 s by itself, which is short under software emulation.
    env: { ...process.env, TAP: '1', TAP_TIMEOUT: String(limitSeconds), P2PDMA_VM_GUEST: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let late = false;
  let plan = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, limitSeconds * 1000);
  const forward = (stream: NodeJS.ReadableStream, prefix: string) => {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (/^1\.\.\d+/.test(line)) plan = true;
        if (line !== '' && !line.startsWith('TAP version')) say(`    ${prefix}${line}`);
      }
    });
    stream.on('end', () => {
      if (rest !== '') say(`    ${prefix}${rest}`);
    });
  };
  forward(child.stdout, '');
  forward(child.stderr, '# ');
  const exit = await new Promise<string | null>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) =>
      resolve(code === 0 ? null : `ended with ${signal ?? `status ${code}`}`),
    );
  });
  clearTimeout(timer);
  if (late) return `not done after ${limitSeconds} s`;
  return exit ?? (plan ? null : 'wrote no TAP');
}

const plan = JSON.parse(readFileSync('/out/plan.json', 'utf8')) as GuestPlan;
say('TAP version 14');
for (const { bdf, guestBdf, control } of plan.acs) {
  const found = setAcsControl(guestBdf, control);
  if (found !== control) say(`# note: ${bdf}: ACS control is ${found ?? 'not there'}, not ${control}`);
}
const guest = describeGuest(plan);
writeFileSync('/out/guest.json', JSON.stringify(guest, null, 1));
say(
  `# guest Linux ${guest.release}, node ${process.version}, ${guest.drives.length} drives, up ${guest.uptime} s`,
);
let n = 0;
for (const test of plan.tests) {
  n++;
  const file = [test.file, ...test.args].join(' ');
  const started = performance.now();
  say(`# Subtest: ${file}`);
  const failure = await runFile(test);
  if (failure !== null) say(`    # ${file}: ${failure}`);
  say(
    `${failure === null ? 'ok' : 'not ok'} ${n} - ${file} # time=${(performance.now() - started).toFixed(0)}ms`,
  );
}
say(`1..${n}`);
say('# guest done');
