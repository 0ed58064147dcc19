/** What the tables of options say about each of their options, beside its type and its default. */
import * as z from './zod.js';

/**
 * The type with its description, which the help and the documents show; `byDefault` is its default in words, where the value
 * does not say it. The type itself gets it, so it must be the row's own, as `z.optional(…)` and `z._default(…)` are. (The
 * checks `z.describe()` and `z.meta()` would copy the type and run with each value.)
 */
export function described<T extends z.ZodMiniType>(description: string, type: T, byDefault?: string): T {
  z.globalRegistry.add(type, byDefault === undefined ? { description } : { description, byDefault });
  return type;
}
