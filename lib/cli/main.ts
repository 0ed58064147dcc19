#!/usr/bin/env node
import { P2pdmaError } from '../index.js';
import { colours, printable } from './format.js';
import { buildProgram } from './program.js';

/** Exit codes: 0 done; 1 it could not be done; 2 it was asked for wrongly. */
const FAILED = 1;
const MISUSED = 2;

// A reader that goes away (`p2pdma list | head -1`) is not an error, and does not change what is done or the exit code.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

try {
  await buildProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Two lines: what, and what to do. */
function report(error: unknown): number {
  const colour = colours(process.stderr);
  if (error instanceof P2pdmaError) {
    process.stderr.write(
      `${colour.red('error')} ${error.code}: ${printable(stripCode(error))}\n${printable(error.hint)}\n`,
    );
    return error.code.startsWith('ERR_INVALID') || error.code === 'ERR_OUT_OF_RANGE' ? MISUSED : FAILED;
  }
  // Commander has printed its own message by now.
  if (error instanceof Error && 'exitCode' in error) return error.exitCode === 0 ? 0 : MISUSED;
  process.stderr.write(
    `${colour.red('error')} ${printable(String((error as Error)?.stack ?? error))}\nThis is a bug in p2pdma; please report it.\n`,
  );
  return FAILED;
}

function stripCode({ code, message }: P2pdmaError): string {
  return message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message;
}
