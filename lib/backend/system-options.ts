/**
 * The options of a machine as a whole, as tables. Each row holds an option's type, check, default and documentation text. The
 * options of streams and copies are in streams/options.ts.
 */

import { described } from '../base/described.js';
import * as z from '../base/zod.js';

/** What submits I/O where a target or stream does not say otherwise. */
const SYSTEM_ENGINES = ['auto', 'uring', 'threads'] as const;
/** What submits the I/O of a target or stream. */
export const ENGINES = [...SYSTEM_ENGINES, 'passthrough'] as const;
export type Engine = (typeof ENGINES)[number];

// Types without a description of their own serve many rows.
const flag = z.boolean();
const text = z.string();
const word = z.string().check(z.minLength(1));
const machine = z.union(
  [text, z.custom<object>((value) => typeof value === 'object' && value !== null && !Array.isArray(value))],
  { error: "a preset's name, the path of a JSON file, or a description" },
);
const sent = z.union(
  [word, z.instanceof(URL), z.custom<Uint8Array>((value) => value instanceof Uint8Array)],
  { error: 'a path, a URL or bytes' },
);

export const systemOptions = z.strictObject({
  backend: described(
    "`'native'`: this Linux, whose kernel does the DMA. `'emulator'`: a machine in this process. `'auto'`: the emulator if a machine is named, else native; an emulated machine never stands in for this one.",
    z._default(z.enum(['auto', 'native', 'emulator']), 'auto'),
  ),
  machine: described(
    "Emulator: preset name, path of a machine's JSON, or the Machine. With backend `'emulator'` alone: `'switch'`.",
    z.optional(machine),
  ),
  root: described(
    "Native: where sys/ and proc/ are; another root than `'/'` makes a captured tree readable on any OS.",
    z.optional(word),
  ),
  engine: described(
    "Native: what submits I/O where a stream or target does not say otherwise. `'auto'`: io_uring, else threads.",
    z._default(z.enum(SYSTEM_ENGINES), 'auto'),
  ),
  inspect: described(
    'Native: only look (topology, explain, snapshot). Needs no addon; there is no I/O and no memory.',
    z._default(flag, false),
  ),
  kernel: described(
    "Answer as this kernel would, `'7.2'`, instead of the one that runs. Natively only with `inspect`, or of a captured tree; in the emulator it takes the place of the machine’s `kernel`, and does what it says.",
    z.optional(text),
  ),
});

export const diagnoseOptions = z.strictObject({
  root: described(
    "Where sys/ and proc/ are: a captured tree, or this machine (`'/'`, the default).",
    z.optional(word),
  ),
  machine: described(
    "An emulated machine instead: a preset's name, the path of a JSON file, or a description.",
    z.optional(machine),
  ),
  kernel: described(
    "Judge as if this kernel ran it, `'7.2'`: what would an upgrade bring?",
    z.optional(text),
  ),
  from: described(
    'Data captured on another machine, to be used instead: see `describeMachine()`.',
    z.optional(
      z.union([sent, z.readonly(z.array(sent).check(z.minLength(1)))], {
        error: 'a path, a URL, bytes, or several of them',
      }),
    ),
  ),
  cpu: described(
    "With `from`: the processor, if the captured data does not show it: `'amd:0x19'`.",
    z.optional(text),
  ),
});

export const describeOptions = z.strictObject({
  cpu: diagnoseOptions.shape.cpu,
  kernel: described(
    "Answer as this kernel would, `'6.12'`; also if the captured data does not show which kernel runs.",
    z.optional(text),
  ),
});

export const explainOptions = z.strictObject({
  try: described('Ask the kernel too: read one block into the memory.', z._default(flag, false)),
  proposed: described('Add what patches that are not merged would say.', z._default(flag, false)),
});

export const snapshotOptions = z.strictObject({
  withSerials: described("Keep the drives' serial numbers.", z._default(flag, false)),
  name: described(
    "The machine's name. Default: `'snapshot'`, or the emulated machine's own name.",
    z.optional(z.string().check(z.minLength(1), z.maxLength(200))),
  ),
});

/** A tree is read by the native backend, a machine is emulated, and only one of them can be given. */
type OneSystem =
  | { machine?: undefined; root?: undefined }
  | { machine?: undefined; backend?: 'auto' | 'native' | undefined }
  | { root?: undefined; backend?: 'auto' | 'emulator' | undefined };

/**
 * Which machine to open; default: this one. Combinations of `machine`, `root` and `backend` that name two machines do not
 * type-check: `root` with `machine` or with `backend: 'emulator'`, and `machine` with `backend: 'native'`.
 * @interface
 */
export type SystemOptions = z.input<typeof systemOptions> & OneSystem;
/**
 * Which machine to examine; default: this one. `root` with `machine` does not type-check.
 * @interface
 */
export type DiagnoseOptions = z.input<typeof diagnoseOptions> &
  ({ machine?: undefined } | { root?: undefined });
/** Facts that are known in addition to the captured data. */
export type DescribeOptions = Pick<z.input<typeof diagnoseOptions>, 'cpu' | 'kernel'>;
/** What a snapshot contains. */
export interface SnapshotOptions extends z.input<typeof snapshotOptions> {}
