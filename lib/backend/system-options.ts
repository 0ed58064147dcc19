/**
 * The options of a machine as a whole, as tables. Each row holds an option's type, check, default and documentation text. The
 * options of streams and copies are in streams/options.ts.
 */
import * as z from '../base/zod.js';

/** What submits the I/O of a target or stream. */
export const ENGINES = ['auto', 'uring', 'threads', 'passthrough'] as const;
export type Engine = (typeof ENGINES)[number];

const machine = z.union(
  [
    z.string(),
    z.custom<object>((value) => typeof value === 'object' && value !== null && !Array.isArray(value)),
  ],
  { error: "a preset's name, the path of a JSON file, or a description" },
);
const root = z.string().min(1);
const kernel = z.string();
const cpu = z.string();
const sent = z.union(
  [z.string().min(1), z.instanceof(URL), z.custom<Uint8Array>((value) => value instanceof Uint8Array)],
  { error: 'a path, a URL or bytes' },
);

export const systemOptions = z.strictObject({
  backend: z
    .enum(['auto', 'native', 'emulator'])
    .describe(
      "`'native'`: this Linux, whose kernel does the DMA. `'emulator'`: a machine in this process. `'auto'`: the emulator if a machine is named, else native; an emulated machine never stands in for this one.",
    )
    .default('auto'),
  machine: machine
    .describe(
      "Emulator: preset name, path of a machine's JSON, or the Machine. With backend `'emulator'` alone: `'switch'`.",
    )
    .optional(),
  root: root
    .describe(
      "Native: where sys/ and proc/ are; another root than `'/'` makes a captured tree readable on any OS.",
    )
    .optional(),
  engine: z
    .enum(ENGINES)
    .exclude(['passthrough'])
    .describe(
      "Native: what submits I/O where a stream or target does not say otherwise. `'auto'`: io_uring, else threads.",
    )
    .default('auto'),
  inspect: z
    .boolean()
    .describe(
      'Native: only look (topology, explain, snapshot). Needs no addon; there is no I/O and no memory.',
    )
    .default(false),
  kernel: kernel
    .describe(
      "Answer as this kernel would, `'7.2'`, instead of the one that runs. Natively only with `inspect`, or of a captured tree; in the emulator it takes the place of the machine’s `kernel`, and does what it says.",
    )
    .optional(),
});

export const diagnoseOptions = z.strictObject({
  root: root
    .describe("Where sys/ and proc/ are: a captured tree, or this machine (`'/'`, the default).")
    .optional(),
  machine: machine
    .describe("An emulated machine instead: a preset's name, the path of a JSON file, or a description.")
    .optional(),
  kernel: kernel.describe("Judge as if this kernel ran it, `'7.2'`: what would an upgrade bring?").optional(),
  from: z
    .union([sent, z.array(sent).min(1).readonly()], { error: 'a path, a URL, bytes, or several of them' })
    .describe('Data captured on another machine, to be used instead: see `describeMachine()`.')
    .optional(),
  cpu: cpu
    .describe("With `from`: the processor, if the captured data does not show it: `'amd:0x19'`.")
    .optional(),
});

export const describeOptions = z.strictObject({
  cpu: diagnoseOptions.shape.cpu,
  kernel: kernel
    .describe(
      "Answer as this kernel would, `'6.12'`; also if the captured data does not show which kernel runs.",
    )
    .optional(),
});

export const explainOptions = z.strictObject({
  try: z.boolean().describe('Ask the kernel too: read one block into the memory.').default(false),
  proposed: z.boolean().describe('Add what patches that are not merged would say.').default(false),
});

export const snapshotOptions = z.strictObject({
  withSerials: z.boolean().describe("Keep the drives' serial numbers.").default(false),
  name: z
    .string()
    .min(1)
    .max(200)
    .describe("The machine's name. Default: `'snapshot'`, or the emulated machine's own name.")
    .optional(),
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
