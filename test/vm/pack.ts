import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, needSpace, repository, run } from './host.js';
import type { Userland } from './initramfs.js';

/** The folder that tsc wrote: dist, or whatever --outDir said. */
const compiled = path.relative(repository, fileURLToPath(new URL('../..', import.meta.url)));

/** What the guest reads of the repository, beside compiled code and packages. */
const ALSO = ['package.json', 'schema', 'docs', 'build/Release', 'prebuilds', 'test/vm'];
const READ = /\.([cm]?js|json|node|md)$/;

/**
 * Packages that the guest's tests depend on but never load: tap's own runner and its compilers. Should one be loaded
 * after all, the guest says so: it is not there.
 */
const UNLOADED = new Set(['typescript', '@typescript/native-preview', '@tapjs/run', 'react-dom']);

/** The initramfs, and the repository's part that tests load, in one image. */
export interface Image {
  readonly file: string;
  discard(): void;
}

/**
 * Put the code into the guest's memory. Over 9p, where each stat and read is a round trip to the host, loading tap
 * and the library takes longer than most tests.
 */
export async function packImage({ initramfs }: Userland): Promise<Image> {
  const kept = cacheFolder('run');
  needSpace(kept, 2 ** 29, 'Packing the repository for the guest');
  const folder = mkdtempSync(path.join(kept, 'image-'));
  const discard = () => rmSync(folder, { recursive: true, force: true });
  try {
    const to = path.join(folder, 'stage/repo');
    for (const part of [...ALSO, `${compiled}/lib`, `${compiled}/test`])
      copyRead(path.join(repository, part), to);
    for (const dependency of packages()) copyRead(dependency, to);
    const file = path.join(folder, 'initramfs');
    const pack = `{ cat '${initramfs}'; cd stage; find . | LC_ALL=C sort | cpio --quiet -o -H newc; } > '${file}'`;
    await run('sh', ['-c', pack], { cwd: folder, what: 'Packing the repository for the guest' });
    rmSync(path.join(folder, 'stage'), { recursive: true });
    return { file, discard };
  } catch (error) {
    discard();
    throw error;
  }
}

/** Copy what a guest may read of a file or folder of the repository to the same place below `to`. */
function copyRead(from: string, to: string): void {
  if (!existsSync(from)) return;
  if (statSync(from).isDirectory()) {
    for (const name of readdirSync(from)) {
      if (name !== 'node_modules' && !name.startsWith('.')) copyRead(path.join(from, name), to);
    }
    return;
  }
  if (!READ.test(from)) return;
  const target = path.join(to, path.relative(repository, from));
  mkdirSync(path.dirname(target), { recursive: true });
  copyFileSync(from, target);
}

interface PackageJson {
  readonly dependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
}

/** The folders of what tests load: tap, fast-check, zod (which users get bundled), our dependencies, and theirs. */
function packages(): Set<string> {
  const found = new Set<string>();
  const visit = (folder: string, names: readonly string[]) => {
    for (const name of names) {
      const dependency = UNLOADED.has(name) ? null : resolve(folder, name);
      if (dependency === null || found.has(dependency)) continue;
      found.add(dependency);
      const { dependencies, peerDependencies } = readPackage(dependency);
      visit(dependency, Object.keys({ ...dependencies, ...peerDependencies }));
    }
  };
  visit(repository, ['tap', 'fast-check', 'zod', ...Object.keys(readPackage(repository).dependencies ?? {})]);
  return found;
}

function readPackage(folder: string): PackageJson {
  return JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as PackageJson;
}

/** As node looks for a package; null: an optional one that is not installed. */
function resolve(from: string, name: string): string | null {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const found = path.join(folder, 'node_modules', name);
    if (existsSync(path.join(found, 'package.json'))) return found;
    if (folder === repository) return null;
  }
}
