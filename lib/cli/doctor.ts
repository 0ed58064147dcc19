import type { Command } from 'commander';
import { type Diagnosis, diagnose, type Finding } from '../index.js';
import { type Colours, colours, columns, json, printable, wrap } from './format.js';
import { type MachineOptions, withMachine } from './options.js';

/** Exit codes. */
const CODES = { works: 0, limited: 1, impossible: 2 } as const;

export function addDoctor(program: Command): void {
  withMachine(
    program.command('doctor').description('will peer-to-peer DMA work here, and if not, what is to be done'),
  )
    .addHelpText('after', MORE)
    .action(async ({ backend, machine, root, json: asJson }: MachineOptions) => {
      const emulated = machine ?? (backend === 'emulator' ? 'switch' : undefined);
      const diagnosis = await diagnose({
        ...(root === undefined ? {} : { root }),
        ...(emulated === undefined ? {} : { machine: emulated }),
      });
      const exitCode = CODES[diagnosis.verdict];
      process.stdout.write(
        asJson
          ? `${json({ ...diagnosis, exitCode })}\n`
          : `${draw(diagnosis, colours(process.stdout), columns(process.stdout)).join('\n')}\n`,
      );
      process.exitCode = exitCode;
    });
}

const MORE = `
Exit codes: 0 it works, 1 it works with limits (the warnings), 2 it is impossible (the problems).
An error of the command itself (a file that is not there) is 1, with a message on stderr.

Examples:
  p2pdma doctor                        this machine
  sudo npx p2pdma doctor               the same, with what only root can read (ACS)
  p2pdma doctor --root ./captured      another machine's sys/ and proc/, on any OS
  p2pdma doctor --machine acs          an emulated machine`;

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

function draw(
  { machine, findings, unchecked, verdict }: Diagnosis,
  colour: Colours,
  width: number,
): string[] {
  const titleWidth = Math.max(...findings.map(({ check }) => TITLES[check].length));
  let before: string | null = null;
  const lines = findings.flatMap((one) => {
    const title = one.check === before ? '' : TITLES[one.check];
    before = one.check;
    return drawFinding(one, title.padEnd(titleWidth), colour, width);
  });
  const left = unchecked.map(({ check, why }) => `${TITLES[check]} (${why})`).join(', ');
  return [
    colour.bold(`p2pdma doctor: ${printable(machine)}`),
    '',
    ...lines,
    ...(left === '' ? [] : wrap(`not looked at: ${left}`, width).map(colour.dim)),
    '',
    conclusion(findings, verdict, colour),
  ];
}

function drawFinding(one: Finding, title: string, colour: Colours, width: number): string[] {
  const tint = { ok: colour.green, warning: colour.yellow, problem: colour.red }[one.level];
  const first = `${tint(one.level.padEnd(7))}  ${colour.dim(title)}  `;
  const indent = ' '.repeat(7 + 2 + title.length + 2);
  const remedy =
    one.remedy === null
      ? []
      : wrap(printable(one.remedy), width, `${indent}${colour.cyan('▸')} `, `${indent}  `);
  return [
    ...wrap(printable(one.fact), width, first, indent),
    ...remedy,
    // Never broken: they are to be pasted.
    ...one.commands.map((command) => `    ${colour.bold(printable(command))}`),
  ];
}

function conclusion(findings: readonly Finding[], verdict: Diagnosis['verdict'], colour: Colours): string {
  const count = (level: Finding['level']): string => {
    const n = findings.filter((one) => one.level === level).length;
    return `${n} ${level}${n === 1 ? '' : 's'}`;
  };
  switch (verdict) {
    case 'works':
      return colour.green('peer-to-peer DMA works here');
    case 'limited':
      return colour.yellow(`peer-to-peer DMA works here, with limits: ${count('warning')}`);
    case 'impossible':
      return colour.red(`peer-to-peer DMA is impossible here: ${count('problem')}, ${count('warning')}`);
    default:
      return verdict satisfies never;
  }
}
