/** A line that cannot be taken: every command and every option says so in our words, and ends with 2. */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import t, { type Test } from 'tap';
import * as z from 'zod';
import { CommandError } from '../../lib/cli/errors.js';
import { LineCommand } from '../../lib/cli/line.js';
import { buildProgram, leaves } from '../../lib/cli/program.js';
import { p2pdma } from '../helpers/cli.js';

const program = await buildProgram();
const commands = leaves(program).filter((one) => !one.name().startsWith('__'));

function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}

/** What commander says of a mistake, with everything that is not its own cut out. */
function commanderSays(make: (command: Command) => void, ...line: string[]): string {
  const command = new Command('x').exitOverride().configureOutput({ writeErr: () => {} });
  make(command.action(() => {}));
  try {
    command.parse(line, { from: 'user' });
  } catch (error) {
    return (error as Error).message.replace(/^error: /, '').replace(/'[^']*'|[^ ]+\.$/g, '');
  }
  throw new Error(`commander takes '${line.join(' ')}'`);
}

const refusing = () => {
  throw new InvalidArgumentError('');
};
const THEIRS = [
  commanderSays((x) => x.option('--a <n>'), '--a'),
  commanderSays((x) => x.option('--a <n>', '', refusing), '--a', '1'),
  commanderSays((x) => x.addOption(new Option('--a <n>').choices(['1'])), '--a', '2'),
  commanderSays((x) => x.addOption(new Option('--a').conflicts('b')).option('--b'), '--a', '--b'),
  commanderSays((x) => x.addArgument(new Argument('<a>').choices(['1'])), '2'),
  commanderSays((x) => x.argument('<a>')),
  commanderSays(() => {}, '1'),
  commanderSays(() => {}, '--a'),
  commanderSays((x) => x.command('b'), 'a'),
]
  .flatMap((sentence) => sentence.split(/ {2,}|\.|\n|\(/))
  .map((part) => part.trim())
  .filter((part) => part.includes(' '));

const ZODS = [
  z.number().safeParse('x'),
  z.number().min(1).safeParse(0),
  z.number().max(1).safeParse(2),
  z.number().safeParse(Number.NaN),
  z.number().int().safeParse(0.5),
  z.string().min(1).safeParse(''),
  z.string().max(1).safeParse('xx'),
  z.enum(['a', 'b']).safeParse('c'),
  z.string().regex(/a/).safeParse('b'),
  z.array(z.string()).min(1).safeParse([]),
].map((result) => result.error!.issues[0]!.message.split(/[:>]| \(/)[0]!.trim());

t.test('these are sentences of commander’s and zod’s', async (t) => {
  for (const wanted of ['argument missing', 'is invalid', 'cannot be used with option', 'too many arguments'])
    t.ok(
      THEIRS.some((one) => one.includes(wanted)),
      `${wanted}: ${THEIRS.join(' | ')}`,
    );
  for (const wanted of ['Invalid input', 'Too small', 'Too big', 'Invalid option', 'Invalid string'])
    t.ok(ZODS.includes(wanted), `${wanted}: ${ZODS.join(' | ')}`);
});

/** What the line comes to: null if nothing is wrong with it. What the command would do is not done. */
async function mistake(line: readonly string[]): Promise<unknown> {
  const own = await buildProgram(line);
  for (const leaf of leaves(own)) if (leaf.name() !== 'help') leaf.action(() => {});
  own.configureOutput({ writeOut: () => {}, writeErr: () => {} });
  return own.parseAsync([...line], { from: 'user' }).then(
    () => null,
    (error) => error,
  );
}

function inOurWords(t: Test, error: unknown, line: readonly string[]): void {
  const name = line.join(' ');
  if (!(error instanceof CommandError)) {
    t.fail(`${name}: ${error}`);
    return;
  }
  t.equal(error.code, 'ERR_INVALID_ARG_VALUE', name);
  const said = `${error.message}\n${error.hint}`;
  for (const theirs of [...THEIRS, ...ZODS])
    if (said.toLowerCase().includes(theirs.toLowerCase())) t.fail(`${name}: ${said}: '${theirs}'`);
  t.match(error.hint, /^[A-Z].*$/, name);
  for (const [quoted] of error.message.matchAll(/'[^']+'|--[a-z-]+/g))
    t.equal(error.message.split(quoted).length, 2, `${quoted} twice in: ${error.message}`);
}

const WRONG = ['', 'wrong!', '-1', '0', '1e400', 'NaN', '1KB', ',', 'x'.repeat(300), '--json'];
/** Options whose value can only be judged by looking for what it names. */
const ANY = [
  '--machine',
  '--root',
  '--cpu',
  '--provider',
  '--kernel',
  '--resume',
  '--svg',
  '--route',
  '--from',
];

for (const command of commands) {
  const path = pathOf(command);
  const enough = command.registeredArguments.filter(({ required }) => required).map(() => 'a');
  t.test(`${path.join(' ')}: every option`, async (t) => {
    for (const { long, required } of command.options) {
      const line = [...path, ...enough];
      if (required) inOurWords(t, await mistake([...line, long!]), [...line, long!]);
      else inOurWords(t, await mistake([...line, `${long}=yes`]), [...line, `${long}=yes`]);
      if (!required) continue;
      let refused = 0;
      for (const value of WRONG) {
        const error = await mistake([...line, long!, value]);
        if (error === null) continue;
        refused++;
        inOurWords(t, error, [...line, long!, value]);
      }
      if (!ANY.includes(long!)) t.ok(refused > 0, `${long} takes whatever it is given`);
    }
  });
  t.test(`${path.join(' ')}: arguments, and 2`, async (t) => {
    const lines = [[...path, ...enough, '--no-such-option']];
    const { registeredArguments: all } = command;
    if (enough.length > 0) lines.push([...path, ...enough.slice(1)]);
    if (!all.at(-1)?.variadic) {
      lines.push([...path, ...all.map(() => 'a'), 'b'], [...path, ...all.map(() => 'a'), 'b', 'c']);
    }
    const valued = command.options.find(({ required, variadic }) => required && !variadic);
    if (valued !== undefined) lines.push([...path, ...enough, valued.long!]);
    for (const line of lines) {
      // What `help` is given are commands.
      if (command.name() !== 'completion' || line.length < 3) inOurWords(t, await mistake(line), line);
      t.match(
        p2pdma(...line),
        { status: 2, stdout: '', stderr: /^error ERR_INVALID_ARG_VALUE: .*\n.+\n$/ },
        line.join(' '),
      );
    }
  });
}

t.test('what is said of each mistake', async (t) => {
  for (const [message, hint, ...line] of [
    ["p2pdma has no command 'copi'", "Did you mean 'copy'? See `p2pdma help`.", 'copi'],
    ["trace has no command 'cpy'", "Did you mean 'copy'? See `p2pdma help trace`.", 'trace', 'cpy'],
    ["p2pdma has no command 'cpy'", "Did you mean 'copy'? See `p2pdma help`.", 'help', 'cpy'],
    ['copy needs <src>', 'Write: p2pdma copy [options] <src> <dst...>', 'copy'],
    ['trace copy needs <dst...>', 'Write: p2pdma trace copy [options] <src> <dst...>', 'trace', 'copy', 'a'],
    ["the argument 'a' is one too many", 'Write: p2pdma list [options]', 'list', 'a'],
    [
      "the argument 'b' and the 2 after it are too many",
      'Write: p2pdma demo [options] [file]',
      'demo',
      'a',
      'b',
      'c',
      'd',
    ],
    ['--chunk needs a value', 'Write: --chunk <size>. See `p2pdma help copy`.', 'copy', 'a', 'b', '--chunk'],
    ['--quiet takes no value', 'Write: --quiet. See `p2pdma help copy`.', 'copy', 'a', 'b', '--quiet=1'],
    [
      "copy has no option '--verfy'",
      "Did you mean '--verify'? See `p2pdma help copy`.",
      'copy',
      'a',
      'b',
      '--verfy=1',
    ],
    ['--format and --json cannot be used together', 'Drop one of them.', 'topo', '--format', 'svg', '--json'],
    ["'8x' is not an allowed value of --depth", 'Give a whole number.', 'copy', 'a', 'b', '--depth', '8x'],
    [
      "'bsh' is not an allowed value of <shell>",
      "Allowed values: bash, zsh, fish. Did you mean one of 'bash', 'zsh'?",
      'completion',
      'bsh',
    ],
  ] as const)
    t.match(await mistake(line), { message, hint }, line.join(' '));
});

t.test('of a mistake that has no words yet, none of commander’s', async (t) => {
  const command = new LineCommand('x').exitOverride().requiredOption('--a <n>');
  t.throws(() => command.parse([], { from: 'user' }), {
    message: 'the command line could not be read',
    hint: 'See `p2pdma help`.',
  });
});
