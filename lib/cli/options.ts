import { type Command, InvalidArgumentError, Option } from 'commander';
import { didYouMean } from '../base/nearest.js';
import { MACHINE_PRESETS, openSystem, optionHelp, type System, type SystemOptions } from '../index.js';
import { CommandError, resolving } from './errors.js';
import { type Says, speaksFor } from './whose.js';

/** What every command takes: which machine. */
export interface MachineOptions {
  backend: 'auto' | 'native' | 'emulator';
  machine?: string;
  root?: string;
  /** Of commands that ask what another kernel would say. */
  kernel?: string;
  json?: boolean;
}

const SIZE = /^(\d+)\s*(?:([kmgt])(i?b)?|b)?$/i;
const POWER: Record<string, number> = { '': 0, k: 1, m: 2, g: 3, t: 4 };

/** What a command that takes sizes says of them. */
export const SIZES = [
  'Sizes',
  'Bytes, or with k, m, g, t (or KiB, MiB, …), which are powers of 1024: 4096, 64KiB, 1m. KB, MB, … are refused: they ' +
    'mean one thing to some and another to others.',
] as const;

/** `1MiB`, `64k`, `4096`: bytes. Units are powers of 1024. */
export function size(text: string): number {
  const match = SIZE.exec(text.trim());
  if (match === null) throw new InvalidArgumentError('Expected a size such as 4096, 64KiB or 1MiB.');
  const [, digits, unit = '', suffix] = match;
  const power = POWER[unit.toLowerCase()]!;
  const value = Number(digits) * 1024 ** power;
  if (suffix?.toLowerCase() === 'b') {
    const decimal = Number(digits) * 1000 ** power;
    throw new InvalidArgumentError(
      `That is two sizes: say ${digits}${unit.toUpperCase()}iB (${value}) or ${decimal}.`,
    );
  }
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('That is beyond 2^53.');
  return value;
}

export function atLeastOne(text: string): number {
  const value = count(text);
  if (value < 1) throw new InvalidArgumentError('Expected 1 or more.');
  return value;
}

export function count(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('Expected a whole number.');
  return value;
}

/** An option that takes one of a few words, all of which its description names. */
export function oneOf(flags: string, description: string, choices: readonly string[]): Option {
  const option = new Option(flags, description).choices(choices).default(choices[0]);
  return option.argParser((value) => {
    if (choices.includes(value)) return value;
    const meant = didYouMean(value, choices);
    throw new InvalidArgumentError(`Allowed choices are ${choices.join(', ')}. ${meant}`.trimEnd());
  });
}

/** What the library says of one of its options, as a line of help: what it is for, and its default if that is not `false`. */
export function inHelp(option: keyof typeof optionHelp, more = ''): string {
  const { text, value, byDefault } = optionHelp[option];
  const words = `${text[0]!.toLowerCase()}${text.slice(1).replace(/\.$/, '')}${more}`;
  return value === false || byDefault === '' ? words : orElse(words, byDefault);
}

/** The same with one of a few words. */
export function choiceOf(flags: string, option: keyof typeof optionHelp): Option {
  const { choices } = optionHelp[option];
  const [first, ...others] = choices;
  return oneOf(flags, `${inHelp(option)}; also ${others.join(', ')}`, choices).default(first);
}

/** An option of the command’s own, with its default in the words. */
export function orElse(text: string, byDefault: string | number): string {
  return `${text} (default: ${byDefault})`;
}

/** One machine, and not two that say different things. */
function checkMachine({ backend, machine, root }: MachineOptions): void {
  const both =
    machine !== undefined && root !== undefined
      ? '--machine and --root name two machines'
      : machine !== undefined && backend === 'native'
        ? "--machine is emulated, and --backend is 'native'"
        : root !== undefined && backend === 'emulator'
          ? "--root is looked at natively, and --backend is 'emulator'"
          : null;
  if (both === null) return;
  throw new CommandError('ERR_INVALID_ARG_VALUE', both, 'Drop one of them.');
}

/** Which kernel, for commands that only look. */
export function withKernel(command: Command, more = ''): Command {
  return command
    .optionsGroup('Which machine:')
    .option('--kernel <release>', `answer as this kernel would: 7.2, 6.12.117, 6.17.0-35-generic${more}`);
}

/** Which machine, for every command that looks at one. */
export function withMachine(command: Command): Command {
  return command
    .hook('preAction', (_this, action) => resolving(() => checkMachine(action.opts())))
    .optionsGroup('Which machine:')
    .option(
      '--machine <preset|file>',
      `emulate this one: a JSON file (see snapshot), or ${MACHINE_PRESETS.join(', ')}`,
    )
    .option(
      '--root <dir>',
      'look at a captured tree: <dir>/sys and <dir>/proc, of any Linux machine, on any OS',
    )
    .addOption(
      oneOf(
        '--backend <name>',
        'this Linux (native), a machine in this process (emulator: switch, unless --machine names another), or auto (the ' +
          'default): emulator if --machine is given, else native',
        ['auto', 'native', 'emulator'],
      ),
    )
    .optionsGroup('Output:')
    .option('--json', 'one JSON object on stdout');
}

export function openMachine(options: MachineOptions, says?: Says): Promise<System> {
  return open(options, { inspect: false }, says);
}

/** The same for commands that only look: natively they need no addon. */
export function inspectMachine(options: MachineOptions, says?: Says): Promise<System> {
  return open(options, { inspect: true }, says);
}

async function open(
  { backend, machine, root, kernel, json }: MachineOptions,
  how: SystemOptions,
  says: Says = json ? 'data' : 'text',
): Promise<System> {
  const wanted: SystemOptions = { ...how, backend };
  if (machine !== undefined) wanted.machine = machine;
  if (root !== undefined) wanted.root = root;
  if (kernel !== undefined) wanted.kernel = kernel;
  // A machine that is named is looked for; this one is there, or the command fails.
  const named = machine !== undefined || root !== undefined || kernel !== undefined;
  const system = await (named ? resolving(() => openSystem(wanted)) : openSystem(wanted));
  speaksFor(system, says);
  return system;
}
