/** The program and its commands. */
import { type Command, Option } from 'commander';
import { COMMANDS, type CommandRow } from './commands.js';
import { CommandError, resolving, speaksOf } from './errors.js';
import { LOOKS, manual } from './help.js';
import { contradiction, LineCommand, noCommand, term } from './line.js';
import { packageVersion } from './version.js';
import { nobodySpeaks } from './whose.js';

const WIDEST = 100;

/**
 * With `words`, commands that none of the words names are only added as a line in the help. Without it, all commands are
 * loaded.
 */
export async function buildProgram(words?: readonly string[]): Promise<Command> {
  nobodySpeaks();
  speaksOf(null);
  const program = new LineCommand('p2pdma')
    .optionsGroup('Output:')
    .version(packageVersion(), '-V, --version', 'print the version')
    .addHelpOption(new Option('-h, --help', 'print this help').helpGroup('Output:'))
    .exitOverride()
    .configureOutput({
      getOutHelpWidth: () => Math.min(process.stdout.columns ?? 80, WIDEST),
      getErrHelpWidth: () => Math.min(process.stderr.columns ?? 80, WIDEST),
    })
    // The descriptions contain the choices and defaults already.
    .configureHelp({
      optionDescription: ({ description }) => description,
      argumentDescription: ({ description }) => description,
      subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(term)].join(' '),
    });
  manual(program, {
    about: [
      'Peer-to-peer DMA between NVMe drives: data goes from one drive to another through the memory of one of ' +
        'them (its CMB), over PCIe, without touching host DRAM. Where that cannot be done, p2pdma says why and ' +
        'what would help; any machine can be emulated.',
    ],
    environment: LOOKS,
    examples: [
      ['Will it work here?', 'p2pdma doctor'],
      ['What is there, and how is it connected?', 'p2pdma topo'],
      [
        'Why does this pair not go peer to peer? (an emulated machine)',
        'p2pdma explain nvme0 nvme1 --machine acs',
      ],
      ['What would a copy do? Nothing is written.', 'p2pdma copy nvme0n1 nvme1n1 --dry-run'],
      ['The whole story of one command.', 'p2pdma help copy'],
    ],
  });
  const all = words === undefined || words.includes('__complete');
  for (const row of COMMANDS) await addCommand(program, row, all || words.includes(row.name));
  addHelp(program);
  for (const command of leaves(program)) {
    if (command.name().startsWith('__')) continue;
    command.hook('preAction', (_this, action) => {
      speaksOf(action);
      return resolving(() => checkWords(action));
    });
  }
  return program;
}

async function addCommand(program: Command, row: CommandRow, named: boolean): Promise<void> {
  const { group, name, summary, args = [], hidden = false, plain = false, load } = row;
  program.commandsGroup(group);
  const command = program.command(name, { hidden }).summary(summary);
  for (const [argument, meaning] of args) command.argument(argument, meaning);
  if (!named) return;
  (await load())(command);
  if (plain) return;
  const { withColour } = await import('./colour.js');
  for (const leaf of leaves({ commands: [command] })) withColour(leaf);
}

/** Commander's own help command does not find subcommands of a command, and treats an unknown command as if none were named. */
function addHelp(program: Command): void {
  program
    .helpCommand(false)
    .command('help')
    .description('print the help of a command')
    .argument('[command...]', 'copy, trace copy, … (default: p2pdma itself)')
    .action((names: string[]) => {
      let command = program;
      for (const name of names) {
        const below = command.createHelp().visibleCommands(command);
        const next = below.find((one) => one.name() === name);
        if (next === undefined) throw noCommand(command, name);
        command = next;
      }
      command.outputHelp();
    });
}

/** Checks that need no open machine. */
function checkWords(action: Command): void {
  const { provider, requireP2p } = action.opts();
  if (provider === 'none' && requireP2p === true) {
    throw contradiction('--provider none and --require-p2p contradict each other');
  }
  // `p2pdma copy` checks what its own '-' is.
  const copies = action.name() === 'copy' && action.parent?.parent === null;
  if (copies || !action.args.includes('-')) return;
  throw new CommandError(
    'ERR_INVALID_ARG_VALUE',
    "'-' is not supported as stdin or stdout",
    'For a file of this name put ./ before it; `p2pdma copy` takes pipes.',
  );
}

/** The commands that have an action, without those that only group other commands. */
export function leaves({ commands }: Pick<Command, 'commands'>): Command[] {
  return commands.flatMap((command) => (command.commands.length > 0 ? leaves(command) : [command]));
}
