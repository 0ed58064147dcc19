/**
 * Debian's own kernel images, as its users boot them: the newest of a series that a suite still has, from
 * bookworm to sid. Their drivers are modules, so what the guest needs of them is packed behind the initramfs.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { cacheFolder, needSpace, output, run, VmError, which } from './host.js';

/** A kernel that is ready to be booted. */
export interface Kernel {
  readonly image: string;
  /** What it was made of: the version of Debian's package. */
  readonly source: string;
  /** Seconds that it took; 0 if it was in the cache. */
  readonly buildSeconds: number;
  /** An archive of its modules, for the end of the initramfs; null: it has none. */
  readonly modules: string | null;
}

const MIRROR = 'http://deb.debian.org/debian';
const SUITES = [
  `${MIRROR} bookworm main`,
  `${MIRROR}-security bookworm-security main`,
  `${MIRROR} trixie-backports main`,
  `${MIRROR} sid main`,
];
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** What init and the tests load, where the kernel does not have it built in; with what these depend on. */
const MODULES = [
  ...['virtio_pci', '9pnet_virtio', '9p', 'nvme', 'loop'],
  ...['raid0', 'raid1', 'raid10', 'dm-mod', 'dm-crypt', 'xts', 'aes_generic', 'cbc'],
  ...['crc32c_generic', 'ext4', 'xfs', 'btrfs', 'f2fs', 'squashfs', 'overlay'],
];

/** Raise it when what is kept of a kernel changes. */
const RECIPE = 1;

