import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statfsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The referee cannot work here; `message` says what is missing and what to do about it. */
export class VmError extends Error {
  override readonly name = 'VmError';
}

/** The repository's root: the nearest folder above with a package.json. */
export const repository = (() => {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'package.json'))) folder = path.dirname(folder);
  return folder;
})();

/** A data file of test/vm, which the compiler does not copy. */
export function vmFile(...parts: string[]): string {
  return path.join(repository, 'test', 'vm', ...parts);
}

/** Where built things are kept between runs, outside the repository. */
export function cacheFolder(...parts: string[]): string {
  const root = process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache');
  const folder = path.join(root, 'p2pdma', 'vm', ...parts);
  mkdirSync(folder, { recursive: true });
  return folder;
}

export function hashOf(...parts: (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex').slice(0, 16);
}

/** The absolute path of a program, or null. Looks in sbin too, which a user's PATH often lacks. */
export function which(program: string): string | null {
  for (const folder of `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`.split(':')) {
    const file = path.join(folder, program);
    if (folder !== '' && existsSync(file)) return file;
  }
  return null;
}

export function needSpace(folder: string, bytes: number, forWhat: string): void {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize >= bytes) return;
  const gib = (n: number) => (n / 2 ** 30).toFixed(1);
  throw new VmError(
    `${forWhat} needs ${gib(bytes)} GiB in ${folder}, which has ${gib(bavail * bsize)} GiB free. ` +
      'Free some space, or set XDG_CACHE_HOME to a folder on a larger filesystem.',
  );
}

/** Run a command to its end; output goes to `log` (or is returned). A failure carries the output's tail. */
export async function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; log?: string; env?: NodeJS.ProcessEnv; what?: string } = {},
): Promise<void> {
  const out = options.log === undefined ? 'ignore' : openSync(options.log, 'a');
  try {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', out, out],
    });
    const code = await new Promise<number | string>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (status, signal) => resolve(status ?? signal ?? 'unknown'));
    });
    if (code !== 0) {
      const tail =
        options.log === undefined ? '' : `\n${tailOf(options.log, 30)}\n(whole log: ${options.log})`;
      throw new VmError(`${options.what ?? [command, ...args].join(' ')} failed (${code})${tail}`);
    }
  } finally {
    if (typeof out === 'number') closeSync(out);
  }
}

/** Standard output of a command, or null if it could not be run or failed. */
export function output(command: string, args: readonly string[]): string | null {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 * 2 ** 20 });
  return result.status === 0 ? result.stdout : null;
}

export function tailOf(file: string, lines: number): string {
  let text: string;
  try {
    text = readFileSync(file, 'latin1');
  } catch {
    return '(no log)';
  }
  return text.replaceAll('\r', '').trimEnd().split('\n').slice(-lines).join('\n');
}
