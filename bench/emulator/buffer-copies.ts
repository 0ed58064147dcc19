import type { Competitor } from '../harness.js';

export const BYTES = 256 * 1024 * 1024;

/** What copying a drive to a drive through a CMB costs at least: two passes over the bytes, by bare Buffer.copy. */
export function bufferCopies(chunk: number): Competitor {
  const from = Buffer.alloc(BYTES, 1);
  const to = Buffer.alloc(BYTES, 2);
  const slots = Buffer.alloc(16 * 1024 * 1024);
  return {
    name: 'two bare copies',
    async run() {
      for (let at = 0; at < BYTES; at += chunk) {
        const slot = at % slots.length;
        from.copy(slots, slot, at, at + chunk);
        slots.copy(to, at, slot, slot + chunk);
      }
    },
  };
}
