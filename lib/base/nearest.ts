/** Suggestions for a name that does not exist. */

/** A longer list of suggestions would not help. */
const MOST = 4;

/**
 * `Did you mean 'switch'?`, `Did you mean one of 'nvme0n1', 'nvme1n1'?`, or an empty string if no candidate is near. Near are
 * candidates with few differences (a letter wrong, missing, extra, or two swapped: at most one difference in three letters); if
 * there are none, candidates that begin with the same letters.
 */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const near = nearest(word, candidates);
  if (near.length === 0 || near.length > MOST) return '';
  const names = near.map((name) => `'${name}'`).join(', ');
  return `Did you mean ${near.length === 1 ? names : `one of ${names}`}?`;
}

/** The nearest candidates, in their original order. */
export function nearest(word: string, candidates: Iterable<string>): string[] {
  const all = [...new Set(candidates)];
  const asked = word.toLowerCase();
  let least = Math.max(1, Math.floor(asked.length / 3));
  let near: string[] = [];
  for (const name of all) {
    const strokes = distance(asked, name.toLowerCase(), least);
    if (strokes > least) continue;
    if (strokes < least) near = [];
    least = strokes;
    near.push(name);
  }
  return near.length > 0 || asked.length < 3
    ? near
    : all.filter((name) => name.toLowerCase().startsWith(asked));
}

/** Optimal string alignment distance; if it exceeds `limit`, the result may be any number above `limit`. */
function distance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j]!, before[j - 2]! + 1);
    }
    before = above;
    above = row;
  }
  return above[b.length]!;
}
