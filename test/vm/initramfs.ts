import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import path from 'node:path';
import { cacheFolder, hashOf, needSpace, output, run, VmError, vmFile, which } from './host.js';

/** Tools of the guest besides busybox and node, with the Debian package that has each. */
const TOOLS: Record<string, string> = {
  'mkfs.ext4': 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  'mkfs.f2fs': 'f2fs-tools',
  mksquashfs: 'squashfs-tools',
  dmsetup: 'dmsetup',
  nvme: 'nvme-cli',
  fio: 'fio',
};

/** C programs of test/vm, linked statically so that they run in any guest. */
const PROGRAMS = ['copy', 'probe'];

export interface Userland {
  /** busybox, node, init: unpacked into the guest's memory. */
  readonly initramfs: string;
  /** bin/ and lib/ with the larger tools; the guest mounts it over 9p and reads what it uses. */
  readonly tools: string;
}

export async function ensureUserland(report: (line: string) => void = () => {}): Promise<Userland> {
  return { initramfs: await ensureInitramfs(report), tools: await ensureTools(report) };
}

/** Shared libraries of a program, as the loader would find them; the loader itself included. */
function libraries(program: string): string[] {
  const listing = output('ldd', [program]);
  if (listing === null) return []; // static
  const files = [...listing.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1]!);
  if (/not found/.test(listing)) throw new VmError(`${program} lacks a library:\n${listing}`);
  return files;
}

function stamp(file: string): string {
  const real = realpathSync(file);
  const { size, mtimeMs } = statSync(real);
  return `${file} ${real} ${size} ${mtimeMs}`;
}

async function ensureInitramfs(report: (line: string) => void): Promise<string> {
  const busybox = which('busybox');
  if (busybox === null) throw new VmError('No busybox. Run: apt-get install busybox-static');
  if (libraries(busybox).length > 0)
    throw new VmError('busybox is not static. Run: apt-get install busybox-static');
  if (which('cpio') === null) throw new VmError('No cpio. Run: apt-get install cpio');
  const node = realpathSync(process.execPath);
  const libs = libraries(node);
  const init = readFileSync(vmFile('guest', 'init'));
  const key = hashOf(init, ...[busybox, node, ...libs].map(stamp));
  const kept = cacheFolder('initramfs');
  const file = path.join(kept, `initramfs-${key}.cpio`);
  if (existsSync(file)) return file;

  needSpace(kept, 2 ** 29, 'Building the initramfs');
  const root = mkdtempSync(path.join(kept, 'root-'));
  try {
    for (const folder of ['bin', 'dev', 'etc', 'lib', 'lib64', 'mnt', 'out', 'proc', 'sys', 'tmp', 'tools']) {
      mkdirSync(path.join(root, folder));
    }
    copyFileSync(busybox, path.join(root, 'bin/busybox'));
    symlinkSync('busybox', path.join(root, 'bin/sh'));
    copyFileSync(node, path.join(root, 'bin/node'));
    for (const lib of libs) {
      const to = path.join(root, lib);
      mkdirSync(path.dirname(to), { recursive: true });
      copyFileSync(realpathSync(lib), to);
    }
    copyFileSync(vmFile('guest', 'init'), path.join(root, 'init'));
    chmodSync(path.join(root, 'init'), 0o755);
    const made = path.join(kept, `${path.basename(root)}.cpio`);
    const log = path.join(kept, 'build.log');
    await run('sh', ['-c', `find . | LC_ALL=C sort | cpio --quiet -o -H newc > '${made}'`], {
      cwd: root,
      log,
    });
    renameSync(made, file);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  report(`initramfs: built, ${(statSync(file).size / 2 ** 20).toFixed(0)} MiB`);
  return file;
}

async function ensureTools(report: (line: string) => void): Promise<string> {
  const found: string[] = [];
  for (const [tool, debian] of Object.entries(TOOLS)) {
    const program = which(tool);
    if (program === null) throw new VmError(`No ${tool}. Run: apt-get install ${debian}`);
    found.push(program);
  }
  const sources = PROGRAMS.map((name) => readFileSync(vmFile(`${name}.c`)));
  const key = hashOf(...found.map(stamp), ...sources);
  const kept = cacheFolder('tools');
  const folder = path.join(kept, key);
  if (existsSync(folder)) return folder;

  needSpace(kept, 2 ** 29, 'Collecting the guest’s tools');
  const work = mkdtempSync(path.join(kept, 'work-'));
  try {
    mkdirSync(path.join(work, 'bin'));
    mkdirSync(path.join(work, 'lib'));
    for (const program of found) {
      copyFileSync(realpathSync(program), path.join(work, 'bin', path.basename(program)));
      for (const lib of libraries(program))
        copyFileSync(realpathSync(lib), path.join(work, 'lib', path.basename(lib)));
    }
    const log = path.join(kept, 'build.log');
    for (const name of PROGRAMS) {
      const to = path.join(work, 'bin', name);
      await run(
        'gcc',
        ['-O2', '-Wall', '-Wextra', '-Werror', '-static', '-pthread', '-o', to, vmFile(`${name}.c`)],
        {
          log,
        },
      );
    }
    chmodSync(work, 0o755);
    renameSync(work, folder);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    throw error;
  }
  report(`tools: collected in ${folder}`);
  return folder;
}
