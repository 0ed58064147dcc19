/**
 * `P2PDMA_POISON=1`: memory that a read is to fill is filled with 0xdb first, so that a byte which nobody read shows
 * wherever it turns up. For tests: the CPU writes each chunk once more.
 */
const POISONED = process.env.P2PDMA_POISON === '1';

/** What poisoned memory holds until something was read into it. */
export const POISON = 0xdb;

/** The same view. */
export function poisoned<View extends Uint8Array>(view: View): View {
  return POISONED ? view.fill(POISON) : view;
}
