import { fileURLToPath } from 'node:url';
import type { OpenOptions } from '../backend/backend.js';
import { shown } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import type { WriteStreamOptions } from './options.js';
import type { StreamContext } from './session.js';
import type { Source } from './source.js';

/** Gets the context of the system in which a path is opened. The system may have to be opened first. */
export type OpenContext = () => Promise<StreamContext>;

export function isPath(value: unknown): value is string | URL {
  return typeof value === 'string' || value instanceof URL;
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
export function toPath(path: string | URL): string {
  if (path instanceof URL) {
    if (path.protocol === 'file:') return fileURLToPath(path);
    throw new P2pdmaError('ERR_INVALID_ARG_VALUE', `path: must be a file URL (received '${path.href}')`, {
      hint: 'Pass a path, the name of a namespace, or a URL that begins with file:.',
    });
  }
  if (typeof path !== 'string') {
    throw new P2pdmaError(
      'ERR_INVALID_ARG_TYPE',
      `path: must be a string or a file URL (received ${shown(path)})`,
    );
  }
  if (path === '' || path.includes('\0')) {
    throw new P2pdmaError('ERR_INVALID_ARG_VALUE', 'path: must not be empty or hold a zero byte', {
      hint: 'Pass a path, or the name of a namespace: `p2pdma list` shows them.',
    });
  }
  return path;
}

/** The source of a stream over a path. It is opened when the stream is constructed. */
export function pathSource(context: OpenContext, path: string, options: OpenOptions): Source {
  return { path, owned: true, open: () => openPath(context, path, options) };
}

async function openPath(open: OpenContext, path: string, options: OpenOptions) {
  const context = await open();
  return { context, target: await context.openTarget(path, options) };
}

export function writeFlags(options: WriteStreamOptions = {}): OpenOptions {
  const { flags = 'w', force = false, engine = 'auto' } = options;
  return {
    write: true,
    force,
    engine,
    create: flags !== 'r+',
    exclusive: flags === 'wx',
    truncate: flags !== 'r+',
  };
}
