/** What could and could not be learned about a machine from the data captured on it. */
export interface Evidence {
  /** What was recognised, in words, archives first: `'lspci -xxxx, 12 functions'`. */
  readonly recognised: readonly string[];
  /** What is not known as a result, and what would show it. */
  readonly notKnown: readonly { readonly what: string; readonly why: string }[];
  /** What in the data excludes each other, such as a refusal in the kernel's log of a pair that this package would not refuse. */
  readonly contradictions: readonly string[];
}
