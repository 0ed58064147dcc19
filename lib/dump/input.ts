/** Reads what the user named: files, folders, bytes. Reading stops at a limit. */
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hostError, P2pdmaError } from '../base/errors.js';
import { size } from '../base/words.js';
import { tooMuch } from './bounds.js';
import type { Sent } from './sent.js';

export type Input = string | Uint8Array;

/** A packed tree of the whole /sys has a few MiB; a sosreport has some hundred. */
const MOST_BYTES = 1024 * 2 ** 20;
/** The maximum number of files in a folder that is not a captured tree. */
const MOST_FILES = 20_000;
const MOST_DEPTH = 12;

export interface Looked {
  /** The name of all inputs together. */
  readonly name: string;
  readonly sent: Sent[];
  /** The folder that directly contains sys/ and proc/; null: there is none. */
  readonly tree: string | null;
  /** The folders of unpacked sosreports. */
  readonly reports: readonly string[];
}

/** @throws P2pdmaError ENOENT, EACCES, …; ERR_INVALID_ARG_VALUE: the input exceeds a limit */
export async function lookAt(inputs: readonly Input[]): Promise<Looked> {
  const looked = {
    name: nameOf(inputs[0]),
    sent: [] as Sent[],
    tree: null as string | null,
    reports: [] as string[],
  };
  const room = { bytes: MOST_BYTES, files: MOST_FILES };
  for (const input of inputs) {
    if (typeof input !== 'string') {
      looked.sent.push({ name: nameOf(input), bytes: Buffer.from(input) });
      continue;
    }
    const kind = await readPath(input, looked.sent, room);
    if (kind === 'tree') looked.tree ??= input;
    if (kind === 'report') looked.reports.push(input);
  }
  return looked;
}

function nameOf(input: Input | undefined): string {
  return typeof input === 'string' ? input : 'the bytes given';
}

interface Room {
  bytes: number;
  files: number;
}

/** What the folder is that is not read here: a captured tree, or an unpacked sosreport. */
async function readPath(path: string, into: Sent[], room: Room): Promise<'tree' | 'report' | null> {
  const names = await directoryNames(path);
  if (names === null) {
    into.push({ name: path, bytes: await readWhole(path, room) });
    return null;
  }
  if (names.includes('sos_commands')) return 'report';
  if (names.includes('sys')) return 'tree';
  await walk(path, '', into, room);
  return null;
}

/** Null: it is not a folder. */
async function directoryNames(path: string): Promise<string[] | null> {
  try {
    return await readdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return null;
    throw hostError(error as Error, 'open', path);
  }
}

/** Collect the files of a folder, named by their paths in it; links are not followed. */
async function walk(top: string, below: string, into: Sent[], room: Room): Promise<void> {
  if (below.split('/').length > MOST_DEPTH) throw tooMuch(top, `folders more than ${MOST_DEPTH} deep`);
  const at = join(top, below);
  const entries = await readdir(at, { withFileTypes: true }).catch((error: Error) => {
    throw hostError(error, 'open', at);
  });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const name = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) await walk(top, name, into, room);
    else if (entry.isFile()) {
      if (room.files-- === 0) throw tooMuch(top, `more than ${MOST_FILES} files`);
      into.push({ name, bytes: await readWhole(join(top, name), room) });
    }
  }
}

async function readWhole(path: string, room: Room): Promise<Buffer> {
  let file: FileHandle | null = null;
  try {
    file = await open(path, 'r');
    const chunks: Buffer[] = [];
    for await (const chunk of file.createReadStream({ autoClose: false })) {
      room.bytes -= (chunk as Buffer).length;
      if (room.bytes < 0) throw tooMuch(path, `more than ${size(MOST_BYTES)}`);
      chunks.push(chunk as Buffer);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    throw error instanceof P2pdmaError ? error : hostError(error as Error, 'read', path);
  } finally {
    await file?.close();
  }
}
