/** What the behaviours of handles have in common. */
import { type Behaviour, group, type More, made, type Streams } from './behaviour.js';

// biome-ignore lint/suspicious/noExplicitAny: both kinds of handle, and wrong arguments
export type Any = any;

/** What the file of a row holds. */
export const TEXT = 'the quick brown fox jumps over the lazy dog';

/** Of an error, what a program looks at: the class and code of a wrong argument, and otherwise the code and the call. */
export async function tried(run: () => unknown): Promise<unknown> {
  try {
    return await run();
  } catch (error) {
    const { code, syscall, name } = error as NodeJS.ErrnoException;
    return code?.startsWith('ERR_INVALID_ARG') || code === 'ERR_OUT_OF_RANGE' || code === 'ABORT_ERR'
      ? `${name} ${code}`
      : { code, syscall };
  }
}

export function ended(stream: Any, text: string): Promise<void> {
  return new Promise((resolve) => stream.end(text, resolve));
}

/** Streams with autoClose: false close their handle when they are destroyed. (In node:fs, its close() would wait for that.) */
export async function closed(handle: Any, ...streams: Any[]): Promise<string> {
  for (const stream of streams) stream.destroy();
  while (handle.fd !== -1) await new Promise(setImmediate);
  return 'closed';
}

/** A function that adds a row of handles to `rows`. Each gets a function like open() and a file that holds TEXT. */
export function handleRows(rows: Behaviour[]) {
  const add = group(rows, 'handles');
  return (what: string, run: (open: Streams['open'], path: string) => unknown, more?: More) =>
    add(what, (s, folder) => run(s.open.bind(s), made(folder, TEXT)), more);
}
