/**
 * Asks every observed process of this user what it does. Sockets on which nobody listens any more are removed. The process may
 * run another version of this package: what its answer lacks is null here, and what this version has no name for is kept.
 */
import { readdirSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import * as z from '../base/zod.js';
import { folders, isPrivate, SOCKET } from './socket.js';

export { folders } from './socket.js';

const PATIENCE_MS = 1000;
const MOST_BYTES = 4 * 1024 * 1024;

const orUnknown = <T extends z.ZodMiniType>(type: T) =>
  z.pipe(
    z.nullish(type),
    z.transform((value) => value ?? null),
  );

const said = z.object({
  pid: z.int().check(z.positive()),
  thread: orUnknown(z.int().check(z.nonnegative())),
  command: orUnknown(z.string()),
  inFlight: orUnknown(z.number()),
  flows: z.array(
    z.object({
      backend: z.string(),
      machine: orUnknown(z.string()),
      provider: orUnknown(z.string()),
      client: orUnknown(z.string()),
      path: z.record(z.string(), z.number()),
      open: orUnknown(z.number()),
    }),
  ),
  memory: orUnknown(
    z.array(
      z.object({
        backend: z.string(),
        machine: orUnknown(z.string()),
        provider: z.string(),
        size: z.number(),
        available: z.number(),
      }),
    ),
  ),
});

/** What a process said: an Observation, as far as its version has it. Null: it does not say. */
export type Answer = z.infer<typeof said> & { readonly thread: number };

export type AnsweredFlow = Answer['flows'][number];

export interface Observed {
  readonly processes: readonly Answer[];
  /** Sockets of processes that gave no answer in a second, or none that could be understood. */
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
function ask(path: string): Promise<Answer | 'silent' | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    let text = '';
    socket.setEncoding('utf8');
    const timer = setTimeout(() => end('silent'), PATIENCE_MS);
    const end = (answer: Answer | 'silent' | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    socket.on('data', (more: string) => {
      text += more;
      if (text.length > MOST_BYTES) end('silent');
    });
    socket.on('end', () => end(readAnswer(text, path)));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      const stale = code === 'ECONNREFUSED' && !isAlive(path);
      if (stale) removeStale(path);
      end(stale || code === 'ENOENT' ? null : 'silent');
    });
  });
}

function readAnswer(text: string, path: string): Answer | 'silent' {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return 'silent';
  }
  const { success, data } = said.safeParse(json);
  // The thread is the second number of the socket's name, too.
  return success ? { ...data, thread: data.thread ?? Number(basename(path).split('.')[1]) } : 'silent';
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
