// The declarations that users get name no type of zod, which they do not have: in place of what TypeScript says of a table of
// options (`z.input<typeof readOptions>`), the declaration has the type that this is, and the tables and what takes them are
// left out.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const ts = require('typescript');

const root = path.join(__dirname, '..');
const index = path.join(root, 'dist/lib/index.d.ts');
const FORMAT =
  ts.NodeBuilderFlags.NoTruncation |
  ts.NodeBuilderFlags.InTypeAlias |
  ts.NodeBuilderFlags.MultilineObjectLiterals |
  ts.NodeBuilderFlags.UseSingleQuotesForStringLiteralType;
const printer = ts.createPrinter();

const program = ts.createProgram([index], {
  module: ts.ModuleKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  noEmit: true,
});
const checker = program.getTypeChecker();

for (const source of program.getSourceFiles()) {
  if (!source.fileName.startsWith(path.dirname(index)) || !namesZod(source)) continue;
  const changes = source.statements.flatMap((statement) => plain(statement, source));
  const text = changes
    .sort((a, b) => b.from - a.from)
    .reduce((made, { from, to, by }) => made.slice(0, from) + by + made.slice(to), source.text);
  const made = `${source.fileName}-${process.pid}`;
  fs.writeFileSync(made, text);
  fs.renameSync(made, source.fileName);
}

function plain(statement, source) {
  if (!namesZod(statement)) return [];
  if (ts.isInterfaceDeclaration(statement)) {
    const [clause] = statement.heritageClauses;
    const { members } = statement;
    if (clause.types.length !== 1 || members.length > 0)
      throw new Error(`${statement.getText()}: not foreseen`);
    return [{ from: clause.getStart(source), to: statement.end, by: said(clause.types[0]) }];
  }
  if (ts.isTypeAliasDeclaration(statement)) return inType(statement.type, source);
  // What stands above the first import is about the file.
  const from = ts.isImportDeclaration(statement) ? statement.getStart(source) : statement.getFullStart();
  return [{ from, to: statement.end, by: '' }];
}

/** Only the outermost parts that are zod's: what they are combined with stays as it is. */
function inType(type, source) {
  if (!namesZod(type)) return [];
  if (ts.isTypeReferenceNode(type) && isZod(type.typeName))
    return [{ from: type.getStart(source), to: type.end, by: said(type) }];
  const found = [];
  ts.forEachChild(type, (child) => {
    found.push(...inType(child, source));
  });
  return found;
}

function said(node) {
  const type = checker.typeToTypeNode(checker.getTypeFromTypeNode(node), node, FORMAT);
  return printer.printNode(ts.EmitHint.Unspecified, type, node.getSourceFile());
}

function isZod(name) {
  return ts.isQualifiedName(name) && (isZod(name.left) || name.left.getText() === 'z');
}

function namesZod(node) {
  return (
    /\bz\./.test(node.getText()) ||
    (ts.isImportDeclaration(node) && /\bz\b/.test(node.importClause?.getText() ?? ''))
  );
}
