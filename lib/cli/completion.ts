/**
 * Shell completions. The scripts are small: a shell passes the words up to the cursor to `p2pdma __complete`, without
 * evaluating them, and gets lines of `candidate TAB description`. The last line says which file system entries are
 * possible as well (`:files`, `:directories` or `:`). The possible words are derived from the commands themselves.
 */
import { Argument, type Command, type Option } from 'commander';
import { MACHINE_PRESETS, type System } from '../index.js';
import { bytes, printable } from './format.js';
import { manual } from './help.js';
import { choicesOf, wrongValue } from './line.js';
import { type Offer, TableOption } from './option-table.js';
import { inspectMachine, type MachineOptions } from './options.js';
import { SHELLS, type Shell } from './shells.js';

export function addCompletion(command: Command): void {
  command.registeredArguments[0]!.choices(SHELLS).argParser((value) => {
    if ((SHELLS as readonly string[]).includes(value)) return value;
    throw wrongValue('<shell>', value, choicesOf(SHELLS, value));
  });
  manual(command, {
    about: [
      'Prints a script that teaches a shell to complete p2pdma: commands, options and their values, presets, and the ' +
        'controllers and namespaces of the machine that the line is about, this one or what --machine or --root name.',
    ],
    sections: [
      [
        'In the running shell',
        [
          ['bash', 'source <(p2pdma completion bash)'],
          ['zsh', 'source <(p2pdma completion zsh)      # after compinit'],
          ['fish', 'p2pdma completion fish | source'],
        ],
      ],
    ],
    examples: [
      [
        'For every bash with bash-completion.',
        'p2pdma completion bash > ~/.local/share/bash-completion/completions/p2pdma',
      ],
      ['For every zsh: a folder that is in $fpath.', 'p2pdma completion zsh > ~/.zfunc/_p2pdma'],
      ['For every fish.', 'p2pdma completion fish > ~/.config/fish/completions/p2pdma.fish'],
    ],
  });
  command.action((shell: Shell) => {
    process.stdout.write(SCRIPTS[shell]);
  });
}

/** The command that the scripts call. */
export function addComplete(command: Command): void {
  command.action(async (shell: Shell, words: string[]) => {
    const { line, cut } = shell === 'bash' ? joined(words) : { line: words, cut: 0 };
    const { candidates, besides } = await complete(command.parent!, line);
    const lines = candidates.map(([value, about = '']) => `${value.slice(cut)}\t${about}`);
    process.stdout.write([...lines, `:${besides}`, ''].join('\n'));
  });
}

/** Bash also splits words at `=` and `:`, and inserts only what follows the last of these characters. */
function joined(words: readonly string[]): { line: string[]; cut: number } {
  const line: string[] = [];
  let glue = false;
  for (const word of words) {
    const cutter = /^[=:]+$/.test(word);
    if ((glue || cutter) && line.length > 0) line[line.length - 1] += word;
    else line.push(word);
    glue = cutter;
  }
  const last = words.at(-1) ?? '';
  return { line: line.map(unquoted), cut: (line.at(-1) ?? '').length - (glue ? 0 : last.length) };
}

