/** A sosreport that was unpacked: it is read as its archive is, so that what was not copied into it is not taken for missing. */
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { hostError } from '../base/errors.js';
import { Bounds, tooMuch } from './bounds.js';
import { Captured } from './captured.js';
import type { Gathered, Sent } from './sent.js';

/** No path of a sosreport has more components. */
const MOST_DEPTH = 64;

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: more than is read; ENOENT, EACCES, … */
export async function openUnpacked(top: string, into: Gathered): Promise<readonly Sent[]> {
  const bounds = new Bounds(top, 0);
  const captured = new Captured(top, bounds);
  await walk(top, [], captured, bounds);
  captured.putInto(into, 'unpacked');
  return captured.texts();
}

async function walk(top: string, path: readonly string[], captured: Captured, bounds: Bounds): Promise<void> {
  if (path.length > MOST_DEPTH) throw tooMuch(top, `folders more than ${MOST_DEPTH} deep`);
  const at = join(top, ...path);
  const names = await readdir(at).catch(failed('open', at));
  for (const name of names.sort()) {
    bounds.entry();
    const below = [...path, name];
    const file = join(at, name);
    const stat = await lstat(file).catch(failed('stat', file));
    if (stat.isDirectory()) {
      captured.take({ path: below, kind: 'directory', target: null, size: 0 });
      await walk(top, below, captured, bounds);
    } else if (stat.isSymbolicLink()) {
      const target = await readlink(file).catch(failed('open', file));
      captured.take({ path: below, kind: 'link', target, size: 0 });
    } else if (stat.isFile()) {
      const keep = captured.take({ path: below, kind: 'file', target: null, size: stat.size });
      if (keep !== null) keep(await readFile(file).catch(failed('read', file)));
    }
  }
}

function failed(call: 'open' | 'read' | 'stat', path: string): (error: Error) => never {
  return (error) => {
    throw hostError(error, call, path);
  };
}
