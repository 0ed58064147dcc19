/** `--from FILE|DIR|-` of every command that takes it, on what people send of lspci. */
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { asTarSees, entriesOf, packed, tarOf } from '../helpers/archives.js';
import { main, runCli } from '../helpers/cli.js';

const dumps = fileURLToPath(new URL('../../../test/fixtures/dumps', import.meta.url));
const WIDTH = 80;
/** A command to paste, a line that begins with a path, a string in JSON. */
const WHOLE = /^ {4}(?:echo|sudo) |^p2pdma doctor: |^ +"description"/;
const ENV = { COLUMNS: String(WIDTH), NO_COLOR: '1' };

/** Of each command what it says of `root-acs.txt`: two drives below ports with ACS, a host bridge on the allow-list. */
const COMMANDS: readonly (readonly [line: readonly string[], says: RegExp])[] = [
  [['list'], /^0000:03:00\.0 +0000:03:00\.0 +- +- +- +not known$/m],
  [['topo', '--kernel', '6.12.30'], /^│? *└─ 0000:00:01\.0 +root-port +ACS redirects peer traffic up$/m],
  [['explain', '03:00.0', '04:00.0', '--kernel', '6.12.30'], /^0000:04:00\.0 +THRU_HOST_BRIDGE/m],
  [['doctor', '--kernel', '6.12.30'], /2 NVMe drives on PCIe: 0000:03:00\.0 and 0000:04:00\.0/],
  [['snapshot', '--kernel', '6.12.30'], /"acs": 29/],
];
const CPU = ['--cpu', 'intel:6'];

t.test('a file, a folder, stdin', async (t) => {
  const file = join(dumps, 'root-acs.txt');
  const folder = t.testdir({ mail: {} });
  cpSync(file, join(folder, 'mail/lspci.txt'));
  for (const [line, says] of COMMANDS) {
    const name = line[0]!;
    const all = [...line, ...CPU];
    const fromFile = runCli([...all, '--from', file], { env: ENV });
    t.match(fromFile.stdout, says, `${name} FILE`);
    t.ok(name === 'doctor' || fromFile.status === 0, `${name}: status`);
    const fromFolder = runCli([...all, '--from', folder], { env: ENV });
    t.match(fromFolder.stdout, says, `${name} DIR`);
    const fromStdin = spawnSync(process.execPath, [main, ...all, '--from', '-'], {
      input: readFileSync(file),
      encoding: 'utf8',
      env: { ...process.env, ...ENV },
    });
    t.match(fromStdin.stdout, says, `${name} -`);
    t.equal(fromStdin.status, fromFile.status, `${name}: the same status`);
  }
});

t.test('what was recognised, and what is not known, is said first, and in JSON', async (t) => {
  const file = join(dumps, 'not-root.txt');
  for (const [line] of COMMANDS.filter(([[name]]) => name !== 'snapshot')) {
    const { stdout } = runCli([...line, ...CPU, '--from', file], { env: ENV });
    t.match(stdout, /^read from: lspci -vvnn not as root, 7 functions\nnot known: ACS and PCIe port types/);
    const json = JSON.parse(runCli([...line, ...CPU, '--from', file, '--json']).stdout) as object;
    t.match(json, { evidence: { recognised: ['lspci -vvnn not as root, 7 functions'] } });
  }
});

t.test('nothing is called peer to peer that is not known to be', async (t) => {
  const pair = ['explain', '03:00.0', '04:00.0', '--from', join(dumps, 'not-root.txt')];
  const { stdout } = runCli([...pair, '--cpu', 'intel:6', '--kernel', '6.12.30'], { env: ENV });
  t.match(stdout, /It is unknown whether ACS redirects/);
  t.match(stdout, /sudo lspci\s+-xxxx/);
  const names = ['topo', '--from', join(dumps, 'names-and-tree.txt')];
  t.match(runCli(names, { env: ENV }).stdout, /host bridge 0000:00 +IDs unknown/);
});

