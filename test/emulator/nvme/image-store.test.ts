/**
 * Files that a machine's JSON names: looking at the machine, and reading its drives, never makes, extends or changes
 * one. Before, opening a machine made each of its files, as long as the namespace.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { openSystem, planCopy } from '../../../lib/index.js';
import { presets } from '../../../lib/machine/presets.js';

t.setTimeout(120_000);

const MIB = 1024 * 1024;
const main = fileURLToPath(new URL('../../../lib/cli/main.js', import.meta.url));

interface Spaces {
  functions: { nvme: { namespaces: object[] } | null }[];
}

/** `switch`, whose two namespaces of 4 MiB are kept in a short file, and in one that is not there. */
function machineIn(t: Test, more: object = {}) {
  const folder = t.testdir({ 'short.img': 'a short file' });
  const machine = structuredClone(presets.switch) as unknown as Spaces & { name: string };
  machine.name = 'kept';
  const [first, second] = machine.functions.flatMap(({ nvme }) => nvme?.namespaces ?? []);
  const [short, missing] = [join(folder, 'short.img'), join(folder, 'missing.img')];
  Object.assign(first!, { store: 'file', file: short, size: 4 * MIB, ...more });
  Object.assign(second!, { store: 'file', file: missing, size: 4 * MIB });
  utimesSync(short, 1000, 1000);
  const json = join(folder, 'kept.json');
  writeFileSync(json, JSON.stringify(machine));
  const untouched = (t: Test, who: string) => {
    const { size, mtimeMs } = statSync(short);
    t.same({ size, mtimeMs }, { size: 12, mtimeMs: 1_000_000 }, `${who}: the short file`);
    t.notOk(existsSync(missing), `${who}: the file that was not there`);
  };
  return { folder, machine, json, short, missing, untouched };
}

t.test('commands that only look, and dry runs', async (t) => {
  const { json, untouched, folder } = machineIn(t);
  for (const words of [
    ['list'],
    ['topo', '--route', 'nvme0n1', 'nvme1n1'],
    ['explain'],
    ['doctor'],
    ['snapshot'],
    ['copy', 'nvme0n1', 'nvme1n1', '--dry-run'],
    ['bench', 'nvme0n1', 'nvme1n1', '--bytes', '1MiB', '--rounds', '1', '--chunks', '64K'],
  ]) {
    const run = spawnSync(process.execPath, [main, ...words, '--machine', json], {
      cwd: folder,
      encoding: 'utf8',
    });
    t.ok(run.status === 0 || words[0] === 'doctor', `${words}: ${run.stderr}`);
    untouched(t, words.join(' '));
  }
});

t.test('reads: what is not in the file yet is zeros, and stays out of it', async (t) => {
  const { machine, untouched } = machineIn(t);
  const system = await openSystem({ machine });
  const memory = system.allocate(null, 8192);
  for (const [name, begins] of [
    ['nvme0n1', 'a short file\0'],
    ['nvme1n1', '\0\0\0\0'],
  ] as const) {
    const target = await system.target(name);
    t.equal(target.size, 4 * MIB);
    memory.buffer.fill(0xff);
    await target.read(memory.buffer, 0);
    t.equal(memory.buffer.toString('latin1', 0, begins.length), begins);
    t.ok(memory.buffer.subarray(4096).equals(Buffer.alloc(4096)));
    memory.buffer.fill(0xff);
    await target.read(memory.buffer, 2 * MIB);
    t.ok(memory.buffer.equals(Buffer.alloc(8192)));
    await target.flush();
    await target.close();
  }
  await planCopy('nvme0n1', 'nvme1n1', { system });
  t.same(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
  untouched(t, 'reads');
});

t.test(
  'an open for writing alone changes nothing; the first write makes the file, as long as the namespace',
  async (t) => {
    const { machine, untouched, missing, short } = machineIn(t);
    const system = await openSystem({ machine });
    const target = await system.target('nvme1n1', { write: true });
    untouched(t, 'open');
    await t.rejects(
      system.pipeline('nvme0n1', 'nvme1n1', { provider: 'none', requireP2p: true, force: true }),
      { code: 'ERR_P2P_REQUIRED' },
    );
    untouched(t, 'a copy that was refused');
    const memory = system.allocate(null, 4096);
    memory.buffer.fill('written ');
    // Several at once: the file is made once.
    await Promise.all([0, 1, 2].map((i) => target.write(memory.buffer, i * 4096)));
    t.equal(statSync(missing).size, 4 * MIB);
    const back = system.allocate(null, 4096);
    await target.read(back.buffer, 8192);
    t.ok(back.buffer.equals(memory.buffer));
    await target.close();
    await system.close();
    t.ok(readFileSync(missing).subarray(0, 12_288).equals(Buffer.alloc(12_288, 'written ')));
    t.equal(statSync(short).size, 12, 'the other one is as it was');
  },
);

t.test('what cannot be had is said when the machine, or the drive, is opened', async (t) => {
  const gone = machineIn(t, { file: join(t.testdirName, 'no', 'folder', 'x.img') });
  await t.rejects(openSystem({ machine: gone.machine }), { code: 'ENOENT' });
  const readOnly = machineIn(t, { file: join(t.testdirName, 'not-there.img'), readOnly: true });
  await t.rejects(openSystem({ machine: readOnly.machine }), { code: 'ENOENT' });
  const folder = machineIn(t, { file: t.testdirName });
  await t.rejects(openSystem({ machine: folder.machine }), { code: 'EISDIR' });
  const pipe = machineIn(t, { file: join(t.testdirName, 'pipe') });
  if (spawnSync('mkfifo', [join(t.testdirName, 'pipe')]).status === 0) {
    await t.rejects(openSystem({ machine: pipe.machine }), { code: 'EINVAL' });
  }
});

t.test(
  'a file that may not be written',
  { skip: process.geteuid?.() === 0 && 'root may write everything' },
  async (t) => {
    const { machine, short } = machineIn(t);
    chmodSync(short, 0o444);
    const system = await openSystem({ machine });
    await t.rejects(system.target('nvme0n1', { write: true }), { code: 'EACCES' });
    await (await system.target('nvme0n1')).close();
    await system.close();
  },
);
