import type { Command } from 'commander';
import { openSystem, planCopy } from '../index.js';
import { copy, settingsOf } from './copy/command.js';
import { endsOf } from './copy/pipes.js';
import { resolving } from './errors.js';
import { LOOKS, manual } from './help.js';
import { speaksFor } from './whose.js';

/** The command that `npm start` runs. */
export function addDemo(command: Command): void {
  manual(command, {
    about: [
      'Streams a real file from one emulated drive to another through the first drive’s CMB, draws the way that the ' +
        'bytes took, prints the receipt and verifies the copy. The file is only read. No NVMe drive is needed; this is ' +
        'what `npm start` runs.',
    ],
    environment: LOOKS,
    examples: [
      ['The running node binary.', 'p2pdma demo'],
      ['A file of your own.', 'p2pdma demo disk.img'],
    ],
  });
  command.action(async (file: string | undefined) => {
    const system = await openSystem({ machine: 'switch' });
    speaksFor(system, 'text');
    try {
      const options = { backend: 'emulator', provider: 'nvme0', engine: 'auto', verify: true } as const;
      const ends = endsOf(file ?? process.execPath, ['nvme1n1'], options);
      const plan = await resolving(() => planCopy(ends.names.source, 'nvme1n1', settingsOf(system, options)));
      await copy(system, ends, options, plan);
    } finally {
      await system.close();
    }
  });
}
