// node scripts/api-docs.mjs FILE: the API reference, from lib/index.ts and its doc comments, as one Markdown file.
// Exit code 1 and the reasons if typedoc warns: something public is not exported, has no comment, or is in no chapter.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  Application,
  Comment,
  CommentTag,
  Converter,
  ReferenceType,
  ReflectionKind,
  UnknownType,
} from 'typedoc';

/** The chapters, in the order in which a user needs them. */
const CHAPTERS = {
  'Opening a machine': ['openSystem', 'System', 'SystemOptions', 'MACHINE_PRESETS', 'LeakReport'],
  Streams: [
    ...['createReadStream', 'createWriteStream', 'P2pReadStream', 'P2pWriteStream'],
    ...['ReadStreamOptions', 'WriteStreamOptions', 'OnProgress', 'Progress', 'optionHelp', 'Pace'],
  ],
  'Copies and receipts': [
    ...['pipeline', 'PipelineSource', 'PipelineDestination', 'PipelineOptions'],
    ...['Receipt', 'receiptOf', 'Origin', 'PathBytes', 'RouteChoice'],
    ...['planCopy', 'CopyPlan', 'PlannedEnd', 'PlannedDestination', 'Signature'],
  ],
  'Targets and memory': [
    ...['Target', 'P2pFileHandle', 'TargetOptions', 'QueueLimits', 'Allocation'],
    ...['PassthroughCommand', 'PassthroughResult'],
  ],
  'The machine': [
    ...['Topology', 'PciDev', 'HostBridge'],
    ...['Controller', 'Disk', 'Place', 'SnapshotOptions', 'describeMachine', 'Evidence'],
  ],
  'Verdicts: explain and doctor': [
    ...['Explanation', 'ClientVerdict', 'Hop', 'Unreachable', 'Stacked'],
    ...['hostBridgeVerdict', 'HostBridgeVerdict', 'KERNEL_RELEASES'],
    ...['diagnose', 'DiagnoseOptions', 'Diagnosis'],
    ...['Finding'],
  ],
  'Seeing it run': [
    ...['Metrics', 'METRICS_CHANNEL', 'MetricsEvent'],
    ...['prometheusMetrics', 'PrometheusOptions', 'PromClient', 'TraceEvent', 'TRACE_CHANNEL'],
  ],
  Errors: ['P2pdmaError', 'ErrorCode', 'ERROR_CODES'],
};

/** Methods that are overridden but work the same for a caller. */
const NODES = new Set(['addListener', 'read', 'write']);

const root = fileURLToPath(new URL('../', import.meta.url));
const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('api-docs: name the file to write');
const streams = await import('../dist/lib/streams/options.js');
const systems = await import('../dist/lib/backend/system-options.js');

/** Options that are described in their table, which is also used for help texts and validation. */
const TABLES = {
  ReadStreamOptions: streams.readOptions,
  WriteStreamOptions: streams.writeOptions,
  PipelineOptions: streams.copyOptions,
  TargetOptions: streams.targetOptions,
  SystemOptions: systems.systemOptions,
  DiagnoseOptions: systems.diagnoseOptions,
  SnapshotOptions: systems.snapshotOptions,
};

const out = mkdtempSync(join(tmpdir(), 'p2pdma-api-'));
try {
  const app = await Application.bootstrapWithPlugins({
    entryPoints: [join(root, 'lib/index.ts')],
    tsconfig: join(root, 'tsconfig.json'),
    plugin: ['typedoc-plugin-markdown'],
    out,
    router: 'module',
    entryFileName: 'api',
    readme: 'none',
    name: 'API',
    disableSources: true,
    disableGit: true,
    hidePageHeader: true,
    hideBreadcrumbs: true,
    hideGroupHeadings: true,
    excludeInternal: true,
    excludeExternals: true,
    excludePrivate: true,
    categorizeByGroup: false,
    categoryOrder: Object.keys(CHAPTERS),
    sort: ['source-order'],
    // tsc checks for errors in `npm run build`.
    skipErrorChecking: true,
    indexFormat: 'list',
    useCodeBlocks: true,
    expandParameters: true,
    expandObjects: true,
    parametersFormat: 'none',
    interfacePropertiesFormat: 'table',
    classPropertiesFormat: 'table',
    typeAliasPropertiesFormat: 'table',
    typeDeclarationFormat: 'table',
    propertyMembersFormat: 'table',
    tableColumnSettings: {
      hideDefaults: true,
      hideInherited: true,
      hideModifiers: true,
      hideOverrides: true,
      hideSources: true,
    },
    validation: { notExported: true, invalidLink: true, notDocumented: false },
  });
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    hide(project);
    describe(project);
    flatten(project);
    for (const name of arrange(project))
      app.logger.warn(`${name}: no chapter of scripts/api-docs.mjs has it, or no file`);
  });
  // Ignore typedoc's warning about @interface on a union: every property is in all branches of the union, and the
  // comments say which pairs are not possible.
  const warn = app.logger.warn.bind(app.logger);
  app.logger.warn = (text, ...more) => /@interface on a union/.test(text) || warn(text, ...more);
  const project = await app.convert();
  if (project === undefined) throw new Error('api-docs: lib/index.ts does not compile');
  order(project);
  for (const name of undocumented(project)) app.logger.warn(`${name} has no comment`);
  app.validate(project);
  await app.generateOutputs(project);
  if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exitCode = 1;
  else writeFileSync(file, tidy(readFileSync(join(out, 'api.md'), 'utf8')));
} finally {
  rmSync(out, { recursive: true });
}

