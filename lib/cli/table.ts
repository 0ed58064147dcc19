import Table from 'cli-table3';
import { type Colours, visibleLength, wrap } from './format.js';

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

/** A row with what stands on lines of its own: text above it, remarks below it. */
export interface RemarkedRow {
  readonly above?: string;
  readonly cells: readonly string[];
  readonly remarks: readonly string[];
}

export interface View {
  readonly colour: Colours;
  readonly width: number;
}

/** The lines of a table whose rows have remarks, which wrap between words. */
export function remarkedTable(
  head: readonly string[],
  rows: readonly RemarkedRow[],
  { colour, width }: View,
): string[] {
  const cells = rows.map((row) => row.cells);
  const [first, ...lines] = table(head, cells, colour).split('\n');
  const indent = `${' '.repeat(12)}${colour.dim('└')} `;
  return [
    first!,
    ...lines.flatMap((line, i) => {
      const { above, remarks } = rows[i]!;
      return [
        ...(above === undefined ? [] : wrap(above, width, '', '  ')),
        line,
        ...remarks.flatMap((remark) => wrap(remark, width, indent)),
      ];
    }),
  ];
}

export function fits(lines: readonly string[], width: number): boolean {
  return lines.every((line) => visibleLength(line) <= width);
}
