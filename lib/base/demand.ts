/**
 * What a value must be, in words that follow "must be"; zod's own messages are never shown. A table's `error` may state it
 * better, and a union must have one: its branches do not say together what it takes.
 */
import type * as z from './zod.js';

type Issue = z.core.$ZodRawIssue;

const TYPES: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  bigint: 'a BigInt',
  boolean: 'true or false',
  object: 'an object',
  record: 'an object',
  array: 'an array',
};

/** For zod's `error` option of a parse: the demand becomes each issue's message. */
export function demandOf(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return TYPES[issue.expected as string] ?? `of the type ${issue.expected}`;
    case 'invalid_value':
      return oneOf(issue.values as readonly unknown[]);
    case 'too_small':
      return atLeast(issue);
    case 'too_big':
      return atMost(issue);
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    default:
      return 'another value';
  }
}

function oneOf(values: readonly unknown[]): string {
  const words = values.map((value) => (typeof value === 'string' ? `'${value}'` : String(value)));
  return words.length === 1 ? words[0]! : `one of ${words.join(', ')}`;
}

function atLeast({ origin, minimum, inclusive }: Issue): string {
  if (origin === 'string')
    return minimum === 1 ? 'a string that is not empty' : `a string of ${minimum} characters or more`;
  if (origin === 'array') return `an array of ${minimum} or more`;
  return inclusive ? `${minimum} or more` : `more than ${minimum}`;
}

function atMost({ origin, maximum, inclusive }: Issue): string {
  if (origin === 'string') return `a string of at most ${maximum} characters`;
  if (origin === 'array') return `an array of at most ${maximum}`;
  return inclusive ? `${maximum} or less` : `less than ${maximum}`;
}

/**
 * The issues that say something new. Where a value has the wrong type, its length does not matter, and of two limits
 * of one value the narrower is the one to keep to (a number's own, and that of whole numbers in JavaScript).
 */
export function decisive(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue[] {
  const byPath = new Map<string, z.core.$ZodIssue[]>();
  for (const issue of issues) {
    const path = issue.path.map(String).join('\0');
    byPath.set(path, [...(byPath.get(path) ?? []), issue]);
  }
  return [...byPath.values()].flatMap((those) =>
    those.filter((issue) => !those.some((other) => outweighs(other, issue))),
  );
}

function outweighs(one: z.core.$ZodIssue, other: z.core.$ZodIssue): boolean {
  if (one.code === 'invalid_type') return other.code === 'too_small' || other.code === 'too_big';
  if (one.code === 'too_big' && other.code === 'too_big') return one.maximum < other.maximum;
  return one.code === 'too_small' && other.code === 'too_small' && one.minimum > other.minimum;
}
