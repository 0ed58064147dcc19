/**
 * What V8 keeps until a full collection is not written where it would be made for each stream, target or transfer
 * (findings/node-closure-in-property.sh; where they come and go, Members does what a Set would).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import ts from 'typescript';

const lib = fileURLToPath(new URL('../../../lib/', import.meta.url));
const PARTS = ['backend', 'base', 'copy', 'emulator', 'host', 'kernel', 'native', 'streams'];
/** What is looked at once per machine, device or question, and read when it is asked for. */
const LOOKED_AT = /^native\/sysfs\/(kernel|machine|pci)\.ts$/;

function found(name: string, text: string): string[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const all: string[] = [];
  const note = (node: ts.Node, what: string) => {
    const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
    all.push(`${name}:${line + 1}: ${what}`);
  };
  const visit = (node: ts.Node): void => {
    if (
      ts.isBinaryExpression(node) &&
      ts.isPropertyAccessExpression(node.left) &&
      (ts.isArrowFunction(node.right) || ts.isFunctionExpression(node.right))
    ) {
      note(node, 'a closure is assigned to a property: give it a name first');
    }
    if (ts.isObjectLiteralExpression(node) && node.properties.some(ts.isAccessor) && !LOOKED_AT.test(name)) {
      note(node, 'a getter in an object literal: write a class');
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return all;
}

t.test('the check finds them', async (t) => {
  t.strictSame(found('a.ts', 'const f = () => 1;\nx.y = () => f;\nx.#z ??= function () {};\nx.y = f;'), [
    'a.ts:2: a closure is assigned to a property: give it a name first',
    'a.ts:3: a closure is assigned to a property: give it a name first',
  ]);
  t.equal(found('a.ts', 'f({ get x() { return 1; } })').length, 1);
  t.strictSame(found('a.ts', 'f({ x() { return 1; }, y: () => 2 }); class A { get x() { return 1; } }'), []);
});

t.test('there are none', async (t) => {
  const files = PARTS.flatMap((part) =>
    readdirSync(join(lib, part), { recursive: true, encoding: 'utf8' }).map((name) => join(part, name)),
  ).filter((name) => name.endsWith('.ts'));
  t.ok(files.length > 100, `${files.length} files`);
  t.strictSame(
    files.flatMap((name) => found(name, readFileSync(join(lib, name), 'utf8'))),
    [],
  );
});
