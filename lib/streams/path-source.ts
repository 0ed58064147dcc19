/**
 * What a stream over a path, a descriptor or a FileHandle opens. This package's own I/O serves namespaces, block devices and
 * files. The rest (pipes, character devices, appending, descriptors of others) is opened, read and written by node:fs, and the
 * receipt says why.
 */
import type { EventEmitter } from 'node:events';
import type { FileHandle } from 'node:fs/promises';
import type { BlockTarget, OpenOptions } from '../backend/backend.js';
import { wrongOption } from '../base/arguments.js';
import { atNeed } from '../base/at-need.js';
import { EINVAL } from '../base/errno.js';
import { errnoError, hostError, P2pdmaError } from '../base/errors.js';
import type { PlainTarget } from '../host/plain-target.js';
import { BlockFile, type HandleFile } from './handle-file.js';
import { type Opening, openingOf } from './open-flags.js';
import type { ReadStreamOptions, WriteStreamOptions } from './options.js';
import { type OpenContext, toPath } from './paths.js';
import type { StreamContext } from './session.js';
import type { Source } from './source.js';

// Few streams are plain.
const plainTarget = atNeed(() => import('../host/plain-target.js'));
const plainFile = atNeed(() => import('../host/plain-file.js'));
const plainHandle = atNeed(() => import('./plain-handle-file.js'));
const deviceNames = atNeed(() => import('../host/device-names.js'));
const pathAdvice = atNeed(() => import('../host/path-advice.js'));

type Given = ReadStreamOptions & WriteStreamOptions;
type Role = 'reader' | 'writer' | 'both';

/**
 * The source of a stream. It is opened when the stream is constructed.
 * @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE
 */
export function pathSource(
  context: OpenContext,
  path: string | Buffer | URL | null | undefined,
  options: Given,
  role: Role,
): Source {
  if (options.fd != null) return borrowed(context, options.fd, options.start !== undefined);
  const { name, bytes, opened } = namedBy(path);
  // As in node:fs, wrong flags and a wrong mode are errors of the stream, when it is opened.
  const open = () => openPath(context, opened, options, role);
  return bytes === undefined
    ? { path: name, owned: true, open }
    : { path: name, owned: true, open, given: { path: bytes } };
}

/**
 * What `system.open` opens.
 * @throws P2pdmaError as open(2) would; EINVAL: a socket, or a device with flags that only fit a file
 */
export async function openForHandle(
  context: StreamContext,
  path: string | Buffer | URL,
  flags: string | number | null,
  mode: number | string | null | undefined,
): Promise<HandleFile> {
  const way = { flags, mode: mode ?? null, start: 0 };
  const { target } = await openPath(async () => context, namedBy(path).opened, way, 'both');
  if (target.inOrder === undefined) return new BlockFile(context, target, openingOf(flags, 'both'));
  const { PlainHandleFile } = await plainHandle();
  return new PlainHandleFile(context, target as PlainTarget);
}

/** How a path is opened. */
interface Way {
  readonly opening: Opening;
  readonly mode: number | undefined;
  /** For the backend. */
  readonly how: OpenOptions;
  readonly positioned: boolean;
}

type Named = string | { readonly name: string; readonly bytes: Buffer };

/**
 * A path as text, its bytes if it was given as bytes, and what is opened: the bytes, if text cannot say them.
 * @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_INVALID_URL_SCHEME
 */
