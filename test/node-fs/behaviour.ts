/** What a behaviour is, and what those of streams have in common: how one is written down, and what is looked at. */
import fs from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { bytesOf } from '../helpers/copies.js';

/** What is tried: node:fs, or an object with the same functions. */
export interface Streams {
  // biome-ignore lint/suspicious/noExplicitAny: wrong arguments are tried too
  createReadStream(path: any, options?: any): any;
  // biome-ignore lint/suspicious/noExplicitAny: wrong arguments are tried too
  createWriteStream(path: any, options?: any): any;
  /** As open() of node:fs/promises. */
  // biome-ignore lint/suspicious/noExplicitAny: wrong arguments are tried too
  open(path: any, flags?: any, mode?: any): Promise<any>;
}

export interface Behaviour {
  readonly group: string;
  readonly what: string;
  /** What is seen, as plain data. `folder` is empty. */
  readonly run: (streams: Streams, folder: string) => unknown;
  /** It differs on purpose. Both outcomes are checked. */
  readonly differs?: { readonly theirs: unknown; readonly ours: unknown; readonly why: string };
  /** Where it can be tried. */
  readonly where?: 'linux';
  /** The first major version of Node that does it like this. */
  readonly since?: number;
}

export type More = Pick<Behaviour, 'differs' | 'where' | 'since'>;

/** A function that adds a row of this group to `rows`. */
export function group(rows: Behaviour[], name: string) {
  return (what: string, run: Behaviour['run'], more: More = {}) => {
    rows.push({ group: name, what, run, ...more });
  };
}

export const LINUX = { where: 'linux' } as const;

/** Of an error, what a program looks at. */
export function seenOf(error: unknown): unknown {
  const { code, errno, syscall, path } = error as NodeJS.ErrnoException;
  return { code, errno, syscall, path };
}

/** The class and code of what was thrown, or what came back. */
export async function outcome(run: () => unknown): Promise<unknown> {
  try {
    return await run();
  } catch (error) {
    const { name, code } = error as NodeJS.ErrnoException;
    const kind = error instanceof TypeError ? 'TypeError' : error instanceof RangeError ? 'RangeError' : name;
    return `${kind} ${code}`;
  }
}

/** Everything that it delivers, or its error. */
export async function bytesIn(stream: Readable): Promise<unknown> {
  const chunks: (Buffer | string)[] = [];
  const text = stream.readableEncoding !== null;
  try {
    for await (const chunk of stream) chunks.push(chunk as Buffer);
  } catch (error) {
    return seenOf(error);
  }
  return text ? chunks.join('') : Buffer.concat(chunks as Buffer[]).toString('latin1');
}

/** Its events until it is closed, in order, with their arguments as far as they are the same in every run. */
export function eventsOf(stream: Readable | Writable, last = 'close'): Promise<string[]> {
  const seen: string[] = [];
  for (const event of ['open', 'ready', 'end', 'finish', 'error', 'close']) {
    stream.on(event, (value?: unknown) => {
      const code = event === 'error' ? (value as NodeJS.ErrnoException).code : typeof value;
      seen.push(value === undefined ? event : `${event} ${code}`);
    });
  }
  return new Promise((resolve) => stream.once(last, () => setTimeout(resolve, 5, seen)));
}

/** Write the pieces, end, and wait. */
export async function written(stream: Writable, ...pieces: (string | Uint8Array)[]): Promise<unknown> {
  const failed = new Promise<unknown>((resolve) => stream.once('error', (error) => resolve(seenOf(error))));
  const closed = new Promise<string>((resolve) => stream.once('close', () => resolve('closed')));
  for (const piece of pieces) stream.write(piece);
  stream.end();
  return Promise.race([failed, closed]);
}

export function soon<T>(value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(resolve, 200, value));
}

export function contents(path: string): string | null {
  return fs.existsSync(path) ? fs.readFileSync(path, 'latin1') : null;
}

export function isOpen(fd: number): boolean {
  try {
    fs.fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

export function made(folder: string, bytes: string | Buffer = 'the quick brown fox', name = 'file'): string {
  const path = join(folder, name);
  fs.writeFileSync(path, bytes);
  return path;
}

export function fifo(folder: string): string {
  const path = join(folder, 'fifo');
  const run = process.getBuiltinModule?.('node:child_process');
  if (run === undefined) throw new Error('no child processes');
  run.execFileSync('mkfifo', [path]);
  return path;
}

export const LONG = bytesOf(20_000, 3);
