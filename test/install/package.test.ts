/** The package as npm packs it, in an empty folder: what it holds, that it installs, runs, imports and type-checks. */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { KINDS, writeProject } from './type-projects.js';

t.setTimeout(240_000);

const run = promisify(execFile);
const root = packageRoot();
const compiled = join(root, 'dist/lib/index.js');
const skip =
  spawnSync('npm', ['--version']).status !== 0
    ? 'no npm'
    : !existsSync(compiled)
      ? `no ${compiled}: npm run build`
      : false;

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-package-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  dependencies: Record<string, string>;
};

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

let packed: Packed | null = null;
let installFailure: string | null = null;
if (skip === false) {
  const pack = ['pack', root, '--json', '--ignore-scripts', '--pack-destination', folder];
  [packed] = JSON.parse(execFileSync('npm', pack, { cwd: folder, encoding: 'utf8', stdio: 'pipe' })) as [
    Packed,
  ];
  installFailure = install(packed);
}

/** npm's words if the registry cannot be had and its cache does not hold the dependencies; otherwise it must work. */
function install({ filename }: Packed): string | null {
  writeFileSync(join(folder, 'package.json'), '{}');
  const { status, stderr } = spawnSync(
    'npm',
    ['install', `./${filename}`, '--prefer-offline', '--no-audit', '--no-fund'],
    // Without a compiler: what needs the addon says so, and nothing else does.
    {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, CC: '/nonexistent/cc', CXX: '/nonexistent/c++' },
    },
  );
  if (status === 0) return null;
  if (/ENOTCACHED|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN/.test(stderr)) return firstError(stderr);
  throw new Error(stderr);
}

function firstError(stderr: string): string {
  return /npm error (?!code)(.+)/.exec(stderr)?.[1] ?? stderr;
}

const installed = skip || (installFailure === null ? false : `dependencies: ${installFailure}`);
const linux = process.platform === 'linux' ? false : 'looks into /proc';

t.test('what is in the tarball: all that is needed, nothing else', { skip }, async (t) => {
  const paths = packed!.files.map(({ path }) => path);
  const declarations = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith(join('page', 'browser')))
    .map((name) => `dist/lib/${name.slice(0, -3)}.d.ts`);
  const examples = readdirSync(join(root, 'examples')).map((name) => name.replace('.ts', ''));
  const expected = [
    ...['CHANGELOG.md', 'LICENSE', 'NOTICES.md', 'README.md', 'SECURITY.md', 'package.json'],
    ...filesBelow('docs'),
    ...examples.flatMap((name) => [`examples/${name}.ts`, `dist/examples/${name}.js`]),
    ...['schema/machine.schema.json', 'scripts/build-addon.cjs'],
    ...readdirSync(join(root, 'src-native')).map((name) => `src-native/${name}`),
    ...declarations,
    ...['dist/bundle/index.js', 'dist/bundle/cli/main.js'],
    ...['dist/lib/page/browser/main.js', 'dist/lib/page/browser/style.css'],
  ];
  const parts = /^(prebuilds\/linux-\w+\/p2pdma\.\w+\.node|dist\/bundle\/[\w-]+-[0-9A-Z]{8}\.js)$/;
  const rest = paths.filter((path) => !parts.test(path));
  t.strictSame(rest.sort(), expected.sort());
});

function filesBelow(folder: string): string[] {
  const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((file) => relative(root, join(file.parentPath, file.name)));
}

t.test('links in it lead to what is in it, or anywhere on the web', { skip }, async (t) => {
  const paths = new Set(packed!.files.map(({ path }) => path));
  const there = (path: string) => paths.has(path) || [...paths].some((one) => one.startsWith(`${path}/`));
  let links = 0;
  for (const file of [...paths].filter((path) => path.endsWith('.md'))) {
    const text = readFileSync(join(root, file), 'utf8').replaceAll(/^```[\s\S]*?^```/gm, '');
    for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g)) {
      t.ok(there(join(dirname(file), target!)), `${file} links to ${target}`);
      links++;
    }
  }
  t.ok(links > 50, `${links} links`);
});

t.test('no script in it names a source map that is not in it', { skip }, async (t) => {
  const paths = new Set(packed!.files.map(({ path }) => path));
  const scripts = [...paths].filter((path) => /\.[cm]?js$/.test(path));
  t.ok(scripts.length > 50);
  for (const file of scripts) {
    const map = /^\/\/# sourceMappingURL=(?!data:)(.*)$/m.exec(readFileSync(join(root, file), 'utf8'))?.[1];
    t.ok(map === undefined || paths.has(join(dirname(file), map)), `${file} names ${map}`);
  }
});

