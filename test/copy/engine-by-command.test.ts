/** The engine `passthrough` on an emulated machine, which has none: refused wherever it can be asked for, and never ignored. */
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import t from 'tap';
import { createReadStream, createWriteStream, openSystem, pipeline, planCopy } from '../../lib/index.js';
import { p2pdma } from '../helpers/cli.js';

const refused = {
  code: 'EOPNOTSUPP',
  message: /the emulated machine 'switch' has no engine 'passthrough'/,
  hint: /^Leave engine out: an emulated machine has one engine/,
};

t.test('a target, a stream, a copy and its plan', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const how = { system, end: 4095, engine: 'passthrough' } as const;
  await t.rejects(system.target('nvme0n1', { engine: 'passthrough' }), refused);
  await t.rejects(pipeline('nvme0n1', 'nvme1n1', how), refused);
  await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', { end: 4095, engine: 'passthrough' }), refused);
  await t.rejects(planCopy('nvme0n1', ['nvme1n1'], how), refused);
  const failed = (stream: Readable | Writable) => new Promise((_, reject) => stream.on('error', reject));
  const reader = createReadStream('nvme0n1', how);
  const writer = createWriteStream('nvme1n1', { system, engine: 'passthrough' });
  const both = [t.rejects(failed(reader), refused), t.rejects(failed(writer), refused)];
  reader.resume();
  writer.end(Buffer.alloc(4096));
  await Promise.all(both);
  t.equal(system.metrics().bytes.write, 0);
  await t.resolves(pipeline('nvme0n1', 'nvme1n1', { system, end: 4095, engine: 'threads' }));
  await system.close();
});

t.test('the command, also where nothing is written', async (t) => {
  const file = join(t.testdir(), 'new');
  for (const rest of [['nvme1n1'], ['nvme1n1', '--dry-run'], [file]]) {
    const { status, stderr } = p2pdma(
      'copy',
      'nvme0n1',
      ...rest,
      '--machine',
      'switch',
      '--engine',
      'passthrough',
      '--bytes',
      '4KiB',
    );
    t.equal(status, 2);
    t.match(stderr, /EOPNOTSUPP: .*has no engine 'passthrough'/);
    t.match(stderr, /Leave --engine out/);
  }
});