/** @throws VmError no suite has a kernel of this series */
export async function ensureStockKernel(series: string, report: (line: string) => void): Promise<Kernel> {
  const kept = cacheFolder('kernel', `stock-${series}-${RECIPE}`);
  const known = path.join(kept, 'release');
  const kernel = (release: string, buildSeconds: number): Kernel => ({
    image: path.join(kept, `vmlinuz-${release}`),
    source: release,
    buildSeconds,
    modules: path.join(kept, `modules-${release}.cpio`),
  });
  if (existsSync(known)) return kernel(readFileSync(known, 'utf8'), 0);

  needSpace(kept, 2 * 2 ** 30, 'Unpacking a kernel of Debian’s');
  const started = performance.now();
  const work = mkdtempSync(path.join(kept, 'work-'));
  const log = path.join(kept, 'build.log');
  try {
    const apt = await aptOfAllSuites(log);
    const release = newestOf(series, apt);
    report(`kernel: fetching Debian's ${release}`);
    const parts = ['image', 'binary', 'modules'].map((part) => `linux-${part}-${release}-amd64`);
    const offered = candidates(parts, apt);
    const wanted = parts.filter((name) => offered.get(name) === true);
    await run('apt-get', [...apt, 'download', '-q', ...wanted], {
      cwd: work,
      log,
      what: `Fetching ${release}`,
    });
    for (const deb of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
      await run('dpkg-deb', ['-x', deb, 'tree'], { cwd: work, log });
    }
    const made = kernel(`${release}-amd64`, (performance.now() - started) / 1000);
    await packModules(path.join(work, 'tree'), `${release}-amd64`, made.modules!, log);
    renameSync(imageIn(path.join(work, 'tree'), `${release}-amd64`), made.image);
    writeFileSync(known, `${release}-amd64`);
    report(`kernel: ${release} unpacked in ${made.buildSeconds.toFixed(0)} s`);
    return made;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Options that make apt look at these suites alone, in lists of our own: the machine's are left as they are. */
async function aptOfAllSuites(log: string): Promise<string[]> {
  const folder = cacheFolder('apt');
  for (const part of ['lists/partial', 'archives/partial'])
    mkdirSync(path.join(folder, part), { recursive: true });
  const sources = path.join(folder, 'sources.list');
  writeFileSync(sources, SUITES.map((suite) => `deb [signed-by=${KEYS}] ${suite}\n`).join(''));
  const set = {
    'Dir::Etc::sourcelist': sources,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::lists': path.join(folder, 'lists'),
    'Dir::Cache': folder,
    'Acquire::Languages': 'none',
  };
  const options = Object.entries(set).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  await run('apt-get', [...options, 'update', '-q'], { log, what: 'Reading Debian’s package lists' });
  return options;
}

/** `'7.3.4+deb13'`: of the kernels of a series, the newest that can still be fetched whole. */
function newestOf(series: string, apt: readonly string[]): string {
  const names = output('apt-cache', [...apt, 'pkgnames', `linux-image-${series}.`]) ?? '';
  const releases = names
    .split('\n')
    .flatMap((name) => /^linux-image-(\d[\w.+-]*)-amd64$/.exec(name)?.[1] ?? []);
  const plain = releases.filter((release) => /^[\d.]+(-\d+)?(\+deb[\d.]+)?$/.test(release));
  const parts = (release: string) => [`linux-image-${release}-amd64`, `linux-modules-${release}-amd64`];
  const offered = candidates(plain.flatMap(parts), apt);
  const whole = plain.filter((release) => {
    const [image = '', modules = ''] = parts(release);
    return offered.get(image) === true && offered.get(modules) !== false;
  });
  const newest = whole.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
  if (newest === undefined) throw new VmError(`Debian’s suites have no linux-image of ${series} any more.`);
  return newest;
}

/** Of these packages, those that apt knows of, and whether they can be fetched. Asked at once: each call reads all lists. */
function candidates(names: readonly string[], apt: readonly string[]): Map<string, boolean> {
  const known = new Map<string, boolean>();
  const policy = output('apt-cache', [...apt, 'policy', ...names]) ?? '';
  for (const [, name, candidate] of policy.matchAll(/^(\S+):\n.*\n {2}Candidate: (.*)$/gm)) {
    known.set(name!, candidate !== '(none)');
  }
  return known;
}

function imageIn(tree: string, release: string): string {
  const places = [`boot/vmlinuz-${release}`, `usr/lib/modules/${release}/vmlinuz`];
  const found = places.map((place) => path.join(tree, place)).find(existsSync);
  if (found === undefined) throw new VmError(`Debian’s packages of ${release} have no vmlinuz.`);
  return found;
}

const inOneSpelling = (module: string) => module.replaceAll('-', '_');

/** Take the modules that are wanted out of a package, unpack them, and make an archive that modprobe understands. */
async function packModules(tree: string, release: string, archive: string, log: string): Promise<void> {
  const files = new Map<string, string>();
  for (const root of ['lib/modules', 'usr/lib/modules']) {
    const folder = path.join(tree, root, release, 'kernel');
    if (!existsSync(folder)) continue;
    for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      const name = /([^/]+)\.ko(\.xz)?$/.exec(file)?.[1];
      if (name !== undefined) files.set(inOneSpelling(name), path.join(folder, file));
    }
  }
  const stage = path.join(tree, 'stage');
  const to = path.join(stage, 'lib/modules', release);
  mkdirSync(to, { recursive: true });
  const taken = new Set<string>();
  const take = async (name: string) => {
    const file = files.get(name);
    if (file === undefined || taken.has(name)) return;
    taken.add(name);
    const unpacked = path.join(to, `${name}.ko`);
    const unpack = file.endsWith('.xz') ? 'xz -dc' : 'cat';
    await run('sh', ['-c', `${unpack} '${file}' > '${unpacked}'`], { log });
    const depends = /\0depends=([^\0]*)\0/.exec(readFileSync(unpacked, 'latin1'))?.[1] ?? '';
    for (const needed of depends.split(',').filter((other) => other !== ''))
      await take(inOneSpelling(needed));
  };
  for (const name of MODULES) await take(inOneSpelling(name));
  await run(which('busybox')!, ['depmod', '-b', stage, release], { log, what: 'depmod' });
  await run('sh', ['-c', `find . | LC_ALL=C sort | cpio --quiet -o -H newc > '${archive}'`], {
    cwd: stage,
    log,
  });
}
