/**
 * What a value must be, in words that follow "must be"; zod's own messages are never shown. A table's `error` may state it
 * better.
 */
import type { z } from './zod.js';

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
    case 'invalid_union':
      return either((issue.errors as readonly (readonly z.core.$ZodIssue[])[]) ?? []);
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

function either(branches: readonly (readonly z.core.$ZodIssue[])[]): string {
  const words = branches.flatMap(([first]) => (first === undefined ? [] : [first.message]));
  return [...new Set(words)].join(' or ');
}
