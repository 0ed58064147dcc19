/**
 * The options of a command as a table. A row consists of a zod type and texts. The type validates the value on the line,
 * has the default, and determines what the command gets. The texts are for the help and the shells. Commander's options
 * are created from the table.
 *
 *     const TABLE = {
 *       chunk: row(z._default(size, 65536), { takes: '<size>', text: 'bytes in the chunk', shown: bytes }),
 *       force: row(flag, { text: 'write to a device that is in use' }),
 *     };
 *     withOptions(command, 'Safety:', TABLE).action((options: OptionsOf<typeof TABLE>) => …);
 */
import { type Command, Option } from 'commander';
import * as z from '../base/zod.js';
import { dashed } from './format.js';
import { choicesOf, wrongValue } from './line.js';

/** What a shell may offer as a value. */
export type Offer =
  | 'files'
  | 'directories'
  | 'presets'
  | 'functions'
  | 'namespaces'
  | { readonly words: readonly string[] };

export interface Words {
  /** The text in `--help`, with all its choices; the default is added unless the option has choices. */
  readonly text: string;
  /** Returns the default in words, if it is not shown as it is. */
  readonly shown?: (byDefault: never) => string;
  /** The value that follows the option: `'<size>'`, or `'<names...>'` for several words; without it, the option is a flag. */
  readonly takes?: `<${string}>`;
  /** For completion. Options with choices do not need it. */
  readonly offers?: readonly Offer[];
  /** It may be on the line several times; the type is that of a single value. */
  readonly repeats?: true;
  /** Name of the option that it cannot be combined with. */
  readonly conflicts?: string;
}

const words = z.registry<Words>();

export function row<T extends z.ZodMiniType>(type: T, says: Words): T {
  // The type is cloned because it may be used in several rows.
  const own = type.clone() as T;
  words.add(own, says);
  return own;
}

/** Options by their names in the code: `dryRun` is `--dry-run`. */
export type Table = Readonly<Record<string, z.ZodMiniType>>;

/** The options as the command gets them. */
export type OptionsOf<T extends Table> = z.output<z.ZodMiniObject<T>>;

export const flag = z.optional(z.boolean());

/** Accepts one of a few words. The first is the default. */
export function oneOf<const T extends string>(choices: readonly T[]) {
  const error = ({ input }: { readonly input?: unknown }) => choicesOf(choices, String(input));
  return z._default(z.enum(choices, { error }), choices[0]! as never);
}

/** An option of a table. */
export class TableOption extends Option {
  readonly offers: readonly Offer[] | undefined;

  constructor(name: string, type: z.ZodMiniType) {
    const { text, takes, offers, conflicts, repeats, shown = String } = words.get(type)!;
    super([dashed(name), takes].filter(Boolean).join(' '), text);
    this.offers = offers;
    if (type instanceof z.ZodMiniDefault) {
      const { innerType, defaultValue } = type.def;
      this.default(defaultValue);
      if (innerType instanceof z.ZodMiniEnum) this.choices(innerType.options.map(String));
      else this.description = orElse(text, shown(defaultValue as never));
    }
    if (conflicts !== undefined) this.conflicts(conflicts);
    // Commander itself collects the words of a variadic option.
    if (takes === undefined || this.variadic) return;
    if (repeats)
      this.argParser((value, before: unknown) => [
        ...((before as unknown[]) ?? []),
        this.#parse(type, value),
      ]);
    else this.argParser((value) => this.#parse(type, value));
  }

  /** @throws CommandError */
  #parse(type: z.ZodMiniType, value: string): unknown {
    const result = type.safeParse(value);
    if (result.success) return result.data;
    throw wrongValue(this.long!, value, result.error.issues[0]!.message);
  }
}

export function withOptions(command: Command, group: string, table: Table): Command {
  command.optionsGroup(group);
  for (const [name, type] of Object.entries(table)) command.addOption(new TableOption(name, type));
  return command;
}

/** The help text of an option, with its default. */
export function orElse(text: string, byDefault: string | number): string {
  return `${text} (default: ${byDefault})`;
}
