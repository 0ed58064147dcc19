import { fileURLToPath } from 'node:url';
import type { OpenOptions } from '../backend/backend.js';
import type { Engine } from '../backend/system-options.js';
import { optionError, shown } from '../base/arguments.js';
import { type ErrorCode, P2pdmaError, type P2pdmaErrorOptions } from '../base/errors.js';
import { openingOf } from './open-flags.js';
import type { StreamContext } from './session.js';

/** Gets the context of the system in which a path is opened. The system may have to be opened first. */
export type OpenContext = () => Promise<StreamContext>;

export function isPath(value: unknown): value is string | URL {
  return typeof value === 'string' || value instanceof URL;
}

/**
 * The path as text. `option`: the option that it was given as; without it, it is an end of a copy or stream.
 * @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_INVALID_URL_SCHEME
 */
export function toPath(path: string | URL, option?: string): string {
  if (path instanceof URL) {
    if (path.protocol === 'file:') return fileURLToPath(path);
    throw wrongPath('ERR_INVALID_URL_SCHEME', option, `must be a file URL (received '${path.href}')`, {
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

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: it is not UTF-8, so text would name another file */
export function textOf(path: Uint8Array): string {
  const bytes = Buffer.from(path.buffer, path.byteOffset, path.byteLength);
  const text = bytes.toString();
  if (Buffer.from(text).equals(bytes)) return text;
  throw wrongPath('ERR_INVALID_ARG_VALUE', undefined, `must be UTF-8 (received ${shown(path)})`, {
    ...{ received: path, demand: 'UTF-8' },
  });
}

/** How a copy opens its destinations. */
export function writeFlags(
  options: {
    flags?: string | number | null | undefined;
    force?: boolean | undefined;
    engine?: Engine | undefined;
  } = {},
): OpenOptions {
  const { flags = 'w', force = false, engine = 'auto' } = options;
  const { write, create, exclusive, truncate } = openingOf(flags, 'writer');
  return { write, create, exclusive, truncate, force, engine };
}
