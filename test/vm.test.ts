import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const skip =
  process.env.P2PDMA_VM === '1'
    ? false
    : 'boots a real kernel for minutes: set P2PDMA_VM=1, or run npm run test:vm';

// Longer than the runner's own limit for a file, which only the root test can move; each boot has a limit of its own.
const LIMIT = 60 * 60_000;
if (skip === false) t.setTimeout(LIMIT);

t.test('a booted Linux agrees', { skip, timeout: LIMIT }, async (t) => {
  const main = fileURLToPath(new URL('vm/main.js', import.meta.url));
  const child = spawn(process.execPath, ['--enable-source-maps', main], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  for (const line of text.split('\n')) {
    if (line.startsWith('# ')) t.comment(line.slice(2));
    const excused = /^# +scenario: (.*?) \| .* \| (excused: .*)$/.exec(line);
    if (excused !== null) t.pass(excused[1]!, { skip: excused[2]! });
  }
  if (code !== 0) t.comment(text.slice(-8000));
  t.equal(code, 0, 'npm run test:vm');
});
