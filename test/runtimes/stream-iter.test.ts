/** Where Node has node:stream/iter, it reads and writes the streams of this package as they are. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { NOTHING_LEFT } from '../helpers/copies.js';
import { fetched, names } from '../helpers/runtimes.js';

t.setTimeout(240_000);

const FLAG = '--experimental-stream-iter';
const program = fileURLToPath(new URL('stream-iter.js', import.meta.url));
const EXPECTED = {
  'pipeTo(from(buffer), fromWritable(stream))': 3_000_001,
  'what was written': true,
  'bytes(stream)': true,
  'bytes(from(stream))': true,
  'bytes(fromReadable(stream))': true,
  'text(stream with an encoding)': true,
  'bytes(pull(stream, transform))': true,
  'from(stream) to fromWritable(stream)': '3000001 bytes, finished: true',
  'its bytes': true,
  'a loop that is left destroys the stream': true,
  'a limit': 'ERR_OUT_OF_RANGE',
  'after the limit': true,
  'a signal': ['enough', true],
  'a drive that is not there': 'ENOENT',
  'a source that fails': ['broken', true],
  leaks: NOTHING_LEFT,
};

function run(binary: string, ...args: string[]) {
  return spawnSync(binary, args, { encoding: 'utf8', timeout: 120_000 });
}

for (const name of names.filter((each) => each.startsWith('node'))) {
  const { binary, skip } = fetched(name);
  const known = () => run(binary, '-p', `process.allowedNodeEnvironmentFlags.has('${FLAG}')`).stdout.trim();
  t.test(name, { skip: skip || (known() === 'true' ? false : `it has no ${FLAG}`) }, async (t) => {
    const { status, signal, stdout, stderr } = run(binary, FLAG, '--no-warnings', program);
    t.equal(signal, null, stderr);
    t.equal(status, 0, stderr);
    t.strictSame(JSON.parse(stdout || 'null'), EXPECTED);
  });
}
