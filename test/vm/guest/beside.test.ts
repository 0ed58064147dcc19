/**
 * Beside the C tools, in the same guest and run: a copy from A to B through A's CMB by fio (a read and a write job),
 * by copy.c (pread and pwrite, one thread) and by our pipeline. Only ratios mean something here; nothing is asserted of them.
 * copy.c with threads shows what depth is worth here: QEMU maps a peer's memory through one bounce buffer of one page,
 * so the more commands are in flight, the more of them wait for each other. Our depth of 8 is 8 reads and 8 writes, as
 * many commands as 16 threads have in flight.
 */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { openSystem } from '../../../lib/index.js';
import { copyInC, guestDrive, p2pmem, sh, writePattern } from './guest.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const ROUNDS = 5;
const A = guestDrive('nvme0');
const B = guestDrive('nvme1');
const [source, destination] = [A.disks[0]!, B.disks[0]!];

/** Enough chunks for what begins and ends a copy not to count. */
const bytesFor = (chunk: number) => Math.max(16 * MIB, 64 * chunk);

/** Seconds that fio needs for one direction. */
function fio(rw: 'read' | 'write', file: string, chunk: number): number {
  const bytes = bytesFor(chunk);
  const { status, stdout, stderr } = spawnSync(
    '/tools/bin/fio',
    [
      ...['--name=beside', `--rw=${rw}`, `--filename=${file}`, `--bs=${chunk}`, `--size=${bytes}`],
      ...['--ioengine=psync', '--direct=1', '--thread', `--mem=mmapshared:${A.allocate}`],
      ...['--allow_file_create=0', '--output-format=json'],
    ],
    { encoding: 'utf8' },
  );
  const json = stdout.slice(stdout.indexOf('{'));
  if (status !== 0) throw new Error(`fio: ${stderr || stdout}`);
  const { jobs } = JSON.parse(json) as {
    jobs: { error: number; read: { bw_bytes: number }; write: { bw_bytes: number } }[];
  };
  if (jobs[0]?.error !== 0) throw new Error(`fio: error ${jobs[0]?.error}`);
  return bytes / jobs[0][rw].bw_bytes;
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;

for (const chunk of [64 * KIB, 512 * KIB, MIB]) {
  t.test(`chunks of ${chunk / KIB} KiB`, async (t) => {
    const bytes = bytesFor(chunk);
    const free = p2pmem(A, 'available');
    const system = await openSystem({ backend: 'native' });
    writePattern(source, bytes, chunk);
    const ours = async (queueDepth: number) => {
      const receipt = await system.pipeline(source, destination, {
        ...{ end: bytes - 1, highWaterMark: chunk, queueDepth, provider: A.bdf, requireP2p: true },
        flush: false,
      });
      t.match(receipt, { bytes, transport: 'p2p-bus', path: { hostDram: 0 } });
      return receipt.seconds;
    };
    const c = (threads = 1) => {
      const copied = copyInC(source, destination, A.allocate!, bytes, chunk, threads);
      t.equal(copied.errno, 0);
      return copied.seconds;
    };
    // Twice, so that what is measured is compiled code.
    for (let i = 0; i < 2; i++) await ours(8);
    t.equal(sh(`cmp -n ${bytes} ${source} ${destination}`).status, 0, 'the data is there');
    // 16 chunks of 1 MiB are more than the CMB has.
    const roomFor16 = 16 * chunk < free;
    const contenders = {
      'ours at depth 1': () => ours(1),
      'ours at depth 4': () => ours(4),
      'ours at depth 8': () => ours(8),
      'copy.c with 8 threads': () => c(8),
      ...(roomFor16 ? { 'copy.c with 16 threads': () => c(16) } : {}),
      fio: () => fio('read', source, chunk) + fio('write', destination, chunk),
    };
    const times: Record<string, number[]> = {};
    const speeds: number[] = [];
    // Each between two runs of copy.c, because a busy host is busy for all of them for a while.
    let before = c();
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, run] of Object.entries(contenders)) {
        const seconds = await run();
        const after = c();
        times[name] ??= [];
        times[name].push((before + after) / 2 / seconds);
        speeds.push(bytes / MIB / after);
        before = after;
      }
    }
    const ratios = Object.entries(times).map(
      ([name, each]) =>
        `${name} ${median(each).toFixed(2)}× (${Math.min(...each).toFixed(2)}…${Math.max(...each).toFixed(2)})`,
    );
    t.comment(
      `note: beside copy.c in chunks of ${chunk / KIB} KiB, peer-to-peer: ${ratios.join(', ')}; medians of ${ROUNDS} rounds`,
    );
    t.comment(`copy.c in this guest: ${speeds.map((speed) => speed.toFixed(1)).join(' ')} MiB/s`);
    t.same(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
    t.equal(p2pmem(A, 'available'), free, 'the pool is whole again');
  });
}
