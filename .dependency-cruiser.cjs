// The house's allowed arrows, as data: `npm test` fails on any other import.
// Each row: who (a folder or file of lib/), and everything it may import besides
// itself, node: built-ins and the packages named.
const house = [
  ['errno', []],
  ['errors', ['errno']],
  ['arguments', ['errors']],
  ['quiet-globals', []],
  ['zod', ['quiet-globals']],
  ['trace', []],
  ['nearest', []],
  [
    'backend/(backend|buffer-limit|hardware|topology|nvme|what-is)',
    ['backend/(backend|buffer-limit|hardware|topology|nvme|what-is)', 'errors', 'errno', 'nearest'],
  ],
  [
    'kernel',
    [
      'arguments',
      'backend/(backend|buffer-limit|hardware|topology|nvme|what-is)',
      'errors',
      'errno',
      'trace',
    ],
  ],
  [
    'backend/emulator',
    [
      'kernel',
      'backend/(backend|buffer-limit|hardware|topology|nvme|what-is)',
      'errors',
      'errno',
      'nearest',
      'trace',
      'zod',
    ],
  ],
  [
    'backend/native',
    ['kernel', 'backend/(backend|buffer-limit|hardware|topology|nvme|what-is)', 'errors', 'errno', 'trace'],
  ],
  [
    'streams',
    ['kernel', 'backend/(backend|topology)', 'arguments', 'zod', 'errors', 'errno', 'nearest', 'trace'],
  ],
  ['explain', ['kernel', 'backend/(backend|topology)', 'errors', 'nearest']],
  ['doctor', ['streams/options', 'zod', 'explain', 'kernel', 'backend', 'errors']],
  ['copy', ['zod', 'streams', 'backend/(backend|topology|what-is)', 'errors', 'errno', 'nearest', 'trace']],
  [
    'system',
    ['arguments', 'zod', 'copy', 'explain', 'streams', 'kernel', 'backend', 'errors', 'errno', 'trace'],
  ],
  ['prometheus', ['arguments', 'zod', 'streams', 'system']],
  ['index', ['prometheus', 'doctor', 'system', 'copy', 'streams', 'kernel', 'backend', 'errors', 'trace']],
  ['cli', ['index', 'nearest']],
];

const inLib = (part) => `^lib/${part}(/|\\.ts$)`;

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, path: '^lib/' }, to: {} },
    {
      name: 'packages-are-declared',
      severity: 'error',
      from: { path: '^lib/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'] },
    },
    {
      name: 'zod comes through lib/zod.ts',
      comment: 'What it leaves on globalThis is declared there first.',
      severity: 'error',
      from: { path: '^lib/', pathNot: '^lib/zod\\.ts$' },
      to: { path: 'node_modules/zod/' },
    },
    ...house.map(([who, may]) => ({
      name: `${who} imports only: ${may.join(', ') || 'nothing'}`,
      severity: 'error',
      from: { path: inLib(who) },
      to: { path: '^lib/', pathNot: [who, ...may].map(inLib) },
    })),
    {
      name: 'public-face-only',
      comment: 'Examples and benchmarks use what a user can import.',
      severity: 'error',
      from: { path: '^(examples|bench)/' },
      to: { path: '^lib/', pathNot: inLib('index') },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
};
