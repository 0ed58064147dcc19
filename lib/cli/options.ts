import { type Command, InvalidArgumentError, Option } from 'commander';
import { MACHINE_PRESETS, openSystem, optionHelp, type System, type SystemOptions } from '../index.js';

/** What every command takes: which machine. */
export interface MachineOptions {
  backend: 'auto' | 'native' | 'emulator';
  machine?: string;
  root?: string;
  json?: boolean;
}

const SIZE = /^(\d+)\s*(|[kmgt])(i?b)?$/i;
const POWER: Record<string, number> = { '': 0, k: 1, m: 2, g: 3, t: 4 };

/** `1MiB`, `64k`, `4096`: bytes. Units are powers of 1024. */
export function size(text: string): number {
  const match = SIZE.exec(text.trim());
  if (match === null) throw new InvalidArgumentError('Expected a size such as 4096, 64KiB or 1MiB.');
  const value = Number(match[1]) * 1024 ** POWER[match[2]!.toLowerCase()]!;
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('That is beyond 2^53.');
  return value;
}

export function count(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('Expected a whole number.');
  return value;
}

export function withMachine(command: Command): Command {
  return command
    .addOption(
      new Option('--backend <name>', 'native: this Linux; emulator: a machine in this process')
        .choices(['auto', 'native', 'emulator'])
        .default('auto'),
    )
    .option(
      '--machine <preset|file>',
      `machine to emulate (implies the emulator): a JSON file, or ${MACHINE_PRESETS.join(', ')}`,
    )
    .option('--root <dir>', 'native: where sys/ and proc/ are (a captured tree)')
    .option('--json', 'one JSON object on stdout');
}

export function withTransfer(command: Command): Command {
  return command
    .option('--provider <name>', optionHelp.provider, 'auto')
    .option('--chunk <size>', optionHelp.highWaterMark, size)
    .option('--depth <n>', optionHelp.queueDepth, count)
    .option('--start <byte>', `Of the source. ${optionHelp.start}`, size)
    .option('--end <byte>', `Of the source. ${optionHelp.end}`, size)
    .option('--verify', 'read every destination back through host memory and compare')
    .option('--require-p2p', optionHelp.requireP2p)
    .option('--force', `${optionHelp.force} Do not ask about what it holds.`)
    .option('--quiet', 'no progress, no receipt; the exit code tells');
}

export function openMachine(options: MachineOptions): Promise<System> {
  const wanted: SystemOptions = { backend: options.backend };
  if (options.machine !== undefined) wanted.machine = options.machine;
  if (options.root !== undefined) wanted.root = options.root;
  return openSystem(wanted);
}

/** The same for commands that only look: natively they need no addon, and never show an emulated machine in its place. */
export function inspectMachine(options: MachineOptions): Promise<System> {
  const { backend, machine, root } = options;
  const wanted: SystemOptions = { backend, inspect: true };
  if (machine !== undefined) wanted.machine = machine;
  if (root !== undefined) wanted.root = root;
  return openSystem(wanted);
}
