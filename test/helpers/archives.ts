/** Archives of a folder, written as the tools write them that people use. */
import { spawnSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { posix } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Header } from 'tar/header';
import { Pax } from 'tar/pax';

export interface Packed {
  readonly path: string;
  /** Null: a directory. */
  readonly content: Buffer | { readonly link: string } | null;
}

/** What is in a folder, by paths from it; a directory before what is in it. */
export function entriesOf(root: string, below = ''): Packed[] {
  return readdirSync(posix.join(root, below))
    .sort()
    .flatMap((name): Packed[] => {
      const path = posix.join(below, name);
      const at = posix.join(root, path);
      const stat = lstatSync(at);
      if (stat.isSymbolicLink()) return [{ path, content: { link: readlinkSync(at) } }];
      if (!stat.isDirectory()) return [{ path, content: readFileSync(at) }];
      return [{ path, content: null }, ...entriesOf(root, path)];
    });
}

const PAGE = 4096;

/** As tar finds a live /sys and /proc: an attribute is padded to a page, and a file of /proc is empty. */
export function asTarSees(entries: readonly Packed[]): Packed[] {
  return entries.map(({ path, content }) => {
    if (!Buffer.isBuffer(content)) return { path, content };
    if (path.startsWith('proc/')) return { path, content: Buffer.alloc(0) };
    return { path, content: Buffer.concat([content, Buffer.alloc(Math.max(0, PAGE - content.length))]) };
  });
}

const BLOCK = 512;

export function tarOf(entries: readonly Packed[]): Buffer {
  const parts = entries.flatMap(({ path, content }) => {
    const bytes = Buffer.isBuffer(content) ? content : Buffer.alloc(0);
    const described = {
      path: content === null ? `${path}/` : path,
      mode: 0o644,
      size: bytes.length,
      mtime: new Date(0),
      ...(content === null
        ? { type: 'Directory' as const }
        : Buffer.isBuffer(content)
          ? { type: 'File' as const }
          : { type: 'SymbolicLink' as const, linkpath: content.link }),
    };
    const header = new Header(described);
    const long = header.encode();
    const pax = long ? [new Pax({ path: described.path, ...linkOf(content) }).encode()] : [];
    return [...pax, header.block!, bytes, Buffer.alloc(-bytes.length & (BLOCK - 1))];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]);
}

function linkOf(content: Packed['content']): { linkpath?: string } {
  return content !== null && !Buffer.isBuffer(content) ? { linkpath: content.link } : {};
}

export type Packing = 'gz' | 'bz2' | 'xz' | 'zst';
const PROGRAMS = { bz2: 'bzip2', xz: 'xz', zst: 'zstd' } as const;

/** Null: the program is not installed here. */
export function packed(bytes: Buffer, packing: Packing, options: readonly string[] = []): Buffer | null {
  if (packing === 'gz') return gzipSync(bytes);
  const { status, stdout, error } = spawnSync(PROGRAMS[packing], ['-c', ...options], {
    input: bytes,
    maxBuffer: 2 ** 30,
  });
  if (error !== undefined) return null;
  if (status !== 0) throw new Error(`${PROGRAMS[packing]} failed`);
  return stdout;
}
