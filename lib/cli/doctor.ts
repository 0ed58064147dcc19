import type { Command } from 'commander';
import * as z from '../base/zod.js';
import { type DiagnoseOptions, type Diagnosis, diagnose, type Finding } from '../index.js';
import { DEFAULT_PRESET } from '../machine/preset-names.js';
import { CommandError, resolving } from './errors.js';
import { type Colours, colours, columns, PAGE_WIDTH, printable, uncoloured, wrap } from './format.js';
import { LOOKS, type Manual, manual } from './help.js';
import { flag, type OptionsOf, row, withOptions } from './option-table.js';
import { type MachineOptions, withKernel, withMachine, withSent } from './options.js';
import { ownJson, speaksFor, tell } from './whose.js';

const REPORT = {
  report: row(z.optional(z.string().check(z.minLength(1, 'Name a file, such as report.html.'))), {
    takes: '<file>',
    text: 'also write a page for a ticket: this, list, topo, explain and versions in one file that fetches nothing; a file that exists is not overwritten',
    offers: ['files'],
  }),
  withNames: row(flag, {
    text: 'in the page also serial numbers, the host’s name, mount points and paths (default: they are left out)',
  }),
};

interface DoctorOptions extends MachineOptions, OptionsOf<typeof REPORT> {}

/** Exit code for each verdict. */
const CODES = { works: 0, limited: 1, unknown: 1, impossible: 2 } as const;

export function addDoctor(command: Command): void {
  manual(command, MANUAL);
  withOptions(command, 'Report:', REPORT);
  withKernel(withSent(withMachine(command))).action(async (options: DoctorOptions) => {
    const { backend, machine, root, kernel, from, cpu, json: asJson, report } = options;
    await resolving(() => assertReport(options));
    const emulated = machine ?? (backend === 'emulator' ? DEFAULT_PRESET : undefined);
    // They select exactly one machine: withMachine has checked that.
    const what = { root, machine: emulated, kernel, from, cpu } as DiagnoseOptions;
    const named = [root, machine, kernel, from].some((one) => one !== undefined);
    const diagnosis = await (named ? resolving(() => diagnose(what)) : diagnose(what));
    if (report !== undefined) await writeReport(report, diagnosis, options);
    speaksFor(diagnosis, asJson ? 'data' : 'text');
    const exitCode = CODES[diagnosis.verdict];
    tell(
      asJson
        ? ownJson({ ...diagnosis, exitCode, ...(report === undefined ? {} : { report }) })
        : [
            ...draw(diagnosis, colours(process.stdout), columns(process.stdout)),
            ...(report === undefined ? [] : wrap(`report: ${printable(report)}`, columns(process.stdout))),
          ].join('\n'),
    );
    process.exitCode = exitCode;
  });
}

function assertReport({ report, withNames }: DoctorOptions): void {
  if (withNames && report === undefined) {
    throw new CommandError(
      'ERR_INVALID_ARG_VALUE',
      '--with-names is about the page of --report, which is not given',
      'Add --report, or drop --with-names.',
    );
  }
}

async function writeReport(file: string, diagnosis: Diagnosis, options: DoctorOptions): Promise<void> {
  const [{ reportPage }, { answer }, { createFile }] = await Promise.all([
    import('./page/report.js'),
    import('./explain.js'),
    import('./page/file.js'),
  ]);
  await createFile(file, () =>
    reportPage({
      diagnosis,
      titles: TITLES,
      conclusion: conclusion(diagnosis.findings, diagnosis.verdict, uncoloured),
      options,
      withNames: options.withNames ?? false,
      explained: (system) => answer(system, undefined, [], {}, { colour: uncoloured, width: PAGE_WIDTH }),
    }),
  );
}

