/** docs/options.md: the names of the library's options in the command. */
import type { Command } from 'commander';
import { ALIASES, flagOf } from '../../lib/cli/errors.js';
import { buildProgram, leaves } from '../../lib/cli/program.js';

/** `trace copy`. */
function nameOf(command: Command): string {
  const { parent } = command;
  return parent === null || parent.parent === null ? command.name() : `${nameOf(parent)} ${command.name()}`;
}

/** `` `--chunk` (`copy`, `trace copy`) ``: the commands that use this name for the library's option. */
function whose(all: readonly Command[], option: string, flag: string): string {
  const commands = all.filter((command) => flagOf(command, option) === flag);
  if (commands.length === 0) throw new Error(`${flag}: no command has it`);
  return `\`${flag}\` (${commands.map((command) => `\`${nameOf(command)}\``).join(', ')})`;
}

export async function optionsDocument(): Promise<string> {
  const all = leaves(await buildProgram());
  const rows = Object.entries(ALIASES).map(
    ([option, flags]) => `| \`${option}\` | ${flags.map((flag) => whose(all, option, flag)).join(', ')} |`,
  );
  return [
    '# Options in code and on the command line',
    '',
    'Most options have one name: `requireP2p` in code is `--require-p2p` on the command line. These few have two, and no others.',
    'Error messages use the name that fits: that of the command which runs, or that of the library.',
    '',
    '| in code | on the command line |',
    '|---|---|',
    ...rows,
    '',
    '`--chunks` takes several sizes, which are measured one after the other. `--bytes` says how many bytes, where `end` and `--end`',
    'say which is the last; `copy` takes either. `--start` of `trace copy` holds for the source and for the destinations.',
    'A plan uses the names in code, whether `planCopy()` or `copy --dry-run --json` gives it.',
    '',
    'What each option of the library means, and its default, is in the [API reference](api.md): `ReadStreamOptions`,',
    '`WriteStreamOptions`, `PipelineOptions`. What each option of a command means is in `p2pdma help COMMAND`.',
    '',
  ].join('\n');
}
