/** The command, run in the guest as a user runs it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../../lib/cli/main.js', import.meta.url));

export function start(...args: string[]): ChildProcessByStdio<null, Readable, Readable> {
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.setEncoding('utf8');
  child.stderr.setEncoding('utf8');
  return child;
}

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export async function p2pdma(...args: string[]): Promise<Ended> {
  const child = start(...args);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.on('data', (text: string) => {
    stderr += text;
  });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout, stderr };
}

/** What it says with `--json`. @throws unless it ends with 0 */
// biome-ignore lint/suspicious/noExplicitAny: what a command prints
export async function asked(...args: string[]): Promise<any> {
  const { status, stdout, stderr } = await p2pdma(...args, '--json');
  if (status !== 0) throw new Error(`p2pdma ${args.join(' ')}: ${status}\n${stderr}${stdout}`);
  return JSON.parse(stdout);
}
