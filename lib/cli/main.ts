#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { P2pdmaError } from '../index.js';
import { addBench } from './bench.js';
import { addCopy } from './copy.js';
import { addDemo } from './demo.js';
import { addDoctor } from './doctor.js';
import { addExplain } from './explain.js';
import { colours, printable } from './format.js';
import { addList } from './list.js';
import { addSnapshot } from './snapshot.js';
import { addTopo } from './topo.js';
import { addTrace } from './trace.js';

/** Exit codes: 0 done; 1 it could not be done; 2 it was asked for wrongly. */
const FAILED = 1;
const MISUSED = 2;

// A reader that goes away (`p2pdma list | head -1`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('p2pdma')
  .description('Peer-to-peer DMA between NVMe drives: copy, explain, look')
  .version(version)
  .showSuggestionAfterError()
  .exitOverride();
for (const add of [
  addCopy,
  addList,
  addTopo,
  addExplain,
  addDoctor,
  addSnapshot,
  addBench,
  addTrace,
  addDemo,
])
  add(program);
for (const command of program.commands) command.exitOverride().showSuggestionAfterError();

try {
  await program.parseAsync();
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
