/** What a machine that was read out of something sent can, and cannot, be known by. */
export interface Evidence {
  /** What was recognised, in words, in the order in which it was given: `'lspci -xxxx, 12 functions'`. */
  readonly recognised: readonly string[];
  /** What therefore is not known, and what would tell it. */
  readonly notKnown: readonly { readonly what: string; readonly why: string }[];
  /** Where what was sent says one thing (the kernel's own log) and the verdict computed here another. */
  readonly disagreements: readonly string[];
}