t.test('one address: what package.json says of where it is made', { skip }, async (t) => {
  const { repository, homepage, bugs, keywords, author, funding } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  const address = /^git\+(https:\/\/.*)\.git$/.exec(repository.url)?.[1];
  t.ok(address);
  t.equal(homepage, `${address}#readme`);
  t.equal(bugs.url, `${address}/issues`);
  t.ok(keywords.includes('nvme') && keywords.includes('stream'));
  t.match(readFileSync(join(root, 'LICENSE'), 'utf8'), author);
  t.equal(funding, undefined);
});

/** Npm 12 and pnpm 12 run none unasked, pnpm fails then; and a binding.gyp is a script that nobody wrote. */
t.test('an installer has nothing to run', { skip }, async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const run = ['preinstall', 'install', 'postinstall'].filter((name) => name in scripts);
  t.strictSame(run, []);
  t.notOk(packed!.files.some(({ path }) => path.endsWith('binding.gyp')));
});

t.test('it is smaller than 1 MB without prebuilt addons', { skip }, async (t) => {
  const bare = join(folder, 'bare');
  mkdirSync(bare);
  execFileSync('tar', ['-xzf', join(folder, packed!.filename), '-C', bare]);
  rmSync(join(bare, 'package/prebuilds'), { recursive: true, force: true });
  execFileSync('tar', ['-czf', join(bare, 'bare.tgz'), '-C', bare, 'package']);
  const { size } = statSync(join(bare, 'bare.tgz'));
  t.ok(size < 1_000_000, `${size} bytes`);
});

t.test('npx p2pdma in an otherwise empty folder', { skip: installed }, async (t) => {
  const npx = async (...args: string[]) =>
    (await run('npx', ['--offline', 'p2pdma', ...args], { cwd: folder })).stdout;
  t.equal(await npx('--version'), `${manifest.version}\n`);
  t.match(await npx('doctor', '--machine', 'switch'), /peer-to-peer DMA works here\n$/);
  const receipt = await npx(
    ...['copy', 'nvme0n1', 'nvme1n1', '--machine', 'switch', '--end', '1MiB', '--verify', '--require-p2p'],
    '--json',
  );
  t.match(JSON.parse(receipt), { transport: 'p2p-bus', path: { hostDram: 0 }, verified: true });
});

t.test('the examples run where it is installed', { skip: installed }, async (t) => {
  const file = join(folder, 'node_modules/p2pdma/dist/examples/pipe.js');
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { cwd: folder, encoding: 'utf8' });
  t.equal(status, 0, stderr);
  t.match(stdout, /^1048576 bytes, p2p-bus$/m);
  const [, stated] = /installed, it is `node (\S+)`/.exec(readFileSync(join(root, 'README.md'), 'utf8'))!;
  t.equal(join(folder, stated!), file);
});

t.test('it depends on what it says, and no optional peer is needed', { skip: installed }, async (t) => {
  const there = readdirSync(join(folder, 'node_modules'));
  const names = Object.keys(manifest.dependencies).map((name) => name.split('/')[0]!);
  t.ok(names.every((name) => there.includes(name)));
  t.notOk(there.includes('prom-client'));
});

/** Run `code` in the folder as a module of this kind; its output as JSON. */
function evaluate(kind: 'module' | 'commonjs', code: string) {
  const file = join(folder, `evaluate-${kind}-${Math.random()}.${kind === 'module' ? 'mjs' : 'cjs'}`);
  writeFileSync(file, code);
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { cwd: folder, encoding: 'utf8' });
  return { status, stderr, said: stdout === '' ? null : JSON.parse(stdout) };
}

const COPY = `
  const system = await openSystem({ machine: 'switch' });
  const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: 65535 });
  await system.close();
  console.log(JSON.stringify(receipt.transport));`;

t.test('import', { skip: installed }, async (t) => {
  const { said, stderr } = evaluate('module', `import { openSystem } from 'p2pdma';${COPY}`);
  t.equal(said, 'p2p-bus', stderr);
});

t.test('import() in CommonJS, on every Node', { skip: installed }, async (t) => {
  const code = `(async () => { const { openSystem } = await import('p2pdma');${COPY} })()`;
  const { said, stderr } = evaluate('commonjs', code);
  t.equal(said, 'p2p-bus', stderr);
});

const requires = (process.features as { require_module?: boolean }).require_module === true;

t.test(
  'require, on a Node that can require ES modules (20.19, 22.12 and newer)',
  { skip: installed || (requires ? false : `Node ${process.version} cannot`) },
  async (t) => {
    const code = `const { openSystem } = require('p2pdma'); (async () => {${COPY}})()`;
    const { said, stderr } = evaluate('commonjs', code);
    t.equal(said, 'p2p-bus', stderr);
    t.equal(stderr, '', 'without a warning');
    const same = `import('p2pdma').then((p) => console.log(JSON.stringify(p.System === require('p2pdma').System)))`;
    t.equal(evaluate('commonjs', same).said, true, 'and it is the same module as the imported one');
  },
);

