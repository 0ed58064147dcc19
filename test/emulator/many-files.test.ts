import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { P2pdmaError } from '../../lib/base/errors.js';
import { openEmulator } from '../../lib/emulator/boot.js';

t.test('more files than a drive has namespaces: EMFILE in words, and nothing made or emptied', async (t) => {
  const folder = t.testdir({ full: 'content' });
  const backend = await openEmulator({
    machine: {
      version: 1,
      name: 'one drive',
      hostBridges: [{ bus: 0 }],
      functions: [
        {
          bdf: '00:01.0',
          type: 'root-complex-endpoint',
          vendor: 1,
          device: 1,
          nvme: { name: 'nvme0', namespaces: [] },
        },
      ],
    },
  });
  const open = [];
  for (let i = 0; i < 1024; i++) {
    writeFileSync(join(folder, `${i}`), 'x');
    open.push(await backend.openTarget(join(folder, `${i}`), {}));
  }
  const refusal = {
    code: 'EMFILE',
    message: /too many open files/,
    hint: /nvme0 has 1024 namespaces.*close some/,
  };
  await t.rejects(backend.openTarget(join(folder, '0'), {}), refusal);
  const error = await backend
    .openTarget(join(folder, 'full'), { write: true, create: true, truncate: true })
    .catch((e: unknown) => e);
  t.ok(error instanceof P2pdmaError);
  t.equal(readFileSync(join(folder, 'full'), 'utf8'), 'content');
  await open.pop()!.close();
  await (await backend.openTarget(join(folder, 'full'), {})).close();
  for (const target of open) await target.close();
  const leaks = await backend.close();
  t.same(leaks, { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
});
