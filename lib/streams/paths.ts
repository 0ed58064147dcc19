import { fileURLToPath } from 'node:url';
import type { OpenOptions } from '../backend/backend.js';
import { optionError, shown } from '../base/arguments.js';
import { type ErrorCode, P2pdmaError, type P2pdmaErrorOptions } from '../base/errors.js';
import type { WriteStreamOptions } from './options.js';
import type { StreamContext } from './session.js';
import type { Source } from './source.js';

/** Gets the context of the system in which a path is opened. The system may have to be opened first. */
export type OpenContext = () => Promise<StreamContext>;

export function isPath(value: unknown): value is string | URL {
  return typeof value === 'string' || value instanceof URL;
}

/**
 * The path as text. `option`: the option that it was given as; without it, it is an end of a copy or stream.
 * @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function toPath(path: string | URL, option?: string): string {
  if (path instanceof URL) {
    if (path.protocol === 'file:') return fileURLToPath(path);
    throw wrongPath('ERR_INVALID_ARG_VALUE', option, `must be a file URL (received '${path.href}')`, {
      ...{ received: path, demand: 'a file URL' },
      hint:
        option === undefined
          ? 'Pass a path, the name of a namespace, or a URL that begins with file:.'
          : 'Pass a path, or a URL that begins with file:.',
    });
  }
  if (typeof path !== 'string') {
    const demand = 'a string or a file URL';
    const what = `must be ${demand} (received ${shown(path)})`;
    throw wrongPath('ERR_INVALID_ARG_TYPE', option, what, { received: path, demand });
  }
  if (path === '' || path.includes('\0')) {
    throw wrongPath('ERR_INVALID_ARG_VALUE', option, 'must not be empty or hold a zero byte', {
      ...{ received: path, demand: 'a path that is not empty and holds no zero byte' },
      hint:
        option === undefined
          ? 'Pass a path, or the name of a namespace: `p2pdma list` shows them.'
          : 'Pass the path of a file.',
    });
  }
  return path;
}

function wrongPath(
  code: ErrorCode,
  option: string | undefined,
  what: string,
  facts: P2pdmaErrorOptions,
): P2pdmaError {
  return option === undefined
    ? new P2pdmaError(code, `path: ${what}`, facts)
    : optionError(code, option, what, facts);
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
