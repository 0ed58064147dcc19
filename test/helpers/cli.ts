/**
 * Runs `p2pdma` with arguments and returns the result. Starting a process costs more than most command lines do. So the
 * first line of each command has its own process, and the later ones share another (`resident-cli.ts`).
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { Line, Ran } from './resident-cli.js';

export const main = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));

/** No command line of a test takes this long, even on a busy machine. */
const PATIENCE = 120_000;

const seen = new Set<string>();

/** @throws Error: if it hung, or a signal ended it */
export function runCli(
  args: readonly string[],
  { cwd = process.cwd(), env = {} }: { readonly cwd?: string; readonly env?: Record<string, string> } = {},
): Ran {
  const line = { args, cwd, env: { ...process.env, ...env } };
  const command = args[0] ?? '';
  if (!seen.has(command)) {
    seen.add(command);
    return ownProcess(line);
  }
  resident ??= startResident();
  return resident(line);
}

export function p2pdma(...args: string[]): Ran {
  return runCli(args);
}

function ownProcess({ args, cwd, env }: Line): Ran {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    timeout: PATIENCE,
    cwd,
    env,
  });
  if (signal !== null) throw new Error(`p2pdma ${args.join(' ')}: ended with ${signal}\n${stderr}`);
  return { status, stdout, stderr };
}

let resident: ((line: Line) => Ran) | null = null;

/** A separate thread talks to the shared process, so that this thread can wait without returning to its event loop. */
const BETWEEN = `
  const { fork } = require('node:child_process');
  const { workerData: { module, port, bell } } = require('node:worker_threads');
  const child = fork(module, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  let noise = '';
  child.stderr.on('data', (text) => { noise += text; });
  const tell = (said) => {
    port.postMessage(said);
    Atomics.store(bell, 0, 1);
    Atomics.notify(bell, 0);
  };
  child.on('message', tell);
  child.on('close', (status, signal) => tell({ ended: signal ?? status, noise }));
  port.on('message', (line) => child.send(line));
`;

function startResident(): (line: Line) => Ran {
  const { port1, port2 } = new MessageChannel();
  const bell = new Int32Array(new SharedArrayBuffer(4));
  const module = fileURLToPath(new URL('resident-cli.js', import.meta.url));
  const worker = new Worker(BETWEEN, {
    eval: true,
    execArgv: [],
    workerData: { module, port: port2, bell },
    transferList: [port2],
  });
  worker.unref();
  port1.unref();
  return (line) => {
    Atomics.store(bell, 0, 0);
    port1.postMessage(line);
    const answer = () => receiveMessageOnPort(port1)?.message;
    const waited = Atomics.wait(bell, 0, 0, PATIENCE);
    const said = answer();
    if (said !== undefined && 'status' in said) return said;
    resident = null;
    throw new Error(
      `p2pdma ${line.args.join(' ')}: ${waited === 'timed-out' ? 'no answer' : `ended with ${said?.ended}\n${said?.noise}`}`,
    );
  };
}
