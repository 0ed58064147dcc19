/**
 * A thousand streams opened, aborted, destroyed, piped and forgotten at random; then nothing is left: no fd, mapping, ring,
 * request. On this machine's kernel with both engines, and on the emulator.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { openSystem, type System, type SystemOptions } from '../lib/index.js';
import { nativeCounters } from '../lib/native/addon.js';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

const STREAMS = 1000;
const SIZE = 2 * 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-stress-'));
t.teardown(() => rmSync(folder, { recursive: true }));
for (const name of ['source', ...Array.from({ length: 8 }, (_, i) => `to${i}`)]) {
  writeFileSync(join(folder, name), '');
  truncateSync(join(folder, name), SIZE);
}

/** Repeatable: the seed is in the test's name. */
function randomFrom(seed: number) {
  let state = seed;
  return (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

async function storm(system: System, random: (n: number) => number): Promise<Record<string, number>> {
  const ends: Record<string, number> = {};
  const note = (what: string) => {
    ends[what] = (ends[what] ?? 0) + 1;
  };
  let opened = 0;
  const lane = async (to: string) => {
    while (opened < STREAMS) {
      const abort = new AbortController();
      const options = { highWaterMark: 4096 << random(6), queueDepth: 1 + random(8), signal: abort.signal };
      const reader = system.createReadStream(join(folder, 'source'), {
        ...options,
        start: random(2) * random(9999),
      });
      opened++;
      reader.on('error', () => {});
      const pause = async () => {
        for (let i = random(12); i > 0; i--) await new Promise(setImmediate);
      };
      switch (random(6)) {
        case 0:
          reader.destroy();
          note('destroyed at once');
          break;
        case 1:
          reader.resume();
          await pause();
          abort.abort();
          await finished(reader).catch(() => {});
          note('aborted');
          break;
        case 2: {
          for await (const chunk of reader) if (chunk.length > 0 && random(4) === 0) break;
          note('left by break');
          break;
        }
        case 3:
          // Forgotten: opened, a little read, no reference kept.
          reader.once('readable', () => {});
          await pause();
          note('forgotten');
          break;
        default: {
          const writer = system.createWriteStream(to, { ...options, signal: undefined, flush: false });
          opened++;
          writer.on('error', () => {});
          const last = random(2) === 0 ? reader.pipe(writer) : reader.pipe(new PassThrough()).pipe(writer);
          if (random(3) === 0) {
            await finished(last).catch(() => {});
            note('piped');
          } else {
            await pause();
            (random(2) === 0 ? reader : writer).destroy(new Error('enough'));
            await pause();
            reader.destroy();
            writer.destroy();
            note('pipe destroyed');
          }
          if (!writer.closed) await new Promise((resolve) => writer.once('close', resolve));
        }
      }
      if (random(40) === 0) gc();
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, i) => lane(join(folder, `to${i}`))));
  return ends;
}

const machines: SystemOptions[] = [
  { backend: 'native', engine: 'uring' },
  { backend: 'native', engine: 'threads' },
  { backend: 'emulator' },
];
for (const [i, options] of machines.entries()) {
  const name = [options.backend, options.engine].join(' ').trim();
  t.test(`${name}, seed ${i + 1}`, async (t) => {
    const system = await openSystem(options).catch((error: Error) => error);
    if (system instanceof Error) return void t.pass(name, { skip: system.message });
    const ends = await storm(system, randomFrom(i + 1));
    t.comment(JSON.stringify(ends));
    t.equal(Object.keys(ends).length, 6, 'every kind of end occurred');
    t.same(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
    if (options.backend !== 'native') return;
    for (let tries = 0; tries < 50 && left() !== ''; tries++) {
      gc();
      await sleep(20);
    }
    t.equal(left(), '', 'no descriptor, mapping, ring, thread or request is left');
  });
}

/** The addon's counters that are not zero. */
function left(): string {
  const { fds, mappings, mappedBytes, rings, registeredFiles, threads, inFlight } = nativeCounters();
  return Object.entries({ fds, mappings, mappedBytes, rings, registeredFiles, threads, inFlight })
    .filter(([, count]) => count !== 0)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
}
