/**
 * util-linux's `blkid`, where it is installed. It knows signatures that our own table does not have, so it is run when
 * the table finds nothing. `blkid -p -o export` prints the result of a low-level probe, one item per line:
 *
 *     DEVNAME=/dev/loop0
 *     TYPE=minix             SBMAGIC_OFFSET, USAGE=filesystem, LABEL=…          or PTTYPE=dos
 *
 * It exits with 2 when it finds nothing, and with 8 when it finds several things that exclude each other.
 */
import { type ExecFileException, execFile } from 'node:child_process';
import { size } from '../base/words.js';
import type { Signature, SignatureKind } from './signatures.js';

const ASK = { command: 'blkid', timeout: 5000 };
const MOST_BYTES = 64 * 1024;
const AMBIVALENT = 8;
/** It finds nothing; it is another program of that name, which does not know these options; it is not installed. */
const NOTHING = new Set<number | string>([2, 1, 'ENOENT']);

/**
 * The signatures that `blkid` reports at `path`. Empty: it finds nothing, or util-linux's `blkid` is not installed. If it gives
 * no answer, nobody knows what is there, which is not the same as nothing: that counts as something found.
 */
export async function askBlkid(path: string, how = ASK): Promise<Signature[]> {
  const { ended, stdout } = await run(how, ['-p', '-o', 'export', '--', path]);
  if (ended === 0) return parseBlkid(stdout);
  if (NOTHING.has(ended)) return [];
  const name =
    ended === AMBIVALENT
      ? 'several things at once (blkid)'
      : `something unknown (blkid gave no answer: ${ended})`;
  return [{ name, kind: 'filesystem', offset: 0, label: null }];
}

/** `ended`: the exit code, or in words what else ended it. */
function run(
  { command, timeout }: typeof ASK,
  args: string[],
): Promise<{ ended: number | string; stdout: string }> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  const options = { env, timeout, killSignal: 'SIGKILL', maxBuffer: MOST_BYTES } as const;
  return new Promise((resolve) => {
    execFile(command, args, options, (error, stdout) => {
      resolve({ ended: error === null ? 0 : endOf(error, timeout), stdout });
    });
  });
}

function endOf({ code, killed, signal }: ExecFileException, timeout: number): number | string {
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return `more than ${size(MOST_BYTES)}`;
  if (killed) return `none within ${timeout / 1000} s`;
  return code ?? signal ?? 'unknown';
}

export function parseBlkid(text: string): Signature[] {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1).replace(/\\(.)/g, '$1'));
  }
  const offset = (name: string): number => Number(values.get(name) ?? 0) || 0;
  const found: Signature[] = [];
  const type = values.get('TYPE');
  if (type) {
    const kind = KINDS[values.get('USAGE') ?? ''] ?? 'filesystem';
    found.push({ name: type, kind, offset: offset('SBMAGIC_OFFSET'), label: values.get('LABEL') || null });
  }
  const table = values.get('PTTYPE');
  if (table) {
    found.push({ name: table, kind: 'partition table', offset: offset('PTMAGIC_OFFSET'), label: null });
  }
  return found;
}

const KINDS: Readonly<Record<string, SignatureKind>> = {
  filesystem: 'filesystem',
  raid: 'RAID member',
  crypto: 'encrypted volume',
  other: 'swap space',
};
