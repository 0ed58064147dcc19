import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { accessHint, notEmpty } from '../../lib/host/path-advice.js';
import { openSystem } from '../../lib/index.js';
import { skipNative } from '../helpers/native.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-what-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = (name: string) => join(folder, name);
writeFileSync(path('file'), 'hello');
writeFileSync(path('empty'), '');
symlinkSync('loop', path('loop'));
mkdirSync(path('folder'));

const linux = process.platform === 'linux';

for (const backend of ['native', 'emulator'] as const) {
  const skip = !linux || (backend === 'native' && skipNative);
  t.test(
    `${backend}: paths that lead nowhere, and things that are no place for bytes`,
    { skip },
    async (t) => {
      execFileSync('mkfifo', [path(`fifo-${backend}`)]);
      const system = await openSystem(backend === 'native' ? { backend } : { backend, machine: 'switch' });
      for (const [code, name, pattern] of [
        ['ENOTDIR', path('file/x'), /file\/x'/],
        ['ELOOP', path('loop'), /loop'/],
        ['ENAMETOOLONG', path('a'.repeat(300)), /aaa'/],
        ['EINVAL', path(`fifo-${backend}`), /is a pipe \(FIFO\)/],
        ['EINVAL', '/dev/zero', /is a character device/],
        ['EINVAL', '/proc/self/status', /says size 0 and is made when it is read/],
      ] as const) {
        for (const write of [false, true]) {
          if (write && name.startsWith('/proc/')) continue;
          await t.rejects(
            system.target(name, { write }),
            { name: 'P2pdmaError', code, message: pattern, hint: /./ },
            `${name} ${write}`,
          );
        }
      }
      const empty = await system.target(path('empty'));
      t.equal(empty.size, 0, 'a file that is empty is a file');
      await empty.close();
      await system.close();
    },
  );
}

t.test('a file of size 0 is empty unless there is a byte', (t) => {
  t.equal(
    notEmpty('f', 'ext4', () => false),
    null,
  );
  t.match(
    notEmpty('f', 'fuse', () => true),
    { code: 'EINVAL', hint: /cat 'f'/ },
  );
  t.match(
    notEmpty('f', 'tracefs', () => t.fail('it would wait')),
    { code: 'EINVAL', message: /tracefs/ },
  );
  t.end();
});

t.test('who may do what: by what it is, and who asks', (t) => {
  const { uid } = statSync(path('file'));
  t.match(
    accessHint(path('file'), 4711),
    uid === 0 ? /mode 0\d{3}: run as root\.$/ : /: run as \S+ or as root\.$/,
  );
  t.notMatch(accessHint(path('file'), 4711), /udev/);
  t.match(accessHint(path('file'), 0), /root is refused: it is immutable/);
  t.match(accessHint(path('folder/new'), 4711), /^the directory '.*folder'/);
  if (linux) {
    t.match(accessHint('/dev/null', 4711), /or run as root\.$/);
    t.match(accessHint('/dev/null', 0), /container/);
    t.notMatch(accessHint('/dev/null', 0), /run as root/);
  }
  t.end();
});
