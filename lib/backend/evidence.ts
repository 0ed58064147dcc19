/** What could and could not be learned about a machine from the data captured on it. */
export interface Evidence {
  /** What was recognised, in words, in the order given: `'lspci -xxxx, 12 functions'`. */
  readonly recognised: readonly string[];
  /** What is not known as a result, and what would show it. */
  readonly notKnown: readonly { readonly what: string; readonly why: string }[];
}
