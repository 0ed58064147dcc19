/**
 * What cannot be read is not compared: a file that was cut short between copy and comparison is said to be short, and the
 * route is not blamed. (The memory of the missing part was compared instead.)
 */
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { verifyRanges } from '../../lib/copy/verify.js';
import { openSystem } from '../../lib/index.js';
import { bytesOf } from '../helpers/copies.js';
import { directIoDir, skipNative } from '../helpers/native.js';

const SIZE = 3_000_000;
const CUT = 1_200_345;

for (const backend of ['native', 'emulator'] as const) {
  t.test(backend, { skip: backend === 'native' && skipNative }, async (t) => {
    const folder = directIoDir(t);
    await using system = await openSystem(backend === 'native' ? { backend } : { machine: 'switch' });
    const { context } = system;
    for (const shortened of ['source', 'destination'] as const) {
      const paths = { source: join(folder, 'source'), destination: join(folder, 'destination') };
      for (const path of Object.values(paths)) writeFileSync(path, bytesOf(SIZE));
      const source = await context.openTarget(paths.source, {});
      const destination = await context.openTarget(paths.destination, {});
      truncateSync(paths[shortened], CUT);
      // As an earlier file left it.
      const allocate = (bytes: number) => {
        const memory = context.backend.memory.allocBuffer(bytes);
        memory.set(bytesOf(SIZE).subarray(0, bytes));
        return memory;
      };
      await t.rejects(
        verifyRanges({ target: source, start: 0 }, { target: destination, start: 0 }, SIZE, allocate),
        { code: 'ERR_SHORT_TRANSFER', syscall: 'read', path: paths[shortened], offset: CUT },
        shortened,
      );
      await context.closeTarget(source);
      await context.closeTarget(destination);
    }
  });
}