const MANUAL: Manual = {
  about: [
    'Looks at everything that peer-to-peer DMA needs and says of each whether it is ok, a warning (it works, with this ' +
      'limit) or a problem (it cannot work while this is so), with the remedy and lines to paste: kernel and its ' +
      'configuration, addon, IOMMU, drives and their CMBs, permissions, multipath, fabrics, ACS, host bridges, each pair ' +
      'of drives, io_uring, locked memory. Nothing is opened for writing, no I/O is done.',
    'Run it as root to see ACS settings, which only root can read.',
  ],
  exitCodes: [
    ['0', 'it works'],
    [
      '1',
      'it works with limits (the warnings), or the captured data does not show enough; or doctor itself failed, with a message on stderr',
    ],
    ['2', 'it is impossible (the problems), or a usage error'],
  ],
  environment: LOOKS,
  examples: [
    ['This machine, as far as you may look.', 'p2pdma doctor'],
    ['The same, with what only root can read.', 'sudo npx p2pdma doctor'],
    [
      'Another machine’s sys/ and proc/, on any OS (here with warnings: exit code 1).',
      'p2pdma doctor --root ./captured',
    ],
    ['An emulated machine on which it cannot work (exit code 2).', 'p2pdma doctor --machine acs'],
    ['What an upgrade would bring.', 'p2pdma doctor --machine switch --kernel 7.2'],
    ['For a program.', 'p2pdma doctor --machine switch --json'],
    ['A page to send with a question.', 'sudo npx p2pdma doctor --report report.html'],
  ],
};

const TITLES: Record<Finding['check'], string> = {
  platform: 'platform',
  kernel: 'kernel',
  config: 'config',
  addon: 'addon',
  iommu: 'IOMMU',
  drives: 'drives',
  cmb: 'CMB',
  permissions: 'permissions',
  multipath: 'multipath',
  fabrics: 'fabrics',
  acs: 'ACS',
  'host-bridge': 'host bridge',
  pairs: 'pairs',
  io_uring: 'io_uring',
  memlock: 'locked memory',
};

function draw({ what, findings, unchecked, verdict }: Diagnosis, colour: Colours, width: number): string[] {
  const titleWidth = Math.max(...findings.map(({ check }) => TITLES[check].length));
  let before: string | null = null;
  const lines = findings.flatMap((one) => {
    const title = one.check === before ? '' : TITLES[one.check];
    before = one.check;
    return drawFinding(one, title.padEnd(titleWidth), colour, width);
  });
  const left = unchecked.map(({ check, why }) => `${TITLES[check]} (${why})`).join(', ');
  return [
    colour.bold(`p2pdma doctor: ${printable(what)}`),
    '',
    ...lines,
    ...(left === '' ? [] : wrap(`not checked: ${left}`, width).map(colour.dim)),
    '',
    conclusion(findings, verdict, colour),
  ];
}

function drawFinding(one: Finding, title: string, colour: Colours, width: number): string[] {
  const tint = { ok: colour.green, warning: colour.yellow, unknown: colour.yellow, problem: colour.red }[
    one.level
  ];
  const first = `${tint(one.level.padEnd(7))}  ${colour.dim(title)}  `;
  const indent = ' '.repeat(7 + 2 + title.length + 2);
  const remedy =
    one.remedy === null
      ? []
      : wrap(printable(one.remedy), width, `${indent}${colour.cyan('▸')} `, `${indent}  `);
  return [
    ...wrap(printable(one.fact), width, first, indent),
    ...remedy,
    // Commands are never wrapped, because users paste them.
    ...one.commands.map((command) => `    ${colour.bold(printable(command))}`),
  ];
}

function conclusion(findings: readonly Finding[], verdict: Diagnosis['verdict'], colour: Colours): string {
  const count = (level: Finding['level']): string => {
    const n = findings.filter((one) => one.level === level).length;
    return `${n} ${level}${n === 1 || level === 'unknown' ? '' : 's'}`;
  };
  switch (verdict) {
    case 'works':
      return colour.green('peer-to-peer DMA works here');
    case 'limited':
      return colour.yellow(`peer-to-peer DMA works here, with limits: ${count('warning')}`);
    case 'unknown':
      return colour.yellow(
        `whether peer-to-peer DMA works there is not known: ${count('unknown')}, ${count('warning')}`,
      );
    case 'impossible':
      return colour.red(`peer-to-peer DMA is impossible here: ${count('problem')}, ${count('warning')}`);
    default:
      return verdict satisfies never;
  }
}
