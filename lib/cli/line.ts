/**
 * Messages for a command line that cannot be parsed. Commander tells the kinds of mistakes apart and calls a method for
 * each, with the details; its own output is suppressed. These methods are not documented: a test checks that each of
 * them is called.
 */
import { type Argument, Command, type Option } from 'commander';
import { didYouMean } from '../base/nearest.js';
import { CommandError, misuse } from './errors.js';

export class LineCommand extends Command {
  override createCommand(name?: string): LineCommand {
    return new LineCommand(name);
  }

  /** Called for mistakes that have no method below. */
  override error(): never {
    throw wrong('the command line could not be read', see(this));
  }

  protected missingArgument(name: string): never {
    const missing = this.registeredArguments.find((argument) => argument.name() === name)!;
    throw wrong(`${pathOf(this)} needs ${term(missing)}`, `Write: ${usage(this)}`);
  }

  protected optionMissingArgument({ long, flags }: Option): never {
    throw wrong(`${long} needs a value`, `Write: ${flags}. ${see(this)}`);
  }

  protected _conflictingOption(option: Option, other: Option): never {
    throw contradiction(`${option.long} and ${other.long} cannot be used together`);
  }

  protected unknownOption(word: string): never {
    const flag = word.split('=', 1)[0]!;
    if (flag !== word && this.options.some(({ long, short }) => flag === long || flag === short)) {
      throw wrong(`${flag} takes no value`, `Write: ${flag}. ${see(this)}`);
    }
    const help = this.createHelp();
    const known = help.visibleOptions(this).flatMap(({ long }) => long ?? []);
    throw wrong(`${pathOf(this)} has no option '${flag}'`, `${didYouMean(flag, known)} ${see(this)}`.trim());
  }

  protected unknownCommand(): never {
    throw noCommand(this, this.args[0]!);
  }

  protected _excessArguments(received: readonly string[]): never {
    const [first, ...more] = received.slice(this.registeredArguments.length);
    const what =
      more.length === 0
        ? `the argument '${first}' is one too many`
        : `the argument '${first}' and the ${more.length} after it are too many`;
    throw wrong(what, `Write: ${usage(this)}`);
  }
}

/** @throws CommandError: there is no such command below this one. */
export function noCommand(parent: Command, name: string): CommandError {
  const below = parent.createHelp().visibleCommands(parent);
  const meant = didYouMean(
    name,
    below.map((one) => one.name()),
  );
  return wrong(`${pathOf(parent)} has no command '${name}'`, `${meant} ${see(parent)}`.trim());
}

/** `of` is an option or an argument as written on the line: `--chunk`, `<shell>`; `demand` is a sentence. */
export function wrongValue(of: string, value: string, demand: string): CommandError {
  return wrong(`'${value}' is not an allowed value of ${of}`, demand);
}

/** The allowed values of an argument or option that takes one of a few words. */
export function choicesOf(choices: readonly string[], received: string): string {
  return `Allowed values: ${choices.join(', ')}. ${didYouMean(received, choices)}`.trimEnd();
}

export function contradiction(what: string): CommandError {
  return wrong(what, 'Drop one of them.');
}

/** An argument as the usage line shows it: `<dst...>`. */
export function term(argument: Argument): string {
  const name = argument.variadic ? `${argument.name()}...` : argument.name();
  return argument.required ? `<${name}>` : `[${name}]`;
}

function wrong(message: string, hint: string): CommandError {
  return misuse(new CommandError('ERR_INVALID_ARG_VALUE', message, hint));
}

function usage(command: Command): string {
  return command.createHelp().commandUsage(command);
}

/** The command's name with its parents, `copy` or `trace copy`; for the program itself `p2pdma`. */
function pathOf(command: Command): string {
  if (command.parent === null) return command.name();
  return command.parent.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

function see(command: Command): string {
  return `See \`${['p2pdma help', command.parent === null ? '' : pathOf(command)].join(' ').trim()}\`.`;
}
