import { basename } from 'node:path';
import type { Command } from 'commander';
import { readSize } from '../base/words.js';
import * as z from '../base/zod.js';
import {
  describeMachine,
  KERNEL_RELEASES,
  MACHINE_PRESETS,
  openSystem,
  optionHelp,
  type System,
  type SystemOptions,
} from '../index.js';
import { CommandError, resolving } from './errors.js';
import { contradiction } from './line.js';
import { flag, type Offer, type OptionsOf, oneOf, orElse, row, withOptions } from './option-table.js';
import { type Says, speaksFor } from './whose.js';

const WHICH_MACHINE = 'Which machine:';

const MACHINE = {
  machine: row(z.optional(z.string()), {
    takes: '<preset|file>',
    text: `emulate this one: a JSON file (see snapshot), or ${MACHINE_PRESETS.join(', ')}`,
    offers: ['presets', 'files'],
  }),
  root: row(z.optional(z.string()), {
    takes: '<dir>',
    text: 'look at a captured tree: <dir>/sys and <dir>/proc, of any Linux machine, on any OS',
    offers: ['directories'],
  }),
  backend: row(oneOf(['auto', 'native', 'emulator']), {
    takes: '<name>',
    text:
      'this Linux (native), a machine in this process (emulator: switch, unless --machine names another), or auto (the ' +
      'default): emulator if --machine is given, else native',
  }),
};

const SENT = {
  from: row(z.optional(z.string().check(z.minLength(1, 'Name a file or a folder, or write - for stdin.'))), {
    takes: '<what>',
    text: 'show another machine from data captured on it: the output of lspci, or a folder; - is stdin; may be repeated',
    offers: ['files', 'directories'],
    repeats: true,
  }),
  cpu: row(z.optional(z.string()), {
    takes: '<vendor:family>',
    text: 'the processor of that machine, if the captured data does not show it: amd:0x19, intel:6',
    offers: [{ words: ['amd:0x17', 'amd:0x19', 'amd:0x1a', 'intel:6'] }],
  }),
};

const OUTPUT = { json: row(flag, { text: 'one JSON object on stdout' }) };

/** The options of every command that select a machine. */
export interface MachineOptions extends OptionsOf<typeof MACHINE & typeof OUTPUT> {
  /** Of commands that can apply the rules of another kernel. */
  readonly kernel?: string;
  /** Of commands that only inspect: the captured data, with stdin already read. */
  readonly from?: readonly (string | Uint8Array)[];
  readonly cpu?: string;
}

/** The section on sizes in the help of commands that take them. */
export const SIZES = [
  'Sizes',
  'Bytes, or with k, m, g, t (or KiB, MiB, …), which are powers of 1024: 4096, 64KiB, 1m. KB, MB, … are refused: they ' +
    'mean one thing to some and another to others.',
] as const;

/** A size such as `1MiB`, `64k` or `4096`, in bytes. Units are powers of 1024. */
export const size = z.pipe(
  z.string(),
  z.transform((text, { issues }): number => {
    const refuse = (why: string) => {
      issues.push({ code: 'custom', message: why, input: text });
      return z.NEVER;
    };
    const found = readSize(text);
    if (found === null) return refuse('Give a size such as 4096, 64KiB or 1MiB.');
    const { bytes, ambiguous } = found;
    if (ambiguous !== null) {
      const { clear, decimal } = ambiguous;
      return refuse(`This unit is ambiguous: write ${clear} (${bytes}) or ${decimal}.`);
    }
    return Number.isSafeInteger(bytes) ? bytes : refuse('Give less than 2^53 bytes.');
  }),
);

export const count = z
  .pipe(z.string(), z.transform(Number))
  .check(z.refine((value) => Number.isSafeInteger(value) && value >= 0, 'Give a whole number.'));

export const atLeastOne = count.check(z.refine((value) => value >= 1, 'Give a whole number of 1 or more.'));

/** The library's description of one of its options, as a line of help. */
export function purpose(option: keyof typeof optionHelp): string {
  const { text } = optionHelp[option];
  return `${text[0]!.toLowerCase()}${text.slice(1).replace(/\.$/, '')}`;
}

/** The same with its default, unless that is `false`. */
export function inHelp(option: keyof typeof optionHelp, more = ''): string {
  const { value, byDefault } = optionHelp[option];
  const words = `${purpose(option)}${more}`;
  return value === false || byDefault === '' ? words : orElse(words, byDefault);
}

/** The same with all its choices. */
export function choicesInHelp(option: keyof typeof optionHelp): string {
  return `${inHelp(option)}; also ${optionHelp[option].choices.slice(1).join(', ')}`;
}

export const BYTES_OFFERED: readonly Offer[] = [{ words: ['64MiB', '256MiB', '1GiB'] }];
export const CHUNK_OFFERED: readonly Offer[] = [{ words: ['64KiB', '256KiB', '512KiB', '1MiB'] }];
export const DEPTH_OFFERED: readonly Offer[] = [{ words: ['1', '8', '32'] }];
export const PROVIDER_OFFERED: readonly Offer[] = [{ words: ['auto', 'none'] }, 'functions'];

