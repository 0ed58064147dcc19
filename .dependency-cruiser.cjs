const { BUNDLED } = require('./scripts/bundle.cjs');

// Which part of lib/ may import which other part, as data: `npm test` fails on any other import. Each row has a folder
// or file of lib/ and everything that it may import besides itself and node: built-ins. There are no cycles; native and
// emulator do not import each other.
const arrows = [
  ['base', []],
  ['backend', ['base']],
  ['host', ['backend', 'base']],
  ['machine', ['host', 'backend', 'base']],
  ['kernel', ['backend', 'base']],
  ['native', ['kernel', 'host', 'backend', 'base']],
  ['dump', ['native', 'kernel', 'backend', 'base']],
  ['emulator', ['machine', 'kernel', 'host', 'backend', 'base']],
  ['streams', ['host', 'kernel', 'backend', 'base']],
  // What a process says of its streams, and whom it says it to.
  ['observe', ['streams', 'backend', 'base']],
  // The process that uses a journal is found in /proc, which only one file reads.
  ['copy', ['native/sysfs/tree', 'streams', 'kernel', 'host', 'backend', 'base']],
  ['explain', ['dump', 'native', 'emulator', 'machine', 'streams', 'kernel', 'backend', 'base']],
  // What a picture of a machine shows. It also runs in a browser, where nothing of Node exists.
  ['page', ['explain/explain', 'explain/stacked', 'kernel', 'backend', 'base']],
  [
    'system',
    [
      'observe',
      'copy',
      'explain',
      'emulator',
      'machine',
      'dump',
      'native',
      'streams',
      'kernel',
      'backend',
      'base',
    ],
  ],
  ['prometheus', ['system', 'streams', 'base']],
  ['index', ['prometheus', 'system', 'explain', 'copy', 'streams', 'kernel', 'backend', 'base']],
  // Not public: `p2pdma sim` and the tests play its scenarios.
  ['sim', ['system', 'copy', 'emulator', 'machine', 'streams', 'kernel', 'backend', 'base']],
  [
    'cli',
    [
      'index',
      'copy/pipe-reader',
      'copy/pipe-writer',
      'sim/play',
      'observe/ask',
      'page',
      'machine/preset-names',
      'base/boot-line',
      'base/errors',
      'base/nearest',
      'base/pci-class',
      'base/printable',
      'base/sentence',
      'base/words',
      'base/zod',
    ],
  ],
];

for (const [i, [who, may]] of arrows.entries()) {
  const below = arrows.slice(0, i).map(([name]) => name);
  const up = may.find((name) => !below.includes(name.split('/')[0]));
  if (up !== undefined) throw new Error(`${who} may import ${up}, which is not above it in the table`);
}

// Modules that are loaded when they are first needed. The rest of lib/ may reach them by import() only.
const atNeed = [
  'native/',
  'observe/',
  'emulator/',
  'dump/',
  'machine/(?!preset-names)',
  'sim/',
  'copy/(plan|resume|verify|journal|journal-owner|processes|blkid|signatures|signature-table)[.]',
  'explain/(try[.]|doctor/(facts|.*checks)[.])',
  'cli/(?!(main|program|commands|errors|format|help|line|shells|version|whose)[.])',
].map((part) => `^lib/${part}`);

const inLib = (part) => `^lib/${part}(/|\\.ts$)`;

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, path: '^lib/' }, to: {} },
    {
      name: 'packages-are-declared',
      comment: 'What is bundled is for development only.',
      severity: 'error',
      from: { path: '^lib/' },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'],
        pathNot: BUNDLED.map((name) => `node_modules/${name}/`),
      },
    },
    {
      name: 'zod comes through lib/base/zod.ts',
      comment: 'What it leaves on globalThis is declared there first.',
      severity: 'error',
      from: { path: '^lib/', pathNot: '^lib/base/zod\\.ts$' },
      to: { path: 'node_modules/zod/' },
    },
    {
      name: 'the contract does no I/O',
      comment:
        'lib/backend holds types and what both backends need of them; what asks the host is in lib/host.',
      severity: 'error',
      from: { path: '^lib/backend/' },
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?(buffer|events|path|util)$' },
    },
    ...arrows.map(([who, may]) => ({
      name: `${who} imports only: ${may.join(', ') || 'nothing'}`,
      severity: 'error',
      from: { path: inLib(who) },
      to: { path: '^lib/', pathNot: [who, ...may].map(inLib) },
    })),
    {
      name: 'loaded-at-need',
      severity: 'error',
      from: { path: '^lib/', pathNot: atNeed },
      to: { path: atNeed, dynamic: false, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'public-face-only',
      comment: 'Examples and benchmarks use what a user can import. floor-job.ts measures what lies below.',
      severity: 'error',
      from: { path: '^(examples|bench)/', pathNot: '^bench/native/floor-job\\.ts$' },
      to: { path: '^lib/', pathNot: inLib('index') },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
};
