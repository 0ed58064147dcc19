import type { Command } from 'commander';
import * as z from '../base/zod.js';
import { openSystem, P2pdmaError } from '../index.js';
import { CommandError } from './errors.js';
import { json } from './format.js';
import { type Manual, manual } from './help.js';
import { flag, type OptionsOf, row, withOptions } from './option-table.js';
import { inspectMachine, type MachineOptions, withKernel, withMachine, withSent } from './options.js';

const LENGTH = 'Give 1 to 200 characters.';

const CONTENTS = {
  withSerials: row(flag, { text: 'keep the drives’ serial numbers (default: they are left out)' }),
  name: row(z.optional(z.string().check(z.minLength(1, LENGTH), z.maxLength(200, LENGTH))), {
    takes: '<name>',
    text: 'what the machine is called',
    offers: [],
  }),
};

interface SnapshotOptions extends MachineOptions, OptionsOf<typeof CONTENTS> {}

export function addSnapshot(command: Command): void {
  manual(command, MANUAL);
  withOptions(command, 'What is in it:', CONTENTS);
  withKernel(withSent(withMachine(command))).action(async (options: SnapshotOptions) => {
    const system = await inspectMachine(options, 'data');
    try {
      const machine = system.snapshot({
        withSerials: options.withSerials ?? false,
        ...(options.name === undefined ? {} : { name: options.name }),
      });
      await readBack(machine);
      process.stdout.write(`${json(machine, options.json ? undefined : 2)}\n`);
    } finally {
      await system.close();
    }
  });
}

/** A snapshot that --machine would refuse is not printed. */
async function readBack(machine: object): Promise<void> {
  try {
    await (await openSystem({ machine })).close();
  } catch (error) {
    if (!(error instanceof P2pdmaError)) throw error;
    throw new CommandError(
      error.code,
      `this machine cannot be described: ${error.message}`,
      'The emulator would refuse the description. Please report it with the captured tree.',
    );
  }
}

const MANUAL: Manual = {
  about: [
    'Prints this machine as JSON on stdout: PCI functions, BARs, ACS, IOMMU groups, CPU, drives and their CMBs, from sysfs ' +
      'and /proc/cpuinfo. --machine machine.json then runs every command on it, in the emulator, on any OS. It says what ' +
      'the machine is, not whose: no host name, no file names, no serial numbers.',
    'Run it as root, or ACS settings stay unknown.',
  ],
  examples: [
    ['Take this machine home.', 'sudo npx p2pdma snapshot > machine.json'],
    ['Ask about it elsewhere.', 'p2pdma explain --machine machine.json'],
    ['Try a copy on it.', 'p2pdma copy nvme0n1 nvme1n1 --machine machine.json --bytes 1MiB --verify'],
    ['From a captured tree.', 'p2pdma snapshot --root ./captured > machine.json'],
  ],
};
