/**
 * Files as of one moment: each is read when it is first needed, and every later question about it gets the same answer.
 * For questions that are asked in one go, without anything else happening in between; never keep it for longer.
 */
import type { Content, Entry, EntryKind, Files } from './tree.js';

export class OneReading implements Files {
  readonly root: string;
  readonly live: boolean;
  readonly genuine: boolean;
  readonly peerMemory: boolean;
  readonly #files: Files;
  /** By what was asked, and about which path. A failure is an answer too. Null: nothing was asked, as for most files. */
  #answers: Map<string, Answer> | null = null;
  /** The directories of sysfs that were listed: what is in each, by name. */
  #listed: Map<string, ReadonlyMap<string, EntryKind>> | null = null;

  constructor(files: Files) {
    this.root = files.root;
    this.live = files.live;
    this.genuine = files.genuine;
    this.peerMemory = files.peerMemory;
    this.#files = files;
  }

  kindOf(path: readonly string[]): EntryKind | undefined {
    return this.#once('kind', path, () => {
      const listed = this.#listed?.get(path.slice(0, -1).join('/'));
      return listed === undefined ? this.#files.kindOf(path) : listed.get(path.at(-1)!);
    });
  }

  entries(path: readonly string[]): Entry[] {
    return this.#once('entries', path, () => {
      const entries = this.#files.entries(path);
      // In proc there is more than is listed: /proc/<thread>.
      if (path[0] === 'sys') {
        this.#listed ??= new Map();
        this.#listed.set(path.join('/'), new Map(entries.map(({ name, kind }) => [name, kind])));
      }
      return entries;
    });
  }

  linkTarget(path: readonly string[]): string {
    return this.#once('link', path, () => this.#files.linkTarget(path));
  }

  read(path: readonly string[], maxBytes: number, enough?: (read: Buffer) => boolean): Content {
    const key = `${maxBytes} bytes${enough === undefined ? '' : ', as far as needed'}`;
    return this.#once(key, path, () => {
      const listed = this.#listed?.get(path.slice(0, -1).join('/'));
      if (listed?.has(path.at(-1)!) === false) throw Object.assign(new Error('missing'), { code: 'ENOENT' });
      return this.#files.read(path, maxBytes, enough);
    });
  }

  #once<T>(what: string, path: readonly string[], ask: () => T): T {
    const key = [what, ...path].join('/');
    this.#answers ??= new Map();
    let answer = this.#answers.get(key);
    if (answer === undefined) {
      answer = answerOf(ask);
      this.#answers.set(key, answer);
    }
    if ('error' in answer) throw answer.error;
    return answer.value as T;
  }
}

type Answer = { readonly value: unknown } | { readonly error: unknown };

function answerOf(ask: () => unknown): Answer {
  try {
    return { value: ask() };
  } catch (error) {
    return { error };
  }
}
