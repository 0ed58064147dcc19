import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Competitor } from '../harness.js';
import { run } from './run.js';

const COMMAND = fileURLToPath(new URL('cli/main.js', import.meta.resolve('p2pdma')));
const OURS = `"${process.execPath}" "${COMMAND}" copy`;

export interface Piped {
  readonly ours: Competitor;
  readonly dd: Competitor;
}

export interface Pipes {
  /** `head -c BYTES /dev/zero | … file` */
  readonly into: Piped;
  /** `… file | cat > /dev/null` */
  readonly out: Piped;
  close(): void;
}

/** `p2pdma copy` and dd from a pipe into a file in memory, and from this file into a pipe: whole commands, with the start of Node. */
export function openPipes(bytes: number): Pipes {
  const folder = mkdtempSync(join('/dev/shm', 'p2pdma-bench-'));
  const file = join(folder, 'file');
  const zeros = `head -c ${bytes} /dev/zero`;
  // Removed before, so that each makes its own; what is written last is what is read.
  const writer = (name: string, command: string) =>
    shell(`${name}, from a pipe`, `rm -f ${file}; ${zeros} | ${command}`);
  const reader = (name: string, command: string) =>
    shell(`${name}, into a pipe`, `${command} | cat > /dev/null`);
  return {
    into: {
      ours: writer('p2pdma copy', `${OURS} - ${file} --quiet`),
      dd: writer('dd', `dd of=${file} bs=1M iflag=fullblock status=none`),
    },
    out: {
      ours: reader('p2pdma copy', `${OURS} ${file} - --quiet`),
      dd: reader('dd', `dd if=${file} bs=1M status=none`),
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function shell(name: string, script: string): Competitor {
  return {
    name,
    run: async () => {
      const began = performance.now();
      await run('bash', ['-c', `set -o pipefail; ${script}`]);
      return { seconds: (performance.now() - began) / 1000 };
    },
  };
}
