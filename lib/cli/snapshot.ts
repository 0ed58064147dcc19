import type { Command } from 'commander';
import { P2pdmaError } from '../index.js';
import { json } from './format.js';
import { inspectMachine, type MachineOptions, withMachine } from './options.js';

interface SnapshotOptions extends MachineOptions {
  withSerials?: boolean;
  name?: string;
}

export function addSnapshot(program: Command): void {
  withMachine(
    program
      .command('snapshot')
      .description(
        'this machine as JSON on stdout, for the emulator: --machine machine.json runs everything on it',
      ),
  )
    .option('--with-serials', 'keep the drives’ serial numbers (default: they are left out)')
    .option('--name <name>', 'what the machine is called')
    .addHelpText('after', MORE)
    .action(async (options: SnapshotOptions) => {
      refuseElsewhere(options);
      const system = await inspectMachine(options);
      try {
        const machine = system.snapshot({
          withSerials: options.withSerials ?? false,
          ...(options.name === undefined ? {} : { name: options.name }),
        });
        process.stdout.write(`${json(machine, options.json ? undefined : 2)}\n`);
      } finally {
        await system.close();
      }
    });
}

/** Natively or not at all: an emulated machine in the place of this one would be a lie. */
function refuseElsewhere({ backend, machine, root }: SnapshotOptions): void {
  if (process.platform === 'linux' || backend === 'emulator' || machine !== undefined || root !== undefined)
    return;
  throw new P2pdmaError('ERR_BACKEND_UNAVAILABLE', `this is ${process.platform}: there is no sysfs to read`, {
    hint: 'Name a captured tree with --root, or a machine with --machine.',
  });
}

const MORE = `
It reads sysfs and /proc/cpuinfo: functions, BARs, ACS, IOMMU groups, drives and their CMBs. Run it as root, or
ACS settings stay unknown. It says what the machine is, not whose: no host name, no file names.

Examples:
  sudo npx p2pdma snapshot > machine.json
  p2pdma explain --machine machine.json
  p2pdma copy nvme0n1 nvme1n1 --machine machine.json --end 1MiB --verify
  p2pdma snapshot --root ./captured > machine.json`;
