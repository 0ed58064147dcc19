/** Everything under /sys and /proc is read by one file of lib, which stays inside its root, reads so much and no more, and never waits. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import ts from 'typescript';
import { deviceIdentity } from '../../../lib/native/sysfs/identity.js';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { underlying } from '../../../lib/native/sysfs/ranges.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';

const lib = fileURLToPath(new URL('../../../../lib', import.meta.url));
const READER = join('native', 'sysfs', 'tree.ts');
/** stat() and access() are none: they open nothing. */
const READS =
  /^(open|openSync|read|readFile|readFileSync|readdir|readdirSync|opendir|opendirSync|readlink|readlinkSync|createReadStream|promises|default|\*)$/;

interface Findings {
  readonly reads: string[];
  readonly paths: string[];
}

/** SysfsTree's and SysfsDir's own, which take a path below the root. */
const ASKS = /^(text|bytes|dir)$/;

/**
 * What of node:fs that reads a file imports, and which paths below /sys and /proc stand in its code other than as what a
 * SysfsTree is asked for.
 */
function lookAt(name: string, text: string): Findings {
  const found: Findings = { reads: [], paths: [] };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const from = (node.moduleSpecifier as ts.StringLiteral).text;
      if (/^(node:)?fs(\/promises)?$/.test(from)) found.reads.push(...importsOf(node));
      return;
    }
    if (ts.isCallExpression(node) && isAsked(node)) return node.arguments.slice(1).forEach(visit);
    const literal = ts.isStringLiteralLike(node) || ts.isTemplateHead(node) ? node.text : '';
    if (/^\/?(sys|proc)\//.test(literal)) found.paths.push(literal);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(name, text, ts.ScriptTarget.Latest, false));
  return found;
}

function isAsked({ expression }: ts.CallExpression): boolean {
  return ts.isPropertyAccessExpression(expression) && ASKS.test(expression.name.text);
}

function importsOf({ importClause }: ts.ImportDeclaration): string[] {
  const bindings = importClause?.namedBindings;
  const names =
    bindings === undefined
      ? ['default']
      : ts.isNamespaceImport(bindings)
        ? ['*']
        : bindings.elements.map((element) => (element.propertyName ?? element.name).text);
  return names.filter((name) => READS.test(name));
}

const files = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));

t.test('one file of lib reads below /sys and /proc', async (t) => {
  const others = files
    .filter((name) => name !== READER)
    .map((name) => ({ name, ...lookAt(name, readFileSync(join(lib, name), 'utf8')) }))
    .filter(({ name, reads, paths }) => {
      const isBeside = dirname(name) === dirname(READER);
      return reads.length > 0 && (isBeside || paths.length > 0);
    });
  t.strictSame(others, []);
  t.ok(files.includes(READER), 'and it is there');
});

t.test('the rule finds what it is to find', async (t) => {
  for (const [code, reads, paths] of [
    ["import { readFileSync } from 'node:fs'; readFileSync('/proc/self/maps');", 1, 1],
    ['import { readlinkSync as r } from "fs"; r(`/proc/1/exe`);', 1, 1],
    ["import * as fs from 'node:fs'; fs.readdirSync(root + 'sys/class/nvme');", 1, 1],
    ["import fs from 'node:fs/promises'; fs.open('/sys/x');", 1, 1],
    ["import { openSync } from 'node:fs'; tree.text('proc/self/maps'); openSync('/proc/self/maps');", 1, 1],
    ["import { statSync } from 'node:fs'; statSync('/proc/self/fd/0');", 0, 1],
    ["import { readFileSync } from 'node:fs'; readFileSync('/etc/passwd'); // '/proc/x'", 1, 0],
  ] as const) {
    const found = lookAt('x.ts', code);
    t.same([found.reads.length, found.paths.length], [reads, paths], code);
  }
});

t.test(
  'who a device is and where it lies: no wait for a FIFO, no step out of the root',
  { skip: process.platform === 'win32' },
  async (t) => {
    const dir = t.testdir({ secret: 'eui.secret', root: {} });
    const root = writeSysfsTree(join(dir, 'root'), twoDrivesBelowASwitch());
    const disk = join(root, 'sys/class/block');
    const wwid = join(disk, 'nvme0n1/wwid');
    const backing = join(disk, 'loop0/loop/backing_file');
    const ask = (): { identity: string | null; names: string[]; ms: number } => {
      const began = performance.now();
      const { devices, blockInfo } = readSysfs(root);
      const { number } = blockInfo('loop0')!;
      const identity = deviceIdentity(devices, 'nvme0n1');
      const names = underlying(devices, { number: number! }).map(({ name }) => name);
      return { identity, names, ms: performance.now() - began };
    };
    writeFileSync(wwid, 'eui.own\n');
    const before = ask();
    t.equal(before.identity, 'eui.own');
    t.ok(before.names.length > 1, `a loop device lies on its file: ${before.names.join(', ')}`);
    for (const damage of ['FIFO', 'link out']) {
      for (const file of [wwid, backing]) {
        rmSync(file);
        if (damage === 'FIFO') execFileSync('mkfifo', [file]);
        else symlinkSync(relative(dirname(file), join(dir, 'secret')), file);
      }
      const { identity, names, ms } = ask();
      t.ok(ms < 1000, `${damage}: ${ms.toFixed(0)} ms`);
      t.not(identity, 'eui.secret', damage);
      t.strictSame(names, before.names.slice(0, 1), `${damage}: what is not said is not made up`);
    }
  },
);
