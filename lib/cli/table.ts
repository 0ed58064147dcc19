import Table from 'cli-table3';
import type { Colours } from './format.js';

/** Aligned columns without lines. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  colour: Colours,
): string {
  const none = Object.fromEntries(
    ['top', 'bottom', 'left', 'right'].flatMap((side) => [
      [side, ''],
      [`${side}-mid`, ''],
      [`${side}-left`, ''],
      [`${side}-right`, ''],
    ]),
  );
  const grid = new Table({
    head: head.map((title) => colour.bold(title)),
    chars: { ...none, mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '', middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  grid.push(...rows.map((row) => [...row]));
  return grid
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
