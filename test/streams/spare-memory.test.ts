/** Host memory of small pools: who gets it again, and who does not. */
import { finished } from 'node:stream/promises';
import t from 'tap';
import type { Mapping, MemoryBackend } from '../../lib/backend/backend.js';
import { openSystem } from '../../lib/index.js';
import { SpareMemory } from '../../lib/streams/spare-memory.js';
import { NOTHING_LEFT } from '../helpers/copies.js';

const SMALL = 64 * 1024;

/** Memory that counts what is mapped. */
function counted() {
  let mapped = 0;
  const allocHost = (bytes: number): Mapping => {
    mapped++;
    return { buffer: new ArrayBuffer(bytes), bytes, provider: null, munmap: () => mapped-- };
  };
  return { memory: { allocHost } as MemoryBackend, mapped: () => mapped };
}

t.test('what is given back is taken again, up to a bound', async (t) => {
  const { memory, mapped } = counted();
  const spare = new SpareMemory();
  const first = spare.take(memory, SMALL);
  t.ok(first.bytes > SMALL);
  spare.giveBack(first);
  t.equal(mapped(), 1);
  t.equal(spare.take(memory, 1), first);
  const others = Array.from({ length: 40 }, () => spare.take(memory, SMALL));
  t.equal(new Set([first, ...others]).size, 41);
  for (const one of [first, ...others]) spare.giveBack(one);
  t.equal(mapped(), 16);
  spare.close();
  t.equal(mapped(), 0);
});

t.test('of large memory the smallest that is enough is taken again, up to a bound', async (t) => {
  const { memory, mapped } = counted();
  const spare = new SpareMemory();
  const MiB = 2 ** 20;
  const sizes = [10, 3, 5].map((n) => n * MiB);
  const [ten, three, five] = sizes.map((bytes) => spare.take(memory, bytes)) as [Mapping, Mapping, Mapping];
  t.same([ten.bytes, three.bytes, five.bytes], sizes);
  for (const one of [ten, three, five]) spare.giveBack(one);
  t.equal(mapped(), 3);
  t.equal(spare.take(memory, 4 * MiB), five);
  t.equal(spare.take(memory, 4 * MiB), ten);
  t.equal(spare.take(memory, 4 * MiB).bytes, 4 * MiB, 'a smaller one is not enough');
  t.equal(spare.take(memory, 3 * MiB), three);
  for (const one of [ten, five, three]) spare.giveBack(one);
  t.equal(mapped(), 4);

  const large = spare.take(memory, 20 * MiB);
  spare.giveBack(large);
  t.equal(mapped(), 4, 'of 38 MiB, those that were given back first went');
  t.not(spare.take(memory, 10 * MiB), ten);
  const huge = spare.take(memory, 33 * MiB);
  const before = mapped();
  spare.giveBack(huge);
  t.equal(mapped(), before - 1, 'more than the bound is not kept at all');
});

t.test('nothing is kept after the end', async (t) => {
  const { memory, mapped } = counted();
  const spare = new SpareMemory();
  const taken = [64 * 1024, 2 ** 20, 2 ** 21].map((bytes) => spare.take(memory, bytes));
  spare.giveBack(taken[2]!);
  t.equal(mapped(), 3);
  spare.close();
  t.equal(mapped(), 2);
  for (const one of taken.slice(0, 2)) spare.giveBack(one);
  t.equal(mapped(), 0);
});

t.test('pipes get the memory of earlier pipes, consumers do not', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const { memory } = system.context.backend;
  const given: Mapping[] = [];
  const allocHost = memory.allocHost.bind(memory);
  memory.allocHost = (bytes) => {
    const mapping = allocHost(bytes);
    given.push(mapping);
    return mapping;
  };
  const pipe = () =>
    finished(
      system
        .createReadStream('nvme0n1', { end: SMALL - 1, memory: 'host' })
        .pipe(system.createWriteStream('nvme1n1')),
    );
  for (let i = 0; i < 3; i++) await pipe();
  t.equal(given.length, 1);
  const spare = given[0]!.buffer;
  t.equal(spare.byteLength > 0, true);
  const reader = system.createReadStream('nvme0n1', { end: SMALL - 1, memory: 'host' });
  for await (const chunk of reader) t.not((chunk as Buffer).buffer, spare, 'a consumer gets other memory');
  t.same(system.metrics().pools, []);
  t.same(await system.close(), NOTHING_LEFT);
  t.equal(spare.byteLength, 0, 'the end takes it away');
});
