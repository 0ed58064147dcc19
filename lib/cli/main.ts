#!/usr/bin/env node
import { FAILED, jsonAsked, report, say } from './errors.js';
import { printable } from './format.js';
import { buildProgram } from './program.js';

let unwritten: NodeJS.ErrnoException | null = null;

// A reader that goes away (`p2pdma list | head -1`) is not an error, and does not change what is done or the exit code.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') unwritten ??= error;
});
// An error on stderr cannot be reported anywhere.
process.stderr.on('error', () => {});

try {
  const program = await buildProgram(process.argv.slice(2));
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
// The error of a failed write is emitted in a later turn of the event loop.
await new Promise(setImmediate);
if (unwritten !== null) lost(unwritten);

/** Part of the output could not be written to stdout. The work of the command is done all the same. */
function lost({ code, message }: NodeJS.ErrnoException): void {
  const copied = process.argv[2] === 'copy' && !process.argv.includes('--dry-run') && !process.exitCode;
  const text = `${copied ? 'the copy is done; its receipt' : 'the output'} could not be written to stdout: ${message.replace(/, write$/, '')}`;
  if (jsonAsked()) say({ code: code ?? 'EIO', message: text, hint: 'Give stdout another place.' });
  else process.stderr.write(`${printable(text)}\n`);
  process.exitCode ||= FAILED;
}