function unquoted(word: string): string {
  return word.replace(/\\(.)|["']/g, '$1');
}

type Candidate = readonly [value: string, about?: string | undefined];

interface Completion {
  readonly candidates: readonly Candidate[];
  readonly besides: '' | 'files' | 'directories';
}

/** What each argument accepts. What options accept is in their tables. */
const ARGUMENTS: Readonly<Record<string, readonly Offer[]>> = {
  src: ['namespaces', 'files'],
  dst: ['namespaces', 'files'],
  device: ['namespaces', 'files'],
  provider: ['functions', 'namespaces', 'files'],
  client: ['functions', 'namespaces', 'files'],
  file: ['files'],
};

/** What a shell may offer for it besides its choices; undefined: not specified. */
export function offersOf(of: Option | Argument): readonly Offer[] | undefined {
  return of instanceof Argument ? ARGUMENTS[of.name()] : of instanceof TableOption ? of.offers : undefined;
}

/** The candidates for the last of the words. */
export async function complete(program: Command, words: readonly string[]): Promise<Completion> {
  const current = words.at(-1) ?? '';
  const line = new Line(program);
  for (const word of words.slice(0, -1)) line.take(word);
  const { command, waiting, operands, given, literal } = line;
  const values = (of: Option | Argument) => valuesOf(of, given, current);
  if (waiting !== null && (!current.startsWith('-') || !waiting.variadic)) return values(waiting);
  if (current.startsWith('-') && !literal) {
    const at = current.indexOf('=');
    if (at < 0) return { candidates: begins(optionsOf(command, given), current), besides: '' };
    const option = optionOf(command, current.slice(0, at));
    if (option === undefined || !takesValue(option)) return NOTHING;
    const { candidates, besides } = await valuesOf(option, given, current.slice(at + 1));
    const flag = current.slice(0, at + 1);
    return { candidates: candidates.map(([value, about]) => [flag + value, about] as const), besides };
  }
  if (command.commands.length > 0) {
    const commands = operands === 0 ? commandsOf(command) : [];
    return { candidates: begins(commands, current), besides: '' };
  }
  if (command.name() === 'help') return { candidates: begins(commandsOf(program), current), besides: '' };
  const taken = command.registeredArguments;
  const argument = taken[operands] ?? (taken.at(-1)?.variadic ? taken.at(-1) : undefined);
  return argument === undefined ? NOTHING : values(argument);
}

const NOTHING: Completion = { candidates: [], besides: '' };

/** A command line, parsed word by word. */
class Line {
  command: Command;
  /** The option whose value is the next word. */
  waiting: Option | null = null;
  operands = 0;
  /** Values, by the option's attribute name. */
  readonly given = new Map<string, string>();
  /** `--` has been seen: no more options follow. */
  literal = false;

  constructor(program: Command) {
    this.command = program;
  }

  take(word: string): void {
    const { waiting, literal } = this;
    if (!literal && word === '--') {
      this.literal = true;
      this.waiting = null;
    } else if (waiting !== null && !(waiting.variadic && word.startsWith('-'))) {
      this.given.set(waiting.attributeName(), word);
      if (!waiting.variadic) this.waiting = null;
    } else if (!literal && word.startsWith('-')) this.#takeOption(word);
    else this.#takeOperand(word);
  }

  #takeOption(word: string): void {
    const [flag, value] = word.split(/=(.*)/s) as [string, string | undefined];
    const option = optionOf(this.command, flag) ?? null;
    if (option !== null) this.given.set(option.attributeName(), value ?? '');
    this.waiting = option !== null && takesValue(option) && value === undefined ? option : null;
  }

  #takeOperand(word: string): void {
    const next = this.operands === 0 ? this.command.commands.find((one) => one.name() === word) : undefined;
    if (next !== undefined) this.command = next;
    else this.operands++;
  }
}