t.test('what is not exported cannot be imported', { skip: installed }, async (t) => {
  const code = `import('p2pdma/dist/lib/system.js').catch(({ code }) => console.log(JSON.stringify(code)))`;
  t.equal(evaluate('module', code).said, 'ERR_PACKAGE_PATH_NOT_EXPORTED');
});

t.test('importing does nothing but define', { skip: installed || linux }, async (t) => {
  const { status, stderr, said } = evaluate(
    'module',
    `
    import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
    import { createHook } from 'node:async_hooks';
    const timers = [];
    createHook({ init: (id, type) => { if (type === 'Timeout') timers.push(id); } }).enable();
    const link = (fd) => { try { return readlinkSync('/proc/self/fd/' + fd); } catch { return null; } };
    const shared = [globalThis, Object, Array, ArrayBuffer, Uint8Array, Buffer, Promise, Error, Symbol, JSON, Math];
    const state = () => ({
      fds: readdirSync('/proc/self/fd').map(link).filter((to) => to !== null && !to.startsWith('/proc/')),
      addons: readFileSync('/proc/self/maps', 'utf8').match(/[^\\s]+\\.node$/gm) ?? [],
      resources: process.getActiveResourcesInfo(),
      timers: timers.length,
      // zod keeps its configuration where all its copies find it.
      globals: shared.flatMap((o) => [o, o.prototype ?? {}]).map((o) => Reflect.ownKeys(o).map(String)
        .filter((key) => !key.startsWith('__zod_'))),
      listeners: [process, process.stdin, process.stdout, process.stderr].map((e) => e.eventNames()
        .map((name) => [String(name), e.listenerCount(name)])),
      stackTraces: [String(Error.prepareStackTrace), Error.stackTraceLimit],
      env: { ...process.env },
      place: [process.cwd(), process.umask(), process.title, process.exitCode ?? null],
    });
    await import('node:child_process');
    await import('picocolors');
    state(); // the streams of process are made when they are asked for
    const before = state();
    await import('p2pdma');
    const after = state();
    console.log(JSON.stringify({ before, after }));`,
  );
  t.equal(status, 0, stderr);
  t.equal(stderr, '');
  t.strictSame(said.after, said.before);
  t.strictSame(said.after.addons, []);
});

// --- types ---

for (const kind of KINDS) {
  t.test(`types: ${kind.title}`, { skip: installed }, async (t) => {
    const types = join(folder, 'node_modules/@types');
    if (!existsSync(types)) symlinkSync(join(root, 'node_modules/@types'), types);
    const project = writeProject(folder, kind);
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' });
    t.equal(status, 0, stdout);
  });
}

// --- npm audit ---

interface Audit {
  /** Severity by package; null if the registry did not answer. */
  readonly vulnerabilities: Readonly<Record<string, { readonly severity: string }>> | null;
  readonly unanswered: string;
}

async function audit(...options: string[]): Promise<Audit> {
  const command = ['audit', '--omit=dev', '--package-lock-only', '--json', ...options];
  const stdout = await run('npm', command, { cwd: root }).then(
    (done) => done.stdout,
    (failed: { stdout: string }) => failed.stdout,
  );
  const { vulnerabilities = null, message = stdout } = JSON.parse(stdout);
  return { vulnerabilities, unanswered: message };
}

t.test('npm audit: no known vulnerability in what users install', { skip }, async (t) => {
  const { vulnerabilities, unanswered } = await audit();
  if (vulnerabilities === null) t.pass('the registry answers', { skip: unanswered });
  else t.strictSame(vulnerabilities, {});
});

t.test('npm audit: the check sees what a registry reports, and one that cannot', { skip }, async (t) => {
  const advisory = {
    ...{
      id: 1,
      title: 'made up',
      severity: 'high',
      vulnerable_versions: '*',
      cvss: { score: 0, vectorString: null },
    },
    ...{ url: 'https://example.invalid/1', cwe: [] },
  };
  const audited = await withRegistry(t, 200, { fzstd: [advisory] });
  t.match(audited.vulnerabilities, { fzstd: { severity: 'high' } });
  const refused = await withRegistry(t, 405, {});
  t.equal(refused.vulnerabilities, null);
  t.match(refused.unanswered, /405/);
});

/** `npm audit` at a registry that answers so. */
async function withRegistry(t: Test, status: number, advisories: object): Promise<Audit> {
  const server = createServer((request, response) => {
    const packument = { name: 'fzstd', versions: {}, 'dist-tags': {} };
    const asked = request.method === 'POST';
    response.writeHead(asked ? status : 200, { 'content-type': 'application/json' });
    request.resume();
    response.end(JSON.stringify(asked ? advisories : packument));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  try {
    return await audit('--registry', `http://127.0.0.1:${port}`);
  } finally {
    server.close();
  }
}

function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}
