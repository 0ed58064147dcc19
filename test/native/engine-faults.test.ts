/** The kernel refuses or interrupts what the engines ask of it, by strace's fault injection. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { child, directIoDir, pattern, skipNative } from '../helpers/native.js';

const directory = directIoDir(t);
const data = join(directory, 'data');
writeFileSync(data, pattern(50 * 4096));

/** How many rings Node makes by itself where our code runs. */
function ringsOfMainThread(): number {
  const log = join(directory, 'rings.log');
  spawnSync('strace', [
    '-f',
    '-qq',
    '-o',
    log,
    '-e',
    'trace=execve,io_uring_setup',
    process.execPath,
    '-e',
    '0',
  ]);
  const calls = readFileSync(log, 'utf8').split('\n');
  // A number of a process below 10000 is padded to five places.
  const [thread] = calls[0]!.split(/ +/);
  return calls
    .map((call) => call.split(/ +/))
    .filter(([pid, call]) => pid === thread && call!.startsWith('io_uring_setup')).length;
}

const noStrace =
  skipNative ||
  (spawnSync('strace', ['-V']).status === 0 ? false : 'no strace, which makes system calls fail');
// Newer Node has a ring for each of its loops, and ends where a call for one of them fails. It does without those that
// it is refused; the ring behind them is ours.
const ringsOfNode = noStrace ? 0 : ringsOfMainThread();
const refuseTheirs =
  ringsOfNode > 0 ? ['-e', `inject=io_uring_setup:error=EPERM:when=1..${ringsOfNode}`] : [];
/** Run under strace with faults injected; what the child prints. */
const faulty = (inject: string, code: string, args: string[] = []) => {
  const log = join(directory, 'strace.log');
  const { status, stdout, stderr } = child(
    code,
    args,
    [],
    ['strace', '-f', '-qq', '-o', log, ...refuseTheirs, '-e', `inject=${inject}`],
  );
  if (status !== 0) throw new Error(`ended with ${status}: ${stderr}`);
  return stdout.trim();
};

t.test(
  "io_uring refused: 'auto' takes threads and says why, 'uring' is an error",
  { skip: noStrace },
  async (t) => {
    const said = faulty(
      'io_uring_setup:error=EPERM',
      `
    const backend = await openNative();
    console.log(backend.engine, backend.engineReason);
    const target = await backend.openTarget(argv[0], {});
    console.log((await io(target, 'read', 0, backend.memory.allocBuffer(4096))).result);
    await openNative({ engine: 'uring' }).catch(({ code, hint }) => console.log(code, hint));
    await backend.close();
    `,
      [data],
    ).split('\n');
    t.match(said[0], /^threads io_uring is refused: EPERM/);
    t.equal(said[1], '4096');
    t.match(said[2], /^ERR_BACKEND_UNAVAILABLE .*io_uring_disabled/);
  },
);

for (const [inject, what] of [
  ['io_uring_enter:error=EAGAIN:when=1+3', 'EAGAIN every third time'],
  ['io_uring_enter:error=EINTR:when=1+3', 'EINTR every third time'],
  ['io_uring_enter:error=EBUSY:when=2+3', 'EBUSY every third time'],
] as const) {
  t.test(`io_uring_enter fails with ${what}: nothing is lost`, { skip: noStrace }, async (t) => {
    const said = faulty(
      inject,
      `
      const backend = await openNative({ engine: 'uring' });
      const target = await backend.openTarget(argv[0], {});
      let bytes = 0;
      for (let round = 0; round < 5; round++) {
        const all = Array.from({ length: 50 }, (_, i) => io(target, 'read', i * 4096, backend.memory.allocBuffer(4096)));
        for (const { result } of await Promise.all(all)) bytes += result;
      }
      console.log(bytes);
      await backend.close();
      console.log(nativeCounters().inFlight, nativeCounters().rings);
      `,
      [data],
    );
    t.same(said.split('\n'), [String(5 * 50 * 4096), '0 0']);
  });
}

t.test('preadv is interrupted: it is done again', { skip: noStrace }, async (t) => {
  const said = faulty(
    'preadv:error=EINTR:when=1+2',
    `
    const backend = await openNative({ engine: 'threads' });
    const target = await backend.openTarget(argv[0], {});
    const all = Array.from({ length: 20 }, (_, i) => io(target, 'read', i * 4096, backend.memory.allocBuffer(4096)));
    console.log((await Promise.all(all)).every(({ result }) => result === 4096));
    await backend.close();
    `,
    [data],
  );
  t.equal(said, 'true');
});

for (const [engine, inject] of [
  ['uring', 'io_uring_enter:error=EAGAIN'],
  ['threads', 'preadv:error=EAGAIN'],
] as const) {
  t.test(`${engine}: who is told EAGAIN each time gives up`, { skip: noStrace }, async (t) => {
    const said = faulty(
      inject,
      `
      const backend = await openNative({ engine: '${engine}' });
      const target = await backend.openTarget(argv[0], {});
      const all = Array.from({ length: 3 }, (_, i) => io(target, 'read', i * 4096, backend.memory.allocBuffer(4096)));
      console.log((await Promise.all(all)).map(({ result }) => result).join(' '));
      await backend.close();
      console.log(nativeCounters().inFlight);
      `,
      [data],
    );
    t.same(said.split('\n'), ['-11 -11 -11', '0']);
  });
}

const pumping = `
  import { readFileSync, writeFileSync } from 'node:fs';
  const bytes = 64 * 4096;
  const content = Buffer.from(Array.from({ length: bytes }, (_, i) => i % 251));
  writeFileSync(argv[0], content);
  writeFileSync(argv[1], Buffer.alloc(bytes));
  const backend = await openNative({ engine: 'uring' });
  const source = await backend.openTarget(argv[0], {});
  const destination = await backend.openTarget(argv[1], { write: true });
  const mapping = backend.memory.allocHost(4 * 4096);
  const slots = Array.from({ length: 4 }, (_, i) => new Uint8Array(mapping.buffer, i * 4096, 4096));
  const run = backend.pump({
    ...{ source: { target: source, offset: 0 }, destinations: [{ target: destination, offset: 0 }] },
    ...{ length: bytes, chunk: 4096, depth: 2, slots },
  });
  const failure = await run.over;
  const { moved } = run.progress();
  const same = readFileSync(argv[1]).subarray(0, moved).equals(content.subarray(0, moved));
  await backend.close();
  console.log(failure?.result ?? moved, same, nativeCounters().inFlight, nativeCounters().rings);
`;

for (const [inject, said] of [
  ...['EAGAIN', 'EINTR', 'EBUSY'].map((code) => [
    `io_uring_enter:error=${code}:when=2+3`,
    `${64 * 4096} true 0 0`,
  ]),
  ['io_uring_enter:error=EAGAIN', '-11 true 0 0'],
] as const) {
  t.test(`a pump on its thread, ${inject}`, { skip: noStrace }, async (t) => {
    const folder = t.testdir({});
    t.equal(faulty(inject!, pumping, [join(folder, 'from'), join(folder, 'to')]), said);
  });
}
