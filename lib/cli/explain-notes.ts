import { list } from '../base/words.js';
import type { Explanation } from '../index.js';
import { printable } from './format.js';

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

/** What a row or column of several drives says; without any, nothing. */
export function overSeveralText(over: readonly { name: string; mirror: boolean }[]): string {
  if (over.length === 0) return '';
  const mirrors = over.filter(({ mirror }) => mirror).map(({ name }) => printable(name));
  const worst = `; ${list(over.map(({ name }) => printable(name)))}: the worst of its drives`;
  return mirrors.length === 0
    ? worst
    : `${worst}; a mirror (${list(mirrors)}) is refused by p2pdma unless each of its drives is known to reach the memory`;
}