/**
 * Puts each export into its chapter. Returns the exports that belong to no chapter, and the names in chapters that do
 * not exist.
 */
function arrange(project) {
  const left = new Map(project.children.map((child) => [child.name, child]));
  const wrong = [];
  for (const [chapter, names] of Object.entries(CHAPTERS)) {
    for (const name of names) {
      const reflection = left.get(name);
      if (!left.delete(name)) wrong.push(name);
      for (const { comment } of [reflection, ...(reflection?.signatures ?? [])])
        comment?.blockTags.push(new CommentTag('@category', [{ kind: 'text', text: chapter }]));
    }
  }
  return [...wrong, ...left.keys()];
}

/**
 * Hides members that are public only to TypeScript: methods that Node calls, and the key by which our streams recognise
 * each other.
 */
function hide(project) {
  for (const reflection of project.getReflectionsByKind(ReflectionKind.ClassMember))
    if (/^_|^\[lendingEnd\]$/.test(reflection.name) || (NODES.has(reflection.name) && reflection.overwrites))
      project.removeReflection(reflection);
  // docs/errors.md lists the codes.
  const code = () =>
    ReferenceType.createResolvedReference('ErrorCode', project.getChildByName(['ErrorCode']), project);
  project.getChildByName(['ERROR_CODES']).type = new UnknownType(
    'Readonly<Record<ErrorCode, { cause: string; remedy: string }>>',
  );
  project.getChildByName(['P2pdmaError', 'code']).type = code();
  project.getChildByName(['P2pdmaError', 'constructor']).signatures[0].parameters[0].type = code();
}

/** Getters are used like properties, so they are listed with them. */
function flatten(project) {
  for (const member of project.getReflectionsByKind(ReflectionKind.ClassMember)) {
    delete member.overwrites;
    const { getSignature } = member;
    if (getSignature === undefined) continue;
    member.kind = ReflectionKind.Property;
    member.type = getSignature.type;
    member.comment = getSignature.comment;
    member.getSignature = undefined;
    project.removeReflection(getSignature);
  }
}

/** Adds the description and the default of each option from the table of options. */
function describe(project) {
  for (const [name, { shape }] of Object.entries(TABLES)) {
    for (const option of project.getChildByName([name]).children) {
      if (shape[option.name] === undefined) continue;
      const { text, value, byDefault } = streams.helpOf(shape[option.name]);
      const words =
        typeof value === 'string' ? `\`'${value}'\`` : value === undefined ? byDefault : `\`${value}\``;
      const more = words === '' ? '' : ` Default ${words}.`;
      option.comment = new Comment([{ kind: 'text', text: `${text}${more}` }]);
    }
  }
}

/** Sorts the exports into the order of the chapters. */
function order(project) {
  for (const { title, children } of project.categories)
    children.sort(
      (a, b) => (CHAPTERS[title] ?? []).indexOf(a.name) - (CHAPTERS[title] ?? []).indexOf(b.name),
    );
}

/** Lists names without a comment. Parts of a nested object type are described with the property that has this type. */
function undocumented(project) {
  const { TypeAlias, Interface, Class, Variable, Property, SomeSignature } = ReflectionKind;
  const kinds = TypeAlias | Interface | Class | Variable | Property | SomeSignature;
  const nested = ({ parent }) =>
    parent?.kindOf(ReflectionKind.TypeLiteral) || (parent !== undefined && nested(parent));
  return project
    .getReflectionsByKind(kinds)
    .filter((reflection) => !reflection.hasComment() && !nested(reflection))
    .map((reflection) => reflection.getFullName());
}

/** Removes text that only repeats the signature, and anchors that nothing links to. */
function tidy(text) {
  const beginning = `This is every name that \`import … from 'p2pdma'\` has, in the order in which one meets them. It is made from the doc
comments in \`lib/\` by \`npm run docs\`. Sizes and offsets are in bytes, PCI addresses are written \`'0000:03:00.0'\`.
Errors are \`P2pdmaError\`; [error codes](errors.md) says what each code means.

${Object.keys(CHAPTERS)
  .map((chapter) => `- [${chapter}](#${chapter.toLowerCase().replaceAll(' ', '-').replaceAll(':', '')})`)
  .join('\n')}
`;
  return text
    .replace(/^# [\s\S]*?(?=\n## )/, `# API reference\n\n${beginning}`)
    .replaceAll(/<a id="[^"]*"><\/a> /g, '')
    .replaceAll(/^#+ (Returns|Implements|Overrides)\n\n.*\n\n/gm, '')
    .replaceAll(/^#+ (Extends|Extended by)\n\n(- .*\n)+\n/gm, '')
    .replaceAll(/^#+ Type Parameters\n\n(\|.*\n)+\n/gm, '')
    .replaceAll(/^#+ Throws\n\n/gm, 'Throws ')
    .replaceAll(/ +$/gm, '');
}
