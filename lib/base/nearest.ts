/** What somebody may have meant who wrote a name that is not there. */

/** More of them are no help. */
const MOST = 4;

/**
 * `Did you mean 'switch'?`, `Did you mean one of 'nvme0n1', 'nvme1n1'?`, or nothing where none is near. Near is what
 * differs by few strokes (a letter wrong, missing, too many, or two swapped: at most one in three), else what begins so.
 */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const near = nearest(word, candidates);
  if (near.length === 0 || near.length > MOST) return '';
  const names = near.map((name) => `'${name}'`).join(', ');
  return `Did you mean ${near.length === 1 ? names : `one of ${names}`}?`;
}

/** Those that are nearest, in their order. */
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

/** Optimal string alignment; where it is more than `limit`, anything above that. */
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