/** One of each kind, in a folder. */
function archivesIn(folder: string): string[] {
  const entries = entriesOf(writeSysfsTree(join(folder, 'tree'), twoDrivesBelowASwitch()));
  const inside = (name: string) => entries.map((one) => ({ ...one, path: `${name}/${one.path}` }));
  const texts = readdirSync(join(dumps, 'acs-with-drives')).map((name) => ({
    path: `sent/${name}`,
    content: readFileSync(join(dumps, 'acs-with-drives', name)),
  }));
  const report = 'sosreport-a-machine-with-a-rather-long-name-2026-11-28-abcdefg';
  const kinds: Record<string, Buffer> = {
    'sys.tar': tarOf(entries),
    'live.tgz': packed(tarOf(asTarSees(entries)), 'gz')!,
    'report.tar': tarOf([
      ...inside(report),
      {
        path: `${report}/sos_commands/kernel/uname_-a`,
        content: Buffer.from('Linux box 6.1.0-9-amd64 #1 SMP\n'),
      },
    ]),
    'hwloc.tar': tarOf([
      ...inside('box'),
      { path: 'box/proc/hwloc-nofile-info', content: Buffer.from('x\n') },
    ]),
    'texts.tar': tarOf(texts),
  };
  return Object.entries(kinds).map(([name, bytes]) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  });
}

t.test('all of it fits 80 columns, dumps and archives', async (t) => {
  const folder = t.testdir({ tree: {} });
  const all = [...readdirSync(dumps).map((file) => join(dumps, file)), ...archivesIn(folder)];
  for (const file of all) {
    for (const [line] of COMMANDS) {
      const isArchive = file.startsWith(folder);
      const names = line[0] === 'explain' && isArchive ? ['explain'] : line;
      const { status, stdout, stderr } = runCli([...names, '--from', file], { cwd: folder, env: ENV });
      if (isArchive) t.ok(line[0] === 'doctor' || status === 0, `${file}: ${line[0]} ends with ${status}`);
      const lines = `${stdout}${stderr}`.split('\n');
      const wide = lines.filter((text) => [...text].length > WIDTH && !WHOLE.test(text));
      t.strictSame(wide, [], `${file}: ${line[0]}`);
    }
  }
});

t.test('an option that is named exists', (t) => {
  for (const [line] of COMMANDS) {
    const { stdout, stderr } = runCli([...line, '--from', join(dumps, 'root-acs.txt')], { env: ENV });
    if (line.includes('--kernel')) continue;
    t.match(stdout, /^not known: the kernel: name its release with --kernel$/m, stderr);
    const named = runCli([...line, '--kernel', '6.12.30', ...CPU, '--from', join(dumps, 'root-acs.txt')]);
    t.equal(named.status, 0);
    t.notMatch(named.stdout, /the kernel:/);
  }
  t.end();
});

t.test('a text that is cut before its first drive, or after it, does not say that there is no other', (t) => {
  const text = readFileSync(join(dumps, 'pciutils-3.14.txt'), 'utf8');
  const parts = text.split('\n\n');
  const drives = parts.flatMap((part, at) => (/Non-Volatile memory/.test(part) ? at : []));
  for (const [end, says] of [
    [drives[0]!, /^unknown +drives +no NVMe drive is known; the text may be cut after\n/m],
    [drives[1]!, /^unknown +drives +only 0000:03:00\.0 is known as an NVMe drive; the text may/m],
  ] as const) {
    const folder = t.testdir({ 'cut.txt': parts.slice(0, end).join('\n\n').slice(0, -40) });
    const { status, stdout } = runCli(
      ['doctor', '--kernel', '6.12.30', ...CPU, '--from', join(folder, 'cut.txt')],
      {
        env: ENV,
      },
    );
    t.match(stdout, says);
    t.notMatch(stdout, /no NVMe controller/);
    t.equal(status, 1, 'not known');
  }
  t.end();
});
