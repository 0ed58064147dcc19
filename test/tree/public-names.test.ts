/**
 * The public face: how many names it has, that each is used, that the declarations publish nothing of the inside, and that
 * they compile by themselves.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import ts from 'typescript';

const MOST = 70;

const root = fileURLToPath(new URL('../../../', import.meta.url));
const index = join(root, 'lib/index.ts');
const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile);
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);

const folders = ['examples', 'lib/cli', 'lib/page'];
const users = folders.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('browser'))
    .map((name) => join(root, folder, name)),
);
const program = ts.createProgram([index, ...users], { ...options, noEmit: true });
const checker = program.getTypeChecker();

function exportsOf(file: string): Map<string, ts.Symbol> {
  const module = checker.getSymbolAtLocation(program.getSourceFile(file)!)!;
  return new Map(checker.getExportsOfModule(module).map((symbol) => [symbol.name, resolved(symbol)]));
}

function resolved(symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

const names = exportsOf(index);

/** What these files import of the public face. */
function imported(files: readonly string[]): Set<string> {
  const found = new Set<string>();
  for (const file of files) {
    for (const statement of program.getSourceFile(file)!.statements) {
      if (!ts.isImportDeclaration(statement) || !isFace(file, statement)) continue;
      const bindings = statement.importClause?.namedBindings;
      if (bindings === undefined || !ts.isNamedImports(bindings)) continue;
      for (const { name, propertyName } of bindings.elements) found.add((propertyName ?? name).text);
    }
  }
  return found;
}

function isFace(file: string, { moduleSpecifier }: ts.ImportDeclaration): boolean {
  // What the command draws runs in a browser too, and imports each module from where it is.
  if (file.startsWith(join(root, 'lib/page'))) return true;
  const specifier = (moduleSpecifier as ts.StringLiteral).text;
  return specifier === 'p2pdma' || join(file, '..', specifier) === index.replace(/ts$/, 'js');
}

/** The types that the declaration of an exported value names itself: what goes into its calls and comes out of them. */
function named(symbol: ts.Symbol): Set<string> {
  const found = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isBlock(node) || isInside(node)) return;
    if (ts.isTypeReferenceNode(node)) {
      const of = checker.getSymbolAtLocation(node.typeName);
      if (of !== undefined) found.add(resolved(of).name);
    }
    ts.forEachChild(node, visit);
  };
  for (const declaration of symbol.declarations ?? []) visit(declaration);
  return found;
}

/** Private, or stripped from the declarations. */
function isInside(node: ts.Node): boolean {
  if (!ts.isClassElement(node)) return false;
  const name = node.name;
  return (
    (ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Private) !== 0 ||
    (name !== undefined && ts.isPrivateIdentifier(name)) ||
    ts.getJSDocTags(node).some((tag) => tag.tagName.text === 'internal')
  );
}

t.test(`at most ${MOST} names`, async (t) => {
  t.ok(names.size > 40, 'they are found');
  t.ok(names.size <= MOST, `${names.size} names`);
});

t.test('an example or the command uses each, or a public call needs it', async (t) => {
  const used = imported(users);
  t.ok(used.has('openSystem') && used.has('Receipt'), 'imports are found');
  const needed = new Set<string>();
  for (const symbol of names.values()) {
    if (symbol.flags & ts.SymbolFlags.Value) for (const name of named(symbol)) needed.add(name);
  }
  t.ok(needed.has('SystemOptions') && needed.has('LeakReport'), 'what calls take and give is found');
  t.notOk(needed.has('StreamContext'), 'what is private or internal is not');
  for (const [name, symbol] of names) {
    const isType = !(symbol.flags & ts.SymbolFlags.Value);
    t.ok(used.has(name) || (isType && needed.has(name)), name);
  }
});

// --- what users get: the declarations ---

const declared = join(root, 'dist/lib/index.d.ts');
const asUsers: ts.CompilerOptions = {
  ...{ module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext },
  ...{ target: ts.ScriptTarget.ES2022, types: ['node'], typeRoots: [join(root, 'node_modules/@types')] },
  ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true },
};

t.test('the declarations compile by themselves', async (t) => {
  const alone = ts.createProgram([declared], asUsers);
  const wrong = ts.getPreEmitDiagnostics(alone);
  t.strictSame(
    wrong.map(({ file, messageText }) => [file?.fileName, ts.flattenDiagnosticMessageText(messageText, ' ')]),
    [],
  );
  const ours = alone.getSourceFiles().filter(({ fileName }) => fileName.startsWith(join(root, 'dist/lib')));
  t.ok(ours.length > 10, `${ours.length} files`);
});

t.test('no class publishes what is inside', async (t) => {
  const alone = ts.createProgram([declared], asUsers);
  const checker = alone.getTypeChecker();
  const face = checker.getExportsOfModule(checker.getSymbolAtLocation(alone.getSourceFile(declared)!)!);
  const exported = face.map((symbol) =>
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol,
  );
  const classes = exported.filter(({ flags }) => flags & ts.SymbolFlags.Class);
  t.same(classes.map(({ name }) => name).sort(), [
    ...['P2pFileHandle', 'P2pReadStream', 'P2pWriteStream', 'P2pdmaError', 'Pace', 'System', 'Target'],
  ]);
  const made = ['P2pdmaError', 'Pace'];
  for (const one of classes) {
    const declaration = one.valueDeclaration as ts.ClassDeclaration;
    const constructors = declaration.members.filter(ts.isConstructorDeclaration);
    t.ok(constructors.length > 0, `${one.name}: what it is made of is said`);
    for (const { modifiers } of constructors) {
      const hidden = modifiers?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword) ?? false;
      t.equal(hidden, !made.includes(one.name), `${one.name}: users ${hidden ? 'cannot' : 'can'} make one`);
    }
    for (const member of declaration.members) {
      const name = member.name?.getText() ?? 'constructor';
      t.notMatch(
        name,
        /^(over|context|metered|meter|attachment|blockTarget|shutdown|delay|spend)$/,
        one.name,
      );
      for (const inner of classesIn(member, checker)) t.ok(exported.includes(inner), `${one.name}.${name}`);
    }
  }
});

/** The classes of this package that a member's type names. */
function classesIn(member: ts.Node, checker: ts.TypeChecker): ts.Symbol[] {
  const found: ts.Symbol[] = [];
  const visit = (node: ts.Node): void => {
    const symbol = ts.isTypeReferenceNode(node) ? checker.getSymbolAtLocation(node.typeName) : undefined;
    const of = symbol && symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    const file = of?.valueDeclaration?.getSourceFile().fileName ?? '';
    if (of && of.flags & ts.SymbolFlags.Class && file.startsWith(join(root, 'dist/lib'))) found.push(of);
    ts.forEachChild(node, visit);
  };
  visit(member);
  return found;
}
