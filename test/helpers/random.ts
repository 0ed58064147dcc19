/**
 * The source of randomness for random tests: one seed per file, printed in the output, and taken from P2PDMA_SEED if
 * that is set. All random tests import fast-check from here.
 */
import fc from 'fast-check';
import t from 'tap';

const given = process.env.P2PDMA_SEED;
export const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
if (!Number.isSafeInteger(seed)) throw new Error(`P2PDMA_SEED=${given} is no integer`);

t.comment(`random with P2PDMA_SEED=${seed}`);
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed });

export { fc };

let state = seed;

/** Like Math.random, but from the seed (mulberry32). */
export function random(): number {
  state = (state + 0x6d2b79f5) | 0;
  let x = Math.imul(state ^ (state >>> 15), 1 | state);
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
  return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
}
