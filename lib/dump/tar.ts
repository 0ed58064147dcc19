/**
 * The entries of a tar archive, one after the other, without unpacking them to disk. The format (ustar, pax, GNU) is read by the
 * package tar. Here is what it leaves open: what a damaged archive, one without its end, or one of a kind that loses contents
 * means to somebody who asks about a machine.
 */
import type { EntryKind } from '../native/sysfs/tree.js';
import { type Bounds, damaged, notRead } from './bounds.js';
import type { Sink } from './sent.js';

export interface TarEntry {
  /** Without a leading slash. */
  readonly path: readonly string[];
  readonly kind: EntryKind;
  /** Of a link. A hard link has a path in the archive, with a leading slash. */
  readonly target: string | null;
  readonly size: number;
}

/** Decides about an entry when its header was read; null: its content is not needed. */
export type Take = (entry: TarEntry) => ((content: Buffer) => void) | null;

export interface TarReader {
  write: Sink;
  end(): void;
}

const BLOCK = 512;
const CHECKSUM_AT = 148;
const CHECKSUM_LENGTH = 8;

/** Do these bytes begin with the header of an entry, as its checksum says? */
export function looksLikeTar(bytes: Buffer): boolean {
  if (bytes.length < BLOCK) return false;
  const field = bytes.toString('latin1', CHECKSUM_AT, CHECKSUM_AT + CHECKSUM_LENGTH);
  const said = /^ *([0-7]+)[ \0]*$/.exec(field)?.[1];
  if (said === undefined) return false;
  let sum = ' '.charCodeAt(0) * CHECKSUM_LENGTH;
  for (let at = 0; at < BLOCK; at++) {
    if (at < CHECKSUM_AT || at >= CHECKSUM_AT + CHECKSUM_LENGTH) sum += bytes[at]!;
  }
  return sum === Number.parseInt(said, 8);
}

const KINDS: ReadonlyMap<string, EntryKind> = new Map([
  ['File', 'file'],
  ['OldFile', 'file'],
  ['ContiguousFile', 'file'],
  ['Directory', 'directory'],
  ['SymbolicLink', 'link'],
  ['Link', 'link'],
]);

const SPARSE_HINT = 'Make it again without --sparse: to tar every attribute in /sys looks like a hole.';

/** @param name for messages */
export async function readTar(name: string, bounds: Bounds, take: Take): Promise<TarReader> {
  const { Parser } = await import('tar');
  const parser = new Parser({ brotli: false, zstd: false });
  let ended = false;
  const broken = (what: unknown): never => {
    throw damaged(name, `${what instanceof Error ? what.message : what}`);
  };
  parser.on('warn', (_code: string, what: unknown) => broken(what));
  parser.on('error', broken);
  parser.on('ignoredEntry', ({ type, meta }: { type: string; meta: boolean }) => {
    bounds.entry();
    if (type === 'SparseFile') throw notRead(name, 'holds sparse files, which are not read', SPARSE_HINT);
    if (meta) broken('a name in it has more than 1 MiB');
  });
  parser.on('nullBlock', () => {
    ended = true;
  });
  let over = false;
  parser.on('eof', () => {
    over = true;
  });
  parser.on('entry', (entry) => {
    bounds.entry();
    const path = pathOf(name, entry.path);
    const kind = KINDS.get(entry.type) ?? 'other';
    const hard = entry.type === 'Link';
    const target = kind === 'link' ? `${hard ? '/' : ''}${entry.linkpath ?? ''}` : null;
    const content = take({ path, kind, target, size: entry.size });
    if (content === null || kind !== 'file') {
      entry.resume();
      return;
    }
    const chunks: Buffer[] = [];
    entry.on('data', (chunk: Buffer) => chunks.push(Buffer.from(chunk)));
    entry.on('end', () => content(Buffer.concat(chunks)));
  });
  return {
    // What follows the end is padding, and to tar does not exist.
    write: (chunk) => {
      if (!over) parser.write(chunk);
    },
    end: () => {
      parser.end();
      if (!ended) broken('it ends without the end of an archive');
    },
  };
}

function pathOf(name: string, path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw damaged(name, `'${path}' leads out of it`);
  if (parts.some((part) => part.startsWith('GNUSparseFile.'))) {
    throw notRead(name, 'holds sparse files, which are not read', SPARSE_HINT);
  }
  return parts;
}
