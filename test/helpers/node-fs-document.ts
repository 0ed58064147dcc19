/** docs/node-fs.md: the list of what is tried with node:fs and with this package in its place. */
import { behaviours } from '../node-fs/behaviours.js';

export function nodeFsDocument(): string {
  const different = behaviours.filter(({ differs }) => differs !== undefined);
  const same = behaviours.length - different.length;
  const groups = [...new Set(behaviours.map(({ group }) => group))];
  return [
    '# Beside node:fs',
    '',
    `The tests do ${behaviours.length} things with \`node:fs\` and with this package in its place, natively and emulated, and compare what a`,
    `program sees. ${same} of them are the same; the other ${different.length} differ on purpose. The right value is what the running Node says.`,
    '[Coming from node:fs](migrating.md#nodefs-streams) says in words what to know.',
    '',
    '## What differs',
    '',
    '| behaviour | node:fs | p2pdma | reason |',
    '|---|---|---|---|',
    ...different.map(({ group, what, differs }) =>
      row(`${group}: ${what}`, code(differs!.theirs), code(differs!.ours), differs!.why),
    ),
    ...groups.flatMap((group) => [
      '',
      `## ${group[0]!.toUpperCase()}${group.slice(1)}`,
      '',
      '| behaviour | p2pdma |',
      '|---|---|',
      ...behaviours
        .filter((one) => one.group === group)
        .map(({ what, differs }) => row(what, differs === undefined ? 'the same' : 'differs')),
    ]),
    '',
  ].join('\n');
}

function code(value: unknown): string {
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

function row(...cells: string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('<', '&lt;')).join(' | ')} |`;
}
