import type { Command } from 'commander';
import { z } from '../base/zod.js';
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
  machine: row(z.string().optional(), {
    takes: '<preset|file>',
    text: `emulate this one: a JSON file (see snapshot), or ${MACHINE_PRESETS.join(', ')}`,
    offers: ['presets', 'files'],
  }),
  root: row(z.string().optional(), {
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
  from: row(z.string().min(1, 'Name a file or a folder, or write - for stdin.').optional(), {
    takes: '<what>',
    text: 'look at another machine by what was sent of it: the text of lspci, a folder; - is stdin; may be given again',
    offers: ['files', 'directories'],
    repeats: true,
  }),
  cpu: row(z.string().optional(), {
    takes: '<vendor:family>',
    text: 'the processor of that machine, where what was sent does not tell: amd:0x19, intel:6',
    offers: [{ words: ['amd:0x17', 'amd:0x19', 'amd:0x1a', 'intel:6'] }],
  }),
};

const OUTPUT = { json: row(flag, { text: 'one JSON object on stdout' }) };

/** What every command takes: which machine. */
export interface MachineOptions extends OptionsOf<typeof MACHINE & typeof OUTPUT> {
  /** Of commands that ask what another kernel would say. */
  readonly kernel?: string;
  /** Of commands that only look: what was sent, stdin read already. */
  readonly from?: readonly (string | Uint8Array)[];
  readonly cpu?: string;
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
export const size = z.string().transform((text, { addIssue }): number => {
  const refuse = (why: string) => {
    addIssue(why);
    return z.NEVER;
  };
  const match = SIZE.exec(text.trim());
  if (match === null) return refuse('Give a size such as 4096, 64KiB or 1MiB.');
  const [, digits, unit = '', suffix] = match;
  const power = POWER[unit.toLowerCase()]!;
  const value = Number(digits) * 1024 ** power;
  if (suffix?.toLowerCase() === 'b') {
    const decimal = Number(digits) * 1000 ** power;
    return refuse(`This unit is ambiguous: write ${digits}${unit.toUpperCase()}iB (${value}) or ${decimal}.`);
  }
  return Number.isSafeInteger(value) ? value : refuse('Give less than 2^53 bytes.');
});

export const count = z
  .string()
  .transform(Number)
  .refine((value) => Number.isSafeInteger(value) && value >= 0, 'Give a whole number.');

export const atLeastOne = count.refine((value) => value >= 1, 'Give a whole number of 1 or more.');

/** What the library says of one of its options, as a line of help. */
export function purpose(option: keyof typeof optionHelp): string {
  const { text } = optionHelp[option];
  return `${text[0]!.toLowerCase()}${text.slice(1).replace(/\.$/, '')}`;
}

/** The same and its default, if that is not `false`. */
export function inHelp(option: keyof typeof optionHelp, more = ''): string {
  const { value, byDefault } = optionHelp[option];
  const words = `${purpose(option)}${more}`;
  return value === false || byDefault === '' ? words : orElse(words, byDefault);
}

/** The same with all that it can be. */
export function choicesInHelp(option: keyof typeof optionHelp): string {
  return `${inHelp(option)}; also ${optionHelp[option].choices.slice(1).join(', ')}`;
}

export const BYTES_OFFERED: readonly Offer[] = [{ words: ['64MiB', '256MiB', '1GiB'] }];
export const CHUNK_OFFERED: readonly Offer[] = [{ words: ['64KiB', '256KiB', '512KiB', '1MiB'] }];
export const DEPTH_OFFERED: readonly Offer[] = [{ words: ['1', '8', '32'] }];
export const PROVIDER_OFFERED: readonly Offer[] = [{ words: ['auto', 'none'] }, 'functions'];

export const PROVIDER = row(z.string().default('auto'), {
  takes: '<name>',
  text: purpose('provider'),
  offers: PROVIDER_OFFERED,
});

/** Of commands that copy. */
export const P2P = {
  requireP2p: row(flag, { text: inHelp('requireP2p') }),
  allowUnproven: row(flag, { text: inHelp('allowUnproven') }),
};

/** One machine, and not two that say different things. */
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

/** Which kernel, for commands that only look. */
export function withKernel(command: Command, more = ''): Command {
  return withOptions(command, WHICH_MACHINE, {
    kernel: row(z.string().optional(), {
      takes: '<release>',
      text: `answer as this kernel would: 7.2, 6.12.117, 6.17.0-35-generic${more}`,
      offers: [{ words: KERNEL_RELEASES }],
    }),
  });
}

/** Which machine, for every command that looks at one. */
export function withMachine(command: Command): Command {
  command.hook('preAction', (_this, action) => resolving(() => checkMachine(action.opts())));
  withOptions(command, WHICH_MACHINE, MACHINE);
  return withOptions(command, 'Output:', OUTPUT);
}

/** For commands that only look: a machine by what was sent of it. */
export function withSent(command: Command): Command {
  command.hook('preAction', async (_this, action) => {
    const { from } = action.opts() as MachineOptions;
    if (from?.includes('-')) action.setOptionValue('from', await resolving(() => withStdin(from)));
  });
  return withOptions(command, WHICH_MACHINE, SENT);
}

/** So much is read of stdin: as of any file that was sent. */
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

/** The same for commands that only look: natively they need no addon. */
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
  // They name one machine, and no two: checkMachine has seen to that.
  const wanted = { ...how, backend, machine, root, kernel } as SystemOptions;
  // A machine that is named is looked for; this one is there, or the command fails.
  const named = machine !== undefined || root !== undefined || kernel !== undefined;
  const system = await (named ? resolving(() => openSystem(wanted)) : openSystem(wanted));
  speaksFor(system, says);
  return system;
}
