import { bdfId, parseBdf } from '../backend/names.js';
import { decisive, demandOf } from '../base/demand.js';
import { P2pdmaError } from '../base/errors.js';
import type * as z from '../base/zod.js';
import { layOutBars } from './layout.js';
import { checkLinks, checkPlaces } from './rules.js';
import { FUNCTION_LIMIT, faultSchema, invalid, type Machine, machineSchema } from './schema.js';
import { checkStacks } from './stack-rules.js';

export type {
  ArrayLevel,
  CmbDescription,
  Fault,
  Latency,
  Machine,
  MachineArray,
  MachineBar,
  MachineFunction,
  MachineHostBridge,
  MachineInput,
  MachinePartition,
  MachineSubsystem,
  NamespaceDescription,
  NvmeDescription,
} from './schema.js';
export {
  headName,
  machineJsonSchema,
  namespaceName,
  partitionName,
} from './schema.js';

/** Maximum length of a machine text, in characters. A large server takes about half a MiB. */
export const MACHINE_TEXT_LIMIT = 0x1000000;
/** A valid machine has a nesting depth of 7. */
const MACHINE_DEPTH_LIMIT = 32;

/**
 * Check a machine description and fill in omitted values.
 * @throws P2pdmaError ERR_MACHINE_INVALID: the message says where and what, `hint` what to do.
 */
export function parseMachine(json: unknown): Machine {
  const lists: Record<string, unknown> = typeof json === 'object' && json !== null ? { ...json } : {};
  for (const key of ['functions', 'hostBridges', 'faults']) {
    const list = lists[key];
    if (Array.isArray(list) && list.length > FUNCTION_LIMIT) {
      throw invalid(key, `${list.length} entries`, `Describe at most ${FUNCTION_LIMIT}.`);
    }
  }
  const parsed = machineSchema.safeParse(json, { reportInput: true, error: demandOf });
  if (!parsed.success) throw schemaError(parsed.error.issues);
  const draft = parsed.data;
  const places = new Map(draft.functions.map((fn, i) => [fn.bdf, `functions[${i}]`]));
  checkLinks(draft);
  draft.functions.sort((a, b) => bdfId(parseBdf(a.bdf)!) - bdfId(parseBdf(b.bdf)!));
  draft.hostBridges.sort((a, b) => a.domain - b.domain || a.bus - b.bus);
  const machine = layOutBars(draft, places);
  checkPlaces(machine, places);
  checkStacks(machine);
  return machine;
}

/**
 * The same for text. Size and nesting are checked before the JSON is parsed.
 * @throws P2pdmaError ERR_MACHINE_INVALID
 */
export function parseMachineText(text: string, file = 'the machine description'): Machine {
  if (text.length > MACHINE_TEXT_LIMIT) {
    throw invalid(
      file,
      `${text.length} characters`,
      `A machine description has at most ${MACHINE_TEXT_LIMIT} characters; is this the right file?`,
    );
  }
  if (isDeeperThan(text, MACHINE_DEPTH_LIMIT)) {
    throw invalid(
      file,
      `nested more than ${MACHINE_DEPTH_LIMIT} levels deep`,
      'This is not a machine description; is this the right file?',
    );
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const { code, message, hint } = invalid(file, `not JSON: ${(cause as Error).message}`, 'Fix the JSON.');
    throw new P2pdmaError(code, message, { hint, path: file, cause });
  }
  try {
    return parseMachine(json);
  } catch (error) {
    if (!(error instanceof P2pdmaError) || error.code !== 'ERR_MACHINE_INVALID') throw error;
    const { code, message, hint } = error;
    throw new P2pdmaError(code, `'${file}': ${message}`, { hint, path: file, cause: error });
  }
}

function isDeeperThan(text: string, limit: number): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === 0x5c) i++;
      else if (c === 0x22) inString = false;
    } else if (c === 0x22) inString = true;
    else if (c === 0x5b || c === 0x7b) {
      if (++depth > limit) return true;
    } else if (c === 0x5d || c === 0x7d) depth--;
  }
  return false;
}

/** Maximum number of problems in one message. */
const MOST = 10;

/** The problems found by zod as one error, with one line for each problem. */
function schemaError(issues: readonly z.core.$ZodIssue[]): P2pdmaError {
  const found = decisive(issues).map(problem);
  const [first] = found;
  if (found.length === 1) return invalid(first!.where, first!.what, first!.hint);
  const said = found.slice(0, MOST).map(({ where, what }) => `${where}: ${what}`);
  const more = found.length > MOST ? `; and ${found.length - MOST} more` : '';
  return new P2pdmaError('ERR_MACHINE_INVALID', `${found.length} problems: ${said.join('; ')}${more}`, {
    hint: `Fix them; ${WHAT_IT_IS}`,
  });
}

const WHAT_IT_IS =
  'schema/machine.schema.json says what a machine is, `p2pdma snapshot` writes one, and presets need no file.';

function problem(issue: z.core.$ZodIssue): { where: string; what: string; hint: string } {
  const where = place(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const keys = issue.keys.map((k) => `'${k}'`).join(', ');
    return {
      where,
      what: `unknown ${issue.keys.length > 1 ? 'keys' : 'key'} ${keys}`,
      hint: 'Check the spelling, or remove it.',
    };
  }
  if (issue.code === 'invalid_union' && issue.discriminator !== undefined) {
    const kinds = faultSchema.def.options.map((o) => o.shape.kind.def.values[0]).join(', ');
    return { where, what: 'unknown kind of fault', hint: `Use one of: ${kinds}.` };
  }
  if (issue.input === undefined) {
    return { where, what: 'missing', hint: `Add it; ${WHAT_IT_IS}` };
  }
  return {
    where,
    what: `must be ${issue.message}${received(issue.input)}`,
    hint: 'Change the value as the message says.',
  };
}

/** The invalid value, if it is short enough for the message. */
function received(input: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(input);
  } catch {
    // A cycle, or a BigInt.
  }
  return text === undefined || text.length > 60 ? '' : ` (received ${text})`;
}

/** `['functions', 3, 'bars', 0]` → `functions[3].bars[0]`. */
function place(path: readonly PropertyKey[]): string {
  let s = '';
  for (const p of path) s += typeof p === 'number' ? `[${p}]` : s === '' ? String(p) : `.${String(p)}`;
  return s === '' ? 'the machine description' : s;
}
