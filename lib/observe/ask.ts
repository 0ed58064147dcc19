/** Asks every observed process of this user what it does. Sockets on which nobody listens any more are removed. */
import { readdirSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { folders, isPrivate, type Observation, SOCKET } from './socket.js';

export type { FlowSum, Observation } from './socket.js';
export { folders } from './socket.js';

const PATIENCE_MS = 1000;
const MOST_BYTES = 4 * 1024 * 1024;

export interface Observed {
  readonly processes: readonly Observation[];
  /** Sockets of processes that gave no answer in a second, or none that could be read. */
  readonly silent: readonly string[];
}

export async function askAll(): Promise<Observed> {
  const paths = folders().filter(isPrivate).flatMap(socketsIn);
  const answers = await Promise.all(paths.map(ask));
  const processes = answers
    .filter((answer) => typeof answer === 'object')
    .filter((answer) => answer !== null);
  processes.sort((a, b) => a.pid - b.pid || a.thread - b.thread);
  return { processes, silent: paths.filter((_, i) => answers[i] === 'silent') };
}

function socketsIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => SOCKET.test(name))
    .map((name) => join(folder, name));
}

/** Null: nobody listens there. */
function ask(path: string): Promise<Observation | 'silent' | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    let text = '';
    socket.setEncoding('utf8');
    const timer = setTimeout(() => end('silent'), PATIENCE_MS);
    const end = (answer: Observation | 'silent' | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    socket.on('data', (more: string) => {
      text += more;
      if (text.length > MOST_BYTES) end('silent');
    });
    socket.on('end', () => end(readAnswer(text)));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      const stale = code === 'ECONNREFUSED' && !isAlive(path);
      if (stale) removeStale(path);
      end(stale || code === 'ENOENT' ? null : 'silent');
    });
  });
}

function readAnswer(text: string): Observation | 'silent' {
  try {
    const said = JSON.parse(text) as Observation;
    return typeof said.pid === 'number' && Array.isArray(said.flows) ? said : 'silent';
  } catch {
    return 'silent';
  }
}

/** Is the process that its name tells there? Between bind(2) and listen(2) a socket refuses connections, and is not stale. */
function isAlive(path: string): boolean {
  try {
    return process.kill(Number.parseInt(basename(path), 10), 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Its process has gone without removing it: it was killed. */
function removeStale(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else was quicker.
  }
}
