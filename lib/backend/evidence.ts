/** What could, and what could not, be learned about a machine from what was sent. */
export interface Evidence {
  /** What was recognised, in words, in the order given: `'lspci -xxxx, 12 functions'`. */
  readonly recognised: readonly string[];
  /** What is therefore not known, and what would show it. */
  readonly notKnown: readonly { readonly what: string; readonly why: string }[];
  /** Where what was sent (the kernel's own log) contradicts the verdict computed here. */
  readonly disagreements: readonly string[];
}
