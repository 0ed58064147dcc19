/** What the backend moves by itself, seen from the streams: nothing of what they say or do is another for it. */
import diagnostics from 'node:diagnostics_channel';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import t, { type Test } from 'tap';
import type { Backend, PumpFailure } from '../../lib/backend/backend.js';
import { zeroPath } from '../../lib/backend/path-bytes.js';
import { EREMOTEIO } from '../../lib/base/errno.js';
import { openSystem, TRACE_CHANNEL } from '../../lib/index.js';
import { nativeCounters } from '../../lib/native/addon.js';
import { NOTHING_LEFT } from '../helpers/copies.js';
import { directIoDir, pattern, skipNative } from '../helpers/native.js';

const MiB = 1024 * 1024;
const CHUNK = 16 * 1024;
const SIZE = 8 * MiB + 777;

async function ends(t: Test) {
  const folder = directIoDir(t);
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  const source = Buffer.from(pattern(SIZE, 3));
  writeFileSync(from, source);
  const system = await openSystem({ backend: 'native' });
  const reader = system.createReadStream(from, { highWaterMark: CHUNK });
  const writer = system.createWriteStream(to, { highWaterMark: CHUNK });
  return { source, to, system, reader, writer, written: () => readFileSync(to) };
}

/**
 * A copy in its middle: something is written, and half of it is not. To ask for the metrics is to look at what the backend
 * has moved by itself. On a busy machine the look may come too late, and another copy is begun.
 */
async function underWay(t: Test) {
  for (let i = 0; i < 100; i++) {
    const copy = await ends(t);
    const { system, reader, writer } = copy;
    reader.pipe(writer);
    while (writer.bytesWritten === 0 && !writer.destroyed) {
      await new Promise(setImmediate);
      system.metrics();
    }
    if (writer.bytesWritten < SIZE / 2) return copy;
    await finished(writer);
    await system.close();
  }
  throw new Error('no copy of a hundred was seen in its middle');
}

t.test('a copy calls JavaScript a few times, not once per chunk', { skip: skipNative }, async (t) => {
  const { source, system, reader, writer, written } = await ends(t);
  const before = nativeCounters().callbacks;
  await finished(reader.pipe(writer));
  const calls = nativeCounters().callbacks - before;
  t.ok(calls < SIZE / CHUNK / 8, `${calls} calls for ${Math.ceil(SIZE / CHUNK)} chunks`);
  t.ok(written().equals(source));
  t.equal(reader.bytesRead, SIZE);
  t.equal(writer.bytesWritten, SIZE);
  t.match(reader.receipt, { bytes: SIZE });
  const { transfers, path, inFlight } = system.metrics();
  t.equal(inFlight, 0);
  t.ok(transfers.read >= SIZE / CHUNK && transfers.write >= SIZE / CHUNK);
  t.ok(path.hostDram >= 2 * SIZE, 'each byte is counted on both sides');
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('P2PDMA_PUMP=0 leaves each chunk to JavaScript', { skip: skipNative }, async (t) => {
  process.env.P2PDMA_PUMP = '0';
  t.teardown(() => delete process.env.P2PDMA_PUMP);
  const { source, system, reader, writer, written } = await ends(t);
  const before = nativeCounters();
  await finished(reader.pipe(writer));
  t.ok(nativeCounters().callbacks - before.callbacks > 8);
  t.ok(written().equals(source));
  t.same(await system.close(), NOTHING_LEFT);
});

t.test(
  'what somebody writes meanwhile goes between, and nothing is lost',
  { skip: skipNative },
  async (t) => {
    const { source, system, writer, written } = await underWay(t);
    const note = Buffer.from('a note in between');
    writer.write(note);
    await finished(writer);
    const all = written();
    const at = all.indexOf(note);
    // Between two transfers: at a chunk's end, or where the whole blocks end and the part of one is still to come.
    const wholeBlocks = SIZE - (SIZE % 512);
    t.ok(at > 0 && (at % CHUNK === 0 || at === wholeBlocks), `after ${at} bytes`);
    t.ok(all.subarray(0, at).equals(source.subarray(0, at)));
    t.ok(all.subarray(at + note.length).equals(source.subarray(at)));
    t.same(await system.close(), NOTHING_LEFT);
  },
);

t.test(
  'a writer that is ended under way has what was written, and no hole',
  { skip: skipNative },
  async (t) => {
    const { source, system, reader, writer, written } = await underWay(t);
    writer.end();
    await finished(writer);
    const all = written();
    t.equal(all.length, writer.bytesWritten);
    t.ok(all.equals(source.subarray(0, all.length)));
    reader.destroy();
    t.same(await system.close(), NOTHING_LEFT);
  },
);

t.test('whoever begins to trace sees the transfers from then on', { skip: skipNative }, async (t) => {
  const { source, system, reader, writer, written } = await ends(t);
  const seen: unknown[] = [];
  const listen = (event: unknown) => seen.push(event);
  t.teardown(() => diagnostics.unsubscribe(TRACE_CHANNEL, listen));
  reader.pipe(writer);
  diagnostics.subscribe(TRACE_CHANNEL, listen);
  await finished(writer);
  t.ok(seen.length > 0);
  t.ok(written().equals(source));
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('stop() ends it with what was read', { skip: skipNative }, async (t) => {
  const { source, system, reader, writer, written } = await underWay(t);
  reader.stop();
  await finished(writer);
  const all = written();
  t.equal(all.length, reader.bytesRead);
  t.ok(all.equals(source.subarray(0, all.length)));
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a writer destroyed under way lets go, and the system closes', { skip: skipNative }, async (t) => {
  const { source, system, writer, written } = await underWay(t);
  writer.destroy();
  await finished(writer).catch(() => {});
  t.ok(written().equals(source.subarray(0, writer.bytesWritten)));
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a refusal of peer memory that comes when the pump was stopped takes no other memory', async (t) => {
  for (const stop of ['destroy', 'unpipe'] as const) {
    const system = await openSystem({ machine: 'switch' });
    const [reader, writer] = [system.createReadStream('nvme0n1'), system.createWriteStream('nvme1n1')];
    const { context } = await reader.attachment.opened().then(() => reader.attachment);
    let refuse: (failure: PumpFailure) => void = () => {};
    const begun = new Promise<void>((begun) => {
      const never = { bytes: 0, transfers: 0, inFlight: 0, path: zeroPath() };
      const pump: Backend['pump'] = ({ slots }) => {
        t.ok(slots.length > 0);
        begun();
        return {
          over: new Promise((over) => {
            refuse = over;
          }),
          progress: () => ({ moved: 0, source: never, destinations: [never] }),
          stop: () => {},
        };
      };
      Object.assign(context!.backend, { pump });
    });
    reader.on('error', () => {});
    writer.on('error', () => {});
    reader.pipe(writer);
    await begun;
    t.equal(reader.transport, 'p2p-bus');
    if (stop === 'destroy') reader.destroy();
    else reader.unpipe(writer);
    // So that it is stopped in any case.
    await new Promise(setImmediate);
    refuse({ destination: 0, at: 0, result: -EREMOTEIO });
    await new Promise(setImmediate);
    reader.destroy();
    writer.destroy();
    t.same(await system.close(), NOTHING_LEFT, stop);
  }
});
