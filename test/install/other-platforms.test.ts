/**
 * The prebuilt addons that this machine's Node does not load, run all the same: the smoke test on a Node for arm64, by
 * qemu-user, and on a Bun for musl, with Debian's musl as its loader and C library. (There is no package of a Node for musl.)
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { fetched } from '../helpers/runtimes.js';

t.setTimeout(600_000);

const root = fileURLToPath(new URL('../../../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-platforms-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const NO_LEAKS = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };
const EXPECTED = {
  native: { verified: true, bytes: true, equal: true, cut: true, leaks: NO_LEAKS },
  emulated: { verified: true, transport: 'p2p-bus', cut: true, leaks: NO_LEAKS },
};

/** The package with the prebuilt addons of one processor, and the smoke test beside its files. */
function unpacked(prebuilt: string): string {
  const directory = mkdtempSync(join(folder, 'package-'));
  cpSync(join(root, 'package.json'), join(directory, 'package.json'));
  cpSync(join(root, dirname(prebuilt)), join(directory, dirname(prebuilt)), { recursive: true });
  cpSync(join(root, 'dist/lib'), join(directory, 'dist/lib'), { recursive: true });
  const smoke = 'dist/test/runtimes/smoke.js';
  mkdirSync(join(directory, dirname(smoke)), { recursive: true });
  copyFileSync(join(root, smoke), join(directory, smoke));
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  return join(directory, smoke);
}

function missing(...files: string[]): string | false {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'it runs on Linux x64';
  const found = files.find((file) => !existsSync(join('/', file)) && !existsSync(join(root, file)));
  return found === undefined ? false : `no ${found}`;
}

function run(t: Test, command: readonly string[], env: Readonly<Record<string, string>>): void {
  const [file, ...args] = command;
  const done = spawnSync(file!, args, {
    encoding: 'utf8',
    timeout: 300_000,
    env: { ...process.env, ...env },
  });
  t.equal(done.signal, null, done.stderr);
  t.equal(done.status, 0, done.stderr);
  t.strictSame(JSON.parse(done.stdout || 'null'), EXPECTED);
}

{
  const prebuilt = 'prebuilds/linux-arm64/p2pdma.glibc.node';
  const system = 'usr/aarch64-linux-gnu';
  const lacks = missing(prebuilt, 'usr/bin/qemu-aarch64', `${system}/lib/libstdc++.so.6`);
  const { binary, skip } = lacks ? { binary: '', skip: lacks } : fetched('node26', 'arm64');
  t.test('linux-arm64, glibc: Node under qemu-user', { skip }, async (t) => {
    run(t, ['qemu-aarch64', '-L', `/${system}`, binary, unpacked(prebuilt)], {});
  });
}

{
  const prebuilt = 'prebuilds/linux-x64/p2pdma.musl.node';
  const loader = 'lib/ld-musl-x86_64.so.1';
  const lacks = missing(prebuilt, loader, 'usr/bin/gcc');
  const { binary, skip } = lacks ? { binary: '', skip: lacks } : fetched('bun', 'x64-musl');
  // Bun loads no addon that asks for glibc by name: what it loads is the one for musl.
  t.test('linux-x64, musl: Bun on Debian’s musl', { skip }, async (t) => {
    const libraries = join(folder, 'musl');
    mkdirSync(libraries);
    for (const name of ['libstdc++.so.6', 'libgcc_s.so.1']) {
      const { stdout } = spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' });
      copyFileSync(stdout.trim(), join(libraries, name));
    }
    const source = join(root, 'test/install/musl-runtime.c');
    const output = join(libraries, 'ld-linux-x86-64.so.2');
    const compiled = spawnSync('gcc', ['-shared', '-fPIC', '-nostdlib', '-O1', source, '-o', output], {
      encoding: 'utf8',
    });
    t.equal(compiled.status, 0, compiled.stderr);
    run(t, [binary, unpacked(prebuilt)], { LD_LIBRARY_PATH: libraries });
  });
}
