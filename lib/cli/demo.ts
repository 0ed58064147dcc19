import type { Command } from 'commander';
import { openSystem } from '../index.js';
import { copy } from './copy.js';

/** What `npm start` runs. */
export function addDemo(program: Command): void {
  program
    .command('demo')
    .description(
      'stream a real file from one emulated drive to another through the first drive’s CMB, and verify it',
    )
    .argument('[file]', 'any file; default: the running node binary')
    .action(async (file: string | undefined) => {
      const system = await openSystem({ backend: 'emulator', machine: 'switch' });
      try {
        await copy(system, file ?? process.execPath, ['nvme1n1'], {
          backend: 'emulator',
          provider: 'nvme0',
          verify: true,
        });
      } finally {
        await system.close();
      }
    });
}
