import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Competitor } from '../harness.js';

const PACKAGE = import.meta.resolve('p2pdma');
const COMMAND = fileURLToPath(new URL('cli/main.js', PACKAGE));
/** Starts per round: one takes few ticks of the timer by which the kernel tells user from kernel time. */
const STARTS = 4;

/** The mean of some starts of a program in Node. `seconds` is of all of them. */
function starts(name: string, args: readonly string[]): Competitor {
  return {
    name,
    async run() {
      const script = `TIMEFORMAT='%3U %3S'; time for i in {1..${STARTS}}; do "$@" >/dev/null; done`;
      const { status, stderr } = spawnSync('bash', ['-c', script, 'bash', process.execPath, ...args], {
        encoding: 'utf8',
        env: { ...process.env, LC_ALL: 'C' },
      });
      const [user, kernel] = stderr.trim().split(' ').map(Number) as [number, number];
      if (status !== 0 || !(user >= 0)) throw new Error(`node ${args.join(' ')}: ${stderr}`);
      return { userCpu: user / STARTS, cpu: (user + kernel) / STARTS };
    },
  };
}

export const nothing = starts('node -e 0', ['-e', '0']);
export const version = starts('p2pdma --version', [COMMAND, '--version']);
export const emptyModule = starts('a module that is empty', ['--input-type=module', '-e', '0']);
export const importing = starts("import 'p2pdma'", ['--input-type=module', '-e', `import '${PACKAGE}'`]);
