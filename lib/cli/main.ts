#!/usr/bin/env node
import { packageVersion } from './version.js';

let unwritten: NodeJS.ErrnoException | null = null;

// A reader that goes away (`p2pdma list | head -1`) is not an error, and does not change what is done or the exit code.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') unwritten ??= error;
});
// An error on stderr cannot be reported anywhere.
process.stderr.on('error', () => {});

const words = process.argv.slice(2);
try {
  // Alone, it needs nothing of the rest, which takes its time to load.
  if (words.length === 1 && ['-V', '--version'].includes(words[0]!)) {
    process.stdout.write(`${packageVersion()}\n`);
  } else {
    const { buildProgram } = await import('./program.js');
    const program = await buildProgram(words);
    await program.parseAsync();
  }
} catch (error) {
  const { report } = await import('./errors.js');
  process.exitCode = report(error);
}
// The error of a failed write is emitted in a later turn of the event loop.
await new Promise(setImmediate);
if (unwritten !== null) await lost(unwritten);

/** Part of the output could not be written to stdout. The work of the command is done all the same. */
async function lost({ code, message }: NodeJS.ErrnoException): Promise<void> {
  const [{ FAILED, jsonAsked, say }, { printable }] = await Promise.all([
    import('./errors.js'),
    import('./format.js'),
  ]);
  const copied = process.argv[2] === 'copy' && !process.argv.includes('--dry-run') && !process.exitCode;
  const text = `${copied ? 'the copy is done; its receipt' : 'the output'} could not be written to stdout: ${message.replace(/, write$/, '')}`;
  if (jsonAsked()) say({ code: code ?? 'EIO', message: text, hint: 'Give stdout another place.' });
  else process.stderr.write(`${printable(text)}\n`);
  process.exitCode ||= FAILED;
}
