import type { Explanation } from '../index.js';

const AS_IF = [
  { of: 'no-p2pmem', text: 'no function has p2pmem; answered as if every drive had' },
  {
    of: 'p2pmem-unknown',
    text: 'which functions have p2pmem is not known; answered as if every drive had',
  },
] as const;

/** What to know before using these answers: each note once, even if it applies to several providers. */
export function notesOn(all: readonly Explanation[]): { asIf: string | null; others: string[] } {
  const asIf = AS_IF.find(({ of }) => all.every(({ notes }) => notes.some(({ kind }) => kind === of)));
  const notes = all.flatMap((row) => row.notes).filter(({ kind }) => kind !== asIf?.of);
  return {
    asIf: asIf?.text ?? null,
    others: [...new Set(notes.map(({ text }) => text))],
  };
}
