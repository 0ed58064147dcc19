/** What the command says of trees that somebody captured, whatever is in them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { diagnose, openSystem } from '../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from './fixtures/sysfs-tree.js';

const main = fileURLToPath(new URL('../lib/cli/main.js', import.meta.url));
const COMMANDS = [
  ['list'],
  ['topo', '--route', 'nvme0n1', 'nvme1n1'],
  ['explain', 'nvme0', 'nvme1n1', '/mnt/xfs/disk.img'],
  ['doctor'],
  ['snapshot'],
];

function p2pdma(...args: string[]) {
  return spawnSync(process.execPath, [main, ...args, '--color', 'never'], {
    encoding: 'utf8',
    timeout: 30_000,
  });
}

function tree(t: Test): string {
  const root = writeSysfsTree(
    t.testdir({ root: {}, secret: 'eui.secret' }).concat('/root'),
    twoDrivesBelowASwitch(),
  );
  for (const name of ['wwid', 'uuid', 'serial']) {
    writeFileSync(join(root, 'sys/class/block/nvme0n1', name), `${name} of nvme0n1`);
  }
  return root;
}

function filesOf(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : [];
  });
}

/** In this process, so that its start does not count. A command with the same tree has ended before. */
async function inASecond(t: Test, root: string): Promise<void> {
  const began = performance.now();
  const system = await openSystem({ root });
  system.explainAll();
  system.locate('nvme0n1');
  system.route(['nvme0n1', 'nvme1n1']);
  system.snapshot();
  await system.close();
  await diagnose({ root });
  t.ok(performance.now() - began < 1000, `all questions took ${Math.round(performance.now() - began)} ms`);
}

t.test('a FIFO in the place of wwid, or of everything, makes nobody wait', async (t) => {
  for (const which of [/\/wwid$/, /./]) {
    const root = tree(t);
    const files = filesOf(root).filter((path) => which.test(path));
    for (const file of files) rmSync(file);
    execFileSync('mkfifo', files);
    for (const command of COMMANDS) {
      const { signal, stderr } = p2pdma(...command, '--root', root);
      t.equal(signal, null, `${command.join(' ')} with FIFOs for ${which}: ${stderr}`);
    }
    if (which.test('/wwid') && !which.test('x')) await inASecond(t, root);
  }
});

t.test('a link out of the tree leads nowhere', async (t) => {
  const root = tree(t);
  const names = ['wwid', 'uuid', 'model', 'serial', 'nsid', 'size', 'cpuinfo', 'mountinfo', 'osrelease'];
  const files = filesOf(root).filter((path) => names.includes(basename(path)));
  for (const file of files) {
    rmSync(file);
    symlinkSync(join(root, '../secret'), file);
  }
  for (const command of COMMANDS) {
    const { signal, stdout } = p2pdma(...command, '--root', root);
    t.equal(signal, null, command.join(' '));
    t.notMatch(stdout, 'secret', command.join(' '));
  }
  await inASecond(t, root);
});