function optionOf({ options }: Command, flag: string): Option | undefined {
  return options.find(({ long, short }) => flag === long || flag === short);
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

function optionsOf(command: Command, given: ReadonlyMap<string, string>): Candidate[] {
  const options = command.createHelp().visibleOptions(command);
  return options
    .filter((option) => option.variadic || !given.has(option.attributeName()))
    .map(({ long, short, description }) => [long ?? short ?? '', description] as const);
}

function commandsOf(command: Command): Candidate[] {
  const shown = command.createHelp().visibleCommands(command);
  return shown.map((one) => [one.name(), one.summary() || one.description()] as const);
}

function begins(candidates: readonly Candidate[], current: string): Candidate[] {
  return candidates.filter(([value]) => value.startsWith(current));
}

async function valuesOf(
  of: Option | Argument,
  given: ReadonlyMap<string, string>,
  current: string,
): Promise<Completion> {
  if (of.argChoices !== undefined)
    return {
      candidates: begins(
        of.argChoices.map((choice) => [choice] as const),
        current,
      ),
      besides: '',
    };
  const takes = offersOf(of) ?? [];
  const candidates: Candidate[] = takes.flatMap((kind) =>
    typeof kind === 'object' ? kind.words.map((word) => [word] as const) : [],
  );
  if (takes.includes('presets')) candidates.push(...MACHINE_PRESETS.map((name) => [name, 'preset'] as const));
  if (takes.includes('functions') || takes.includes('namespaces')) {
    const names = await namesOn(given, current);
    for (const kind of ['functions', 'namespaces'] as const) {
      if (takes.includes(kind)) candidates.push(...names[kind]);
    }
  }
  const besides = takes.includes('files') ? 'files' : takes.includes('directories') ? 'directories' : '';
  return { candidates: begins(candidates, current), besides };
}

interface Names {
  readonly functions: readonly Candidate[];
  readonly namespaces: readonly Candidate[];
}

/** The names on the machine that the command line selects; empty if the machine cannot be inspected. */
async function namesOn(given: ReadonlyMap<string, string>, current: string): Promise<Names> {
  const wanted: MachineOptions = { backend: (given.get('backend') as MachineOptions['backend']) ?? 'auto' };
  const [machine, root] = [given.get('machine'), given.get('root')];
  if (machine !== undefined) wanted.machine = machine;
  if (root !== undefined) wanted.root = root;
  let system: System;
  try {
    system = await inspectMachine(wanted);
  } catch {
    return { functions: [], namespaces: [] };
  }
  try {
    const { controllers, topology } = system;
    const addresses = /^[0-9a-f]/i.test(current) ? topology.functions.map(({ bdf }) => [bdf] as const) : [];
    const drives = controllers.map(({ name, pdev, transport }) => [name, pdev?.bdf ?? transport] as const);
    const spaces = controllers.flatMap(({ namespaces }) =>
      namespaces.map(({ name, size }) => [name, bytes(size)] as const),
    );
    // Names with characters that a terminal line cannot show are not offered.
    const sane = (names: readonly Candidate[]) =>
      names.filter((name) => name.every((text) => text === undefined || text === printable(text)));
    return { functions: sane([...drives, ...addresses]), namespaces: sane(spaces) };
  } finally {
    await system.close();
  }
}

const BASH = `# bash completion of p2pdma
_p2pdma() {
  local line value besides= current="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=()
  while IFS= read -r line; do
    value="\${line%%$'\\t'*}"
    case "$line" in
      :*) besides="\${line#:}" ;;
      *) COMPREPLY+=("$value") ;;
    esac
  done < <("$1" __complete bash -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  case "$current" in =|:) current= ;; esac
  case "$besides" in
    files) while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current") ;;
    directories) while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$current") ;;
    *) return ;;
  esac
  compopt -o filenames 2>/dev/null
}
complete -F _p2pdma p2pdma
`;

const ZSH = `#compdef p2pdma
# zsh completion of p2pdma
_p2pdma() {
  local line besides
  local -a found
  for line in "\${(@f)$("\${words[1]}" __complete zsh -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
    case "$line" in
      :*) besides="\${line#:}" ;;
      ?*) found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done
  (( \${#found} )) && _describe p2pdma found
  [[ -n "$besides" ]] && compset -P '--*='
  case "$besides" in
    files) _files ;;
    directories) _files -/ ;;
  esac
}
if [ "\${funcstack[1]}" = _p2pdma ]; then _p2pdma "$@"; else compdef _p2pdma p2pdma; fi
`;

const FISH = `# fish completion of p2pdma
function __p2pdma_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l besides
    for line in ($words[1] __complete fish -- $words[2..-1] $current 2>/dev/null)
        if string match -q ':*' -- $line
            set besides (string sub -s 2 -- $line)
        else
            echo $line
        end
    end
    set -l flag (string match -r -- '^--[^=]*=' $current)
    set -l path (string replace -r -- '^--[^=]*=' '' $current)
    switch "$besides"
        case files
            for found in (__fish_complete_path $path)
                echo "$flag$found"
            end
        case directories
            for found in (__fish_complete_directories $path)
                echo "$flag$found"
            end
    end
end
complete -c p2pdma -f -a '(__p2pdma_complete)'
`;

const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