function namedBy(path: string | Buffer | URL | null | undefined): {
  readonly name: string;
  readonly bytes?: Buffer;
  readonly opened: Named;
} {
  if (!(path instanceof Uint8Array)) {
    const name = toPath(path as string | URL);
    return { name, opened: name };
  }
  const bytes = Buffer.from(path.buffer, path.byteOffset, path.byteLength);
  const name = toPath(bytes.toString());
  return { name, bytes, opened: Buffer.from(name).equals(bytes) ? name : { name, bytes } };
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE */
function wayOf(options: Given, role: Role): Way {
  const { force = false, engine = 'auto', flags = role === 'reader' ? 'r' : 'w', start } = options;
  const opening = openingOf(flags, role);
  const { write, create, exclusive, truncate } = opening;
  const mode = fileMode(options.mode);
  const how = { write, create, exclusive, truncate, force, engine, mode };
  return { opening, mode, how, positioned: start !== undefined };
}

async function openPath(open: OpenContext, path: Named, options: Given, role: Role) {
  const way = wayOf(options, role);
  const context = await open();
  const reason = typeof path === 'string' ? way.opening.plain : 'its path is not UTF-8';
  if (reason !== null) return { context, target: await openPlain(context, path, way, reason) };
  const name = path as string;
  try {
    return { context, target: await context.openTarget(name, way.how) };
  } catch (error) {
    const what = await whatIsSpecial(error, name);
    if (what === null) throw error;
    return { context, target: await openPlain(context, name, way, `${what} has no offsets and no size`) };
  }
}

/** What the backend refused to open because it is neither a file nor a block device, in words. */
async function whatIsSpecial(error: unknown, path: string): Promise<string | null> {
  if (!(error instanceof P2pdmaError) || error.code !== 'EINVAL' || error.syscall !== 'open') return null;
  const { specialFile, statOrNull } = await pathAdvice();
  const stats = statOrNull(path);
  if (stats === null || stats.isSocket()) return null;
  return (
    specialFile(stats) ?? (stats.isFile() && stats.size === 0 ? 'a file that is made when it is read' : null)
  );
}

/** @throws P2pdmaError as open(2) would; ENOENT for the name of a device that does not exist; EINVAL for a device */
async function openPlain(
  context: StreamContext,
  path: Named,
  { mode, positioned, opening }: Way,
  reason: string,
): Promise<BlockTarget> {
  const name = typeof path === 'string' ? path : path.name;
  const [{ PlainTarget }, { openPlainFile }, { assertNoDeviceName }, { statOrNull }] = await Promise.all([
    plainTarget(),
    plainFile(),
    deviceNames(),
    pathAdvice(),
  ]);
  if (typeof path === 'string') {
    const isDevice = context.backend.inspect(name).kind !== 'file' || statOrNull(name)?.isBlockDevice();
    if (isDevice) {
      throw errnoError(-EINVAL, 'open', name, {
        what: `a device cannot be opened like this: ${reason}`,
        hint: (option) => `Leave ${option('flags')} out, and say where to begin with ${option('start')}.`,
      });
    }
    assertNoDeviceName(name, context.backend.controllers, { create: opening.create });
  }
  return context.adopt(
    openPlainFile(typeof path === 'string' ? path : path.bytes, opening.bits, mode).then(
      (file) => new PlainTarget(file, { path: name, reason, positioned }),
      (error: NodeJS.ErrnoException) => {
        throw hostError(error, 'open', name);
      },
    ),
  );
}

function borrowed(open: OpenContext, given: number | FileHandle, positioned: boolean): Source {
  const number = typeof given === 'number' ? given : given.fd;
  if (number < 0 || number >= 2 ** 31) {
    const demand = 'a descriptor: 0 or more';
    throw wrongOption('fd', { code: 'ERR_OUT_OF_RANGE', demand, received: number });
  }
  const path = `fd ${number}`;
  const reason = 'the descriptor is somebody else’s: its flags and its position are theirs';
  return {
    ...{ path, given: { path: undefined }, fd: number, owned: true },
    whenGone: (gone) => {
      // A FileHandle is an EventEmitter, which its type does not say.
      const { once } = given as unknown as Partial<EventEmitter>;
      once?.call(given, 'close', gone);
    },
    open: async () => {
      const context = await open();
      const [{ PlainTarget }, files] = await Promise.all([plainTarget(), plainFile()]);
      const file = typeof given === 'number' ? files.fileOfNumber(given) : files.fileOfHandle(given);
      const target = new PlainTarget(file, { path, reason, positioned });
      return { context, target };
    },
  };
}

/** As node:fs reads a mode: a number, or octal digits. The option tables let any value through to here. */
function fileMode(mode: number | string | null | undefined): number | undefined {
  if (mode == null) return undefined;
  const digits = typeof mode === 'string' && /^[0-7]+$/.test(mode);
  const value: unknown = digits ? Number.parseInt(mode, 8) : mode;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32) return value;
  const code = { number: 'ERR_OUT_OF_RANGE', string: 'ERR_INVALID_ARG_VALUE' } as const;
  throw wrongOption('mode', {
    code: code[typeof value as 'number' | 'string'] ?? 'ERR_INVALID_ARG_TYPE',
    demand: 'the permissions of a new file, as a number or in octal digits',
    received: mode,
  });
}
