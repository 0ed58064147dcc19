import type { Explanation } from '../index.js';

/** What to know before using these answers: each once, whatever the number of providers that it holds for. */
export function notesOn(all: readonly Explanation[]): { asIf: string | null; others: string[] } {
  const asIf = all.every(({ notes }) => notes.some(({ kind }) => kind === 'no-p2pmem'));
  const notes = all.flatMap((row) => row.notes).filter(({ kind }) => !asIf || kind !== 'no-p2pmem');
  return {
    asIf: asIf ? 'no function has p2pmem; answered as if every drive had' : null,
    others: [...new Set(notes.map(({ text }) => text))],
  };
}
