/**
 * With `P2PDMA_POISON=1`, memory for a read is first filled with 0xdb, so that bytes which were never read can be recognised
 * anywhere. Only for tests, because the CPU then writes each chunk one extra time.
 */
const POISONED = process.env.P2PDMA_POISON === '1';

/** The value of each byte of poisoned memory until data was read into it. */
export const POISON = 0xdb;

/** Poison the view, if that is switched on. Returns the same view. */
export function poisoned<View extends Uint8Array>(view: View): View {
  return POISONED ? view.fill(POISON) : view;
}
