/**
 * Files in memory, used instead of a directory with a captured sys/ and proc/. They are made from an archive or from a text, in
 * the form in which the kernel would show the same facts. They are read only through SysfsTree, which does not follow links out
 * of them.
 */
import type { Content, Entry, EntryKind, Files } from '../native/sysfs/tree.js';

type Folder = Map<string, Node>;
type Node = Folder | Buffer | { readonly target: string };

/** No sysfs path has more components than this. */
const MAX_DEPTH = 64;
const MAX_LINKS = 40;

export class MemoryFiles implements Files {
  readonly root: string;
  readonly live = false;
  readonly genuine = false;
  peerMemory = false;
  readonly #top: Folder = new Map();

  constructor(root: string) {
    this.root = root;
  }

  /** False: there is already an entry at this path; the first one stays. */
  put(path: readonly string[], content: Buffer | string): boolean {
    return this.#add(path, typeof content === 'string' ? Buffer.from(content) : content);
  }

  /** Is exactly this at this path? */
  holds(path: readonly string[], content: Buffer): boolean {
    const node = this.#nodeAt(path);
    return Buffer.isBuffer(node) && node.equals(content);
  }

  /** The same for a symlink; its target begins at the root if it has a leading slash. */
  link(path: readonly string[], target: string): boolean {
    return this.#add(path, { target });
  }

  folder(path: readonly string[]): boolean {
    return this.#folderAt(path) !== null;
  }

  kindOf(path: readonly string[]): EntryKind | undefined {
    const node = this.#nodeAt(path);
    return node === undefined ? undefined : kindOfNode(node);
  }

  entries(path: readonly string[]): Entry[] {
    const node = this.#nodeAt(path);
    if (!(node instanceof Map)) throw failure(node === undefined ? 'ENOENT' : 'ENOTDIR');
    return [...node].map(([name, below]) => ({ name, kind: kindOfNode(below) }));
  }

  linkTarget(path: readonly string[]): string {
    const node = this.#nodeAt(path);
    if (node === undefined) throw failure('ENOENT');
    if (node instanceof Map || Buffer.isBuffer(node)) throw failure('EINVAL');
    return node.target;
  }

  read(path: readonly string[], maxBytes: number): Content {
    const node = this.#nodeAt(path);
    if (Buffer.isBuffer(node)) return { bytes: node.subarray(0, maxBytes), size: node.length };
    throw failure(node === undefined ? 'ENOENT' : 'EISDIR');
  }

  #nodeAt(path: readonly string[]): Node | undefined {
    let node: Node | undefined = this.#top;
    for (const name of path) node = node instanceof Map ? node.get(name) : undefined;
    return node;
  }

  #add(path: readonly string[], node: Node): boolean {
    const name = path.at(-1);
    const above = this.#folderAt(path.slice(0, -1));
    if (name === undefined || above === null || above.has(name)) return false;
    above.set(name, node);
    return true;
  }

  /** Makes what is missing, below links too. */
  #folderAt(path: readonly string[], links = 0): Folder | null {
    if (path.length > MAX_DEPTH || links > MAX_LINKS) return null;
    let folder = this.#top;
    for (const [index, name] of path.entries()) {
      const below: Node = folder.get(name) ?? new Map();
      if (Buffer.isBuffer(below)) return null;
      if (!(below instanceof Map)) {
        const target = resolved(path.slice(0, index), below.target);
        return target === null ? null : this.#folderAt([...target, ...path.slice(index + 1)], links + 1);
      }
      folder.set(name, below);
      folder = below;
    }
    return folder;
  }
}

/** The path to which a link in the folder `from` leads; null: out of these files. */
function resolved(from: readonly string[], target: string): string[] | null {
  const path = target.startsWith('/') ? [] : [...from];
  for (const part of target.split('/')) {
    if (part === '..' && path.pop() === undefined) return null;
    if (part !== '' && part !== '.' && part !== '..') path.push(part);
  }
  return path;
}

function kindOfNode(node: Node): EntryKind {
  return node instanceof Map ? 'directory' : Buffer.isBuffer(node) ? 'file' : 'link';
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}