export const PROVIDER = row(z._default(z.string(), 'auto'), {
  takes: '<name>',
  text: purpose('provider'),
  offers: PROVIDER_OFFERED,
});

/** Options of commands that copy. */
export const P2P = {
  requireP2p: row(flag, { text: inHelp('requireP2p') }),
  allowUnproven: row(flag, { text: inHelp('allowUnproven') }),
};

/** Checks that the options select one machine and do not contradict each other. */
function checkMachine({ backend, machine, root, from, cpu }: MachineOptions): void {
  const contradictions: readonly (readonly [boolean, string])[] = [
    [from !== undefined && machine !== undefined, '--from and --machine name two machines'],
    [from !== undefined && root !== undefined, '--from and --root name two machines'],
    [
      from !== undefined && backend === 'emulator',
      "--from needs the native backend, but --backend is 'emulator'",
    ],
    [machine !== undefined && root !== undefined, '--machine and --root name two machines'],
    [
      machine !== undefined && backend === 'native',
      "--machine needs the emulator, but --backend is 'native'",
    ],
    [
      root !== undefined && backend === 'emulator',
      "--root needs the native backend, but --backend is 'emulator'",
    ],
  ];
  const both = contradictions.find(([holds]) => holds)?.[1];
  if (both !== undefined) throw contradiction(both);
  if (from !== undefined || cpu === undefined) return;
  throw new CommandError(
    'ERR_INVALID_ARG_VALUE',
    '--cpu describes the machine of --from, which is not given',
    'Add --from, or drop --cpu.',
  );
}

/** Adds the option that selects a kernel, for commands that only inspect. */
export function withKernel(command: Command, more = ''): Command {
  return withOptions(command, WHICH_MACHINE, {
    kernel: row(z.optional(z.string()), {
      takes: '<release>',
      text: `answer as this kernel would: 7.2, 6.12.117, 6.17.0-35-generic${more}`,
      offers: [{ words: KERNEL_RELEASES }],
    }),
  });
}

/** Adds the options that select a machine, for every command that uses one. */
export function withMachine(command: Command): Command {
  command.hook('preAction', (_this, action) => resolving(() => checkMachine(action.opts())));
  withOptions(command, WHICH_MACHINE, MACHINE);
  return withOptions(command, 'Output:', OUTPUT);
}

/** For commands that only inspect: adds the options for a machine that is described by captured data. */
export function withSent(command: Command): Command {
  command.hook('preAction', async (_this, action) => {
    const { from } = action.opts() as MachineOptions;
    if (from?.includes('-')) action.setOptionValue('from', await resolving(() => withStdin(from)));
  });
  return withOptions(command, WHICH_MACHINE, SENT);
}

/** The maximum that is read from stdin, the same as for any file that was sent. */
const MOST_STDIN = 2 ** 30;

async function withStdin(from: readonly (string | Uint8Array)[]): Promise<(string | Uint8Array)[]> {
  const chunks: Buffer[] = [];
  let room = MOST_STDIN;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    room -= (chunk as Buffer).length;
    if (room < 0) throw new CommandError('ERR_INVALID_ARG_VALUE', 'stdin has more than 1 GiB', 'Send less.');
  }
  const bytes = Buffer.concat(chunks);
  return from.map((one) => (one === '-' ? bytes : one));
}

export function openMachine(options: MachineOptions, says?: Says): Promise<System> {
  return open(options, { inspect: false }, says);
}

/** The same for commands that only inspect: on a real machine they do not need the addon. */
export function inspectMachine(options: MachineOptions, says?: Says): Promise<System> {
  return open(options, { inspect: true }, says);
}

async function open(
  { backend, machine, root, kernel, json, from, cpu }: MachineOptions,
  how: SystemOptions,
  says: Says = json ? 'data' : 'text',
): Promise<System> {
  if (from !== undefined) {
    const sent = await resolving(() =>
      describeMachine(from, { kernel, cpu } as Parameters<typeof describeMachine>[1]),
    );
    speaksFor(sent, says);
    return sent;
  }
  // They select exactly one machine: checkMachine has checked that.
  const wanted = { ...how, backend, machine, root, kernel } as SystemOptions;
  // A machine that is named may not exist, which is a usage error; this machine exists, so an error is a failure.
  const named = machine !== undefined || root !== undefined || kernel !== undefined;
  const system = await (named ? resolving(() => openSystem(wanted)) : openSystem(wanted));
  speaksFor(system, says);
  return system;
}

/** What a picture calls the machine. */
export function machineName(system: System, { machine, root, from }: MachineOptions): string {
  if (machine !== undefined) return basename(machine, '.json');
  if (root !== undefined) return basename(root) || 'this machine';
  if (from !== undefined) return 'a machine that was sent';
  return system.backend === 'native' ? 'this machine' : 'an emulated machine';
}
