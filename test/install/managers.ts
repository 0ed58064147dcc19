/** Package managers: how each is started, installs the tarball into an empty folder, and runs something there. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const { fetched } = createRequire(import.meta.url)('../../../scripts/runtimes.cjs') as {
  fetched(spec: string, folder: string, binary: string): string;
};
const versions = JSON.parse(readFileSync(join(root, 'test/install/tools.json'), 'utf8')) as Record<
  string,
  string
>;

/** Where it is installed: a folder, and the Node that everything runs on. */
export interface Place {
  readonly folder: string;
  readonly node: string;
}

export interface Manager {
  readonly name: string;
  readonly version: string;
  /** The oldest releases of Node that it starts on, by major version; null: on all that are supported. */
  readonly since: Readonly<Record<number, string>> | null;
  prepare(folder: string): void;
  /** The command lines, without the manager itself. */
  add(...packages: string[]): string[];
  exec(...words: string[]): string[];
  /** The manager itself, as a command. */
  command(node: string): string[];
}

const npm = (name: string, since: Manager['since']): Manager => ({
  name,
  version: versions[name]!,
  since,
  prepare() {},
  add: (...packages) => ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packages],
  exec: (...words) => ['exec', '--no', '--', ...words],
  command: (node) => [node, tool('npm', versions[name]!, 'bin/npm-cli.js')],
});

export const MANAGERS: readonly Manager[] = [
  npm('npm 11', null),
  npm('npm 12', { 22: '22.22.2', 24: '24.15.0', 26: '26.0.0' }),
  {
    name: 'pnpm 12',
    version: versions['pnpm 12']!,
    since: null,
    prepare() {},
    add: (...packages) => ['add', '--prefer-offline', ...packages],
    exec: (...words) => ['exec', ...words],
    command: () => [tool(`@pnpm/exe.linux-${process.arch}`, versions['pnpm 12']!, 'pnpm')],
  },
  {
    name: 'Yarn 4',
    version: versions['Yarn 4']!,
    since: null,
    prepare(folder) {
      writeFileSync(join(folder, '.yarnrc.yml'), 'nodeLinker: pnp\nenableTelemetry: false\n');
      writeFileSync(join(folder, 'yarn.lock'), '');
    },
    add: (...packages) => ['add', ...packages.map((text) => text.replace(/^\.\//, 'p2pdma@file:./'))],
    exec: (...words) => ['exec', ...words],
    command: (node) => [node, tool('@yarnpkg/cli-dist', versions['Yarn 4']!, 'bin/yarn.js')],
  },
];

function tool(name: string, version: string, binary: string): string {
  return fetched(`${name}@${version}`, `${name.replace('@', '').replace('/', '-')}-${version}`, binary);
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly output: string;
}

/** Runs the manager there. Its Node is the first in PATH, and no compiler is found. */
export function run(manager: Manager, { folder, node }: Place, words: readonly string[]): Promise<Ran> {
  const [file, ...args] = [...manager.command(node), ...words];
  const env = { ...process.env, CC: '/nonexistent/cc', CXX: '/nonexistent/c++', CI: '1', NO_COLOR: '1' };
  for (const name of Object.keys(env)) if (/^npm_/i.test(name)) delete env[name as keyof typeof env];
  const child = spawn(file!, args, {
    cwd: folder,
    env: { ...env, PATH: `${dirname(node)}${delimiter}${process.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 300_000,
  });
  let [stdout, output] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, stdout, output }));
  });
}
