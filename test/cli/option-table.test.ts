/** The command's options: each comes from a table, which is its type, check, default, help and what shells offer for it. */
import type { Command } from 'commander';
import t from 'tap';
import * as z from '../../lib/base/zod.js';
import { LineCommand } from '../../lib/cli/line.js';
import { flag, type OptionsOf, oneOf, row, TableOption, withOptions } from '../../lib/cli/option-table.js';
import { count, size } from '../../lib/cli/options.js';
import { buildProgram, leaves } from '../../lib/cli/program.js';

const TABLE = {
  chunk: row(z._default(size, 65536), {
    takes: '<size>',
    text: 'bytes',
    shown: (n: number) => `${n / 1024} K`,
  }),
  depth: row(z.optional(count), { takes: '<n>', text: 'how many', offers: [{ words: ['1'] }] }),
  format: row(oneOf(['text', 'json']), { takes: '<format>', text: 'text (the default) or json' }),
  dryRun: row(flag, { text: 'write nothing', conflicts: 'depth' }),
};

function command(): Command {
  return withOptions(new LineCommand('x').exitOverride(), 'All:', TABLE);
}

function read(...words: string[]): OptionsOf<typeof TABLE> {
  return command().parse(words, { from: 'user' }).opts();
}

t.test('rows become options', async (t) => {
  const [chunk, depth, format, dryRun] = command().options as TableOption[];
  t.equal(chunk!.flags, '--chunk <size>');
  t.equal(chunk!.description, 'bytes (default: 64 K)');
  t.equal(depth!.description, 'how many');
  t.strictSame(depth!.offers, [{ words: ['1'] }]);
  t.equal(format!.description, 'text (the default) or json');
  t.strictSame(format!.argChoices, ['text', 'json']);
  t.equal(dryRun!.flags, '--dry-run');
});

t.test('the type is the check and has the default', async (t) => {
  t.strictSame(read(), { chunk: 65536, format: 'text' });
  t.strictSame(read('--chunk', '1m', '--depth', '3', '--format=json'), {
    chunk: 1024 * 1024,
    depth: 3,
    format: 'json',
  });
  t.strictSame(read('--dry-run'), { chunk: 65536, format: 'text', dryRun: true });
  t.throws(() => read('--depth', 'x'), {
    message: "'x' is not an allowed value of --depth",
    hint: 'Give a whole number.',
  });
  t.throws(() => read('--chunk', '1KB'), {
    message: "'1KB' is not an allowed value of --chunk",
    hint: 'This unit is ambiguous: write 1KiB (1024) or 1000.',
  });
  t.throws(() => read('--format', 'jsno'), {
    message: "'jsno' is not an allowed value of --format",
    hint: "Allowed values: text, json. Did you mean 'json'?",
  });
  t.throws(() => read('--dry-run', '--depth', '1'), {
    message: '--dry-run and --depth cannot be used together',
    hint: 'Drop one of them.',
  });
});

t.test('every option of every command is a row', async (t) => {
  for (const one of leaves(await buildProgram())) {
    for (const option of one.options) t.ok(option instanceof TableOption, `${one.name()} ${option.flags}`);
  }
});
