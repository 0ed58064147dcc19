/**
 * The process in which `cli.ts` runs command lines, one after another. For each line the main module is evaluated
 * again, with the line's arguments, environment and working directory. An uncaught error ends the process, as it would
 * end the command.
 */
import { exit } from 'node:process';

export interface Line {
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const main = new URL('../../lib/cli/main.js', import.meta.url);
let lines = 0;

async function run({ args, cwd, env }: Line): Promise<Ran> {
  process.chdir(cwd);
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);
  process.argv.splice(1, Number.POSITIVE_INFINITY, main.pathname, ...args);
  process.exitCode = undefined;
  const [stdout, stderr] = [listen(process.stdout), listen(process.stderr)];
  await import(`${main.href}?${++lines}`);
  await new Promise(setImmediate);
  return { status: Number(process.exitCode ?? 0), stdout: stdout(), stderr: stderr() };
}

/** Collects everything written to the stream from now on. The returned function returns it. */
function listen(stream: NodeJS.WriteStream): () => string {
  const { write } = stream;
  const parts: Buffer[] = [];
  stream.write = ((chunk: string | Uint8Array, ...more: unknown[]) => {
    parts.push(Buffer.from(chunk as string));
    const done = more.at(-1);
    if (typeof done === 'function') setImmediate(() => done(null));
    return true;
  }) as typeof write;
  return () => {
    stream.write = write;
    stream.removeAllListeners('error');
    return Buffer.concat(parts).toString();
  };
}

process.on('message', (line: Line) => {
  run(line).then((ran) => process.send!(ran));
});
process.on('disconnect', () => exit());
