/**
 * Finds the file of the C++ addon, or says in words why no file can be loaded. A file that was built on this machine has
 * priority over one that came prebuilt with the package.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { P2pdmaError } from '../base/errors.js';
import { type Sentence, said } from '../base/sentence.js';
import { SysfsTree } from './sysfs/tree.js';

const PACKAGE = 'p2pdma';
const MAX_MAPS = 4 * 1024 * 1024;
const TRY_IT: Sentence = (option) =>
  `To try it without, emulate a machine: ${option('machine', "'switch'")}.`;

/** @throws P2pdmaError ERR_BACKEND_UNAVAILABLE: the reason why it cannot be loaded, and what to do about it. */
export function loadAddonFile(): unknown {
  if (process.platform !== 'linux') {
    throw new P2pdmaError(
      'ERR_BACKEND_UNAVAILABLE',
      `the native backend needs Linux, but this is ${process.platform}`,
      {
        hint: TRY_IT,
      },
    );
  }
  const root = packageRoot();
  const file = find(root);
  try {
    return createRequire(file)(file);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_DLOPEN_DISABLED') throw disabled(cause);
    assertLoader(cause);
    throw unavailable(`'${file}' does not load: ${firstLine(cause)}`, { hint: buildIt(root), cause });
  }
}

/** @throws P2pdmaError ERR_BACKEND_UNAVAILABLE: it was neither built here nor prebuilt. */
function find(root: string): string {
  try {
    const finder: { resolve(folder: string): string } = createRequire(import.meta.url)('node-gyp-build');
    // The finder assumes glibc on every Linux except Alpine.
    return finder.resolve(root).replace(/\.(glibc|musl)\.node$/, `.${libc()}.node`);
  } catch (cause) {
    assertLoader(cause);
    const prebuilt = `prebuilds/linux-${process.arch}/p2pdma.${libc()}.node`;
    throw unavailable(
      `in '${root}' there is no build/Release/p2pdma.node, no ${prebuilt} (${firstLine(cause)})`,
      { hint: buildIt(root), cause },
    );
  }
}

/** The C library of this process. It decides which file is loaded: the other file would bind to the wrong symbols. */
function libc(): 'glibc' | 'musl' {
  // Null: there is no /proc, or it is not readable.
  const maps = new SysfsTree('/').text('proc/self/maps', MAX_MAPS, { optional: true }) ?? '';
  // musl's loader is its C library. Alpine keeps it under the loader's name; elsewhere that name is a link to libc.so.
  return /\/(ld-musl-|libc\.musl-|libc\.so$)/m.test(maps) ? 'musl' : 'glibc';
}

/** The folder of this package's package.json, wherever the compiled files are. */
function packageRoot(): string {
  const here = thisFile();
  for (let directory = dirname(here); ; directory = dirname(directory)) {
    if (nameOf(directory) === PACKAGE) return directory;
    if (dirname(directory) === directory) {
      throw bundled(
        `'${here}' is not inside the package ${PACKAGE}: a bundler took the code and left the addon out`,
      );
    }
  }
}

/** A bundler that writes CommonJS leaves import.meta empty. */
function thisFile(): string {
  const { url } = import.meta as { url?: string };
  return url === undefined ? process.argv[1] || process.execPath : fileURLToPath(url);
}

function nameOf(directory: string): unknown {
  try {
    return (JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as { name?: unknown }).name;
  } catch {
    return null;
  }
}

export function unavailable(why: string, options: { hint: string; cause?: unknown }): P2pdmaError {
  const hint: Sentence = (option) => `${options.hint} ${said(TRY_IT, option)}`;
  return new P2pdmaError('ERR_BACKEND_UNAVAILABLE', `the native addon could not be loaded: ${why}`, {
    ...options,
    hint,
  });
}

/** webpack replaces createRequire(): what is left in its place is no function, on the machine that has the addon too. */
function assertLoader(cause: unknown): void {
  if (cause instanceof TypeError && !('code' in cause)) {
    throw bundled(`a bundler replaced what loads it (${firstLine(cause)})`, cause);
  }
}

function bundled(why: string, cause?: unknown): P2pdmaError {
  return unavailable(why, {
    hint:
      `Mark the package external, and ship node_modules/${PACKAGE} with the bundle: esbuild --external:${PACKAGE}, ` +
      `rollup and webpack externals: ['${PACKAGE}'], ncc -e ${PACKAGE}. A single executable cannot hold an addon: it ` +
      'loads the package from a folder beside it.',
    cause,
  });
}

function disabled(cause: unknown): P2pdmaError {
  return unavailable(
    'this process may not load addons (--no-addons, or --permission without --allow-addons)',
    {
      hint: 'Start Node without --no-addons, and under --permission with --allow-addons.',
      cause,
    },
  );
}

/** The command is not `npm rebuild`: where install scripts are blocked, that reports success although no script was run. */
export function buildIt(root = packageRoot()): string {
  const script = relative(process.cwd(), join(root, 'scripts/build-addon.cjs'));
  return `Build it here: node ${script} (this needs a C++ compiler; nothing is downloaded).`;
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}
