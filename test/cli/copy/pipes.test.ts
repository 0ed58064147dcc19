/** `-` as an end of `p2pdma copy`: the bytes, what is refused and why, and what happens when the other side of a pipe goes. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { main } from '../../helpers/cli.js';
import { bytesOf } from '../../helpers/copies.js';
import { isNonBlocking } from '../../helpers/descriptors.js';
import { loopDevice, skipLoop, skipNative } from '../../helpers/native.js';

const MIB = 1024 * 1024;
const folder = t.testdir();
const file = (name: string) => join(folder, name);
const content = bytesOf(3 * MIB + 77, 9);
writeFileSync(file('source'), content);
const sha256 = `sha256:${createHash('sha256').update(content).digest('hex')}`;
const SWITCH = ['--machine', 'switch'];

interface Piped {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** With `input` on stdin, through a socket. */
function piped(input: Uint8Array | null, ...args: string[]): Piped {
  const ran = spawnSync(process.execPath, [main, 'copy', ...args], {
    input: input ?? '',
    maxBuffer: 64 * MIB,
    timeout: 120_000,
  });
  return { status: ran.status, stdout: ran.stdout, stderr: String(ran.stderr) };
}

/** In a shell, where pipes are pipes; `P2PDMA` is the command. */
function shell(script: string): Piped {
  const env = { ...process.env, P2PDMA: `${process.execPath} ${main} copy`, DIR: folder };
  const ran = spawnSync('sh', ['-c', script], { env, maxBuffer: 64 * MIB, timeout: 120_000 });
  return { status: ran.status, stdout: ran.stdout, stderr: String(ran.stderr) };
}

t.test('from stdin: the bytes, the receipt, the digest of what arrived', async (t) => {
  const ran = shell('cat $DIR/source | $P2PDMA - $DIR/written --verify --json');
  t.equal(ran.status, 0, ran.stderr);
  t.ok(readFileSync(file('written')).equals(content));
  t.match(JSON.parse(String(ran.stdout)), {
    ...{ bytes: content.length, transport: 'host-memory', provider: null, verified: true, digest: sha256 },
    reason: /not a p2pdma stream/,
  });
  const text = piped(content, '-', file('again'), '--verify');
  t.match(String(text.stdout), /^stdin ──▶ .*again\n(?:.|\n)*3145805 bytes(?:.|\n)*identical/);
  t.ok(readFileSync(file('again')).equals(content), 'from a socket');
});

const noZstd = spawnSync('zstd', ['--version']).status !== 0 && 'zstd is not installed';

t.test('what zstd decompresses, onto a device', { skip: skipLoop || noZstd }, async (t) => {
  const device = loopDevice(t, 4 * MIB);
  const ran = shell(`zstd -qc $DIR/source | zstd -dc | $P2PDMA - ${device} --verify --json`);
  t.equal(ran.status, 0, ran.stderr);
  t.match(JSON.parse(String(ran.stdout)), { bytes: content.length, verified: true, digest: sha256 });
  const there = readFileSync(device);
  t.ok(there.subarray(0, content.length).equals(content));
  t.ok(
    there.subarray(content.length).every((byte) => byte === 0),
    'what is behind it is kept',
  );
  const cut = shell(
    `zstd -qc $DIR/source | head -c 1000000 | zstd -dc | $P2PDMA - ${device} --bytes 3MiB --json`,
  );
  t.equal(cut.status, 1, 'an image that ends too early');
  t.match(cut.stderr, /ERR_INCOMPLETE/);
});

t.test('onto a drive, from a byte on; the rest of the last block is kept', async (t) => {
  const script = `cat $DIR/source | $P2PDMA - nvme1n1 ${SWITCH.join(' ')} --destination-start 1000 --verify --json`;
  const ran = shell(script);
  t.equal(ran.status, 0, ran.stderr);
  t.match(JSON.parse(String(ran.stdout)), { bytes: content.length, verified: true, digest: sha256 });
});

t.test('a piece into an existing file keeps its other bytes', async (t) => {
  writeFileSync(file('piece'), Buffer.alloc(5000, 7));
  const ran = piped(content, '-', file('piece'), '--bytes', '1000', '--destination-start', '2000');
  t.equal(ran.status, 0, ran.stderr);
  const expected = Buffer.alloc(5000, 7);
  content.copy(expected, 2000, 0, 1000);
  t.ok(readFileSync(file('piece')).equals(expected));
});

t.test('--bytes ends the copy although more would come, and fewer are an error', async (t) => {
  const more = shell('yes | $P2PDMA - $DIR/some --bytes 1000000 --json');
  t.equal(more.status, 0, more.stderr);
  t.ok(readFileSync(file('some')).equals(Buffer.alloc(1_000_000, 'y\n')));
  const fewer = piped(content, '-', file('some'), '--bytes', '4000000');
  t.equal(fewer.status, 1);
  t.match(fewer.stderr, /ERR_INCOMPLETE: stdin ended after 3145805 of 4000000 bytes/);
});

t.test('to stdout: only the data; the receipt is on stderr', async (t) => {
  const ran = shell('$P2PDMA $DIR/source - | cat');
  t.ok(ran.stdout.equals(content));
  t.match(ran.stderr, /source ──▶ .* stdout\n(?:.|\n)*3145805 bytes/);
  const json = shell('$P2PDMA $DIR/source - --start 100 --bytes 5000 --json --machine switch | cat');
  t.ok(json.stdout.equals(content.subarray(100, 5100)));
  t.match(JSON.parse(json.stderr.trimEnd().split('\n').at(-1)!), {
    ...{ type: 'receipt', bytes: 5000, machine: 'switch', transport: 'host-memory' },
  });
  const emulated = shell('$P2PDMA nvme0n1 - --bytes 4096 --machine switch | cat');
  t.ok(emulated.stdout.equals(Buffer.alloc(4096)), 'the notice is not in the data');
  t.match(emulated.stderr, /^emulated machine 'switch'/);
  const both = shell('$P2PDMA $DIR/source - $DIR/beside | cat');
  t.ok(both.stdout.equals(content));
  t.ok(readFileSync(file('beside')).equals(content));
});

t.test('from one to the other', async (t) => {
  const ran = shell('$P2PDMA $DIR/source - --quiet | $P2PDMA - $DIR/through --quiet');
  t.equal(ran.status, 0, ran.stderr);
  t.equal(ran.stderr, '');
  t.ok(readFileSync(file('through')).equals(content));
});

t.test('whoever reads stdout goes', async (t) => {
  const ran = shell('{ $P2PDMA $DIR/source -; echo "ended with $?" >&2; } | head -c 10 > /dev/null');
  t.match(ran.stderr, /error EPIPE: whoever reads stdout has gone/);
  t.match(ran.stderr, /ended with 1\n$/);
});

t.test('a destination that is too small: how much was written', async (t) => {
  const much = piped(content, '-', 'nvme1n1', '--destination-start', '1023MiB', '--json', ...SWITCH);
  t.equal(much.status, 1);
  const [receipt] = String(much.stdout).trimEnd().split('\n');
  t.match(JSON.parse(receipt!), { bytes: MIB });
  t.match(JSON.parse(much.stderr.trimEnd().split('\n').at(-1)!), { code: 'ENOSPC' });
  const before = piped(content, '-', 'nvme1n1', '--bytes', '2GiB', '--json', ...SWITCH);
  t.equal(before.status, 1);
  t.equal(String(before.stdout), '', 'a length that is known is checked before the first byte');
  t.match(JSON.parse(before.stderr.trimEnd().split('\n').at(-1)!), { code: 'ENOSPC' });
});

t.test('the guard: nobody can be asked', async (t) => {
  const disk = Buffer.alloc(4 * MIB);
  disk.writeUInt32LE(64, 1024);
  disk.writeUInt16LE(0xef53, 0x438);
  writeFileSync(file('disk'), disk);
  const refused = piped(content, '-', file('disk'));
  t.equal(refused.status, 1);
  t.match(refused.stderr, /ERR_HOLDS_DATA: .*disk holds ext/);
  t.match(refused.stderr.replace(/\s+/g, ' '), /stdin is the data, so you cannot be asked: pass --force/);
  t.ok(readFileSync(file('disk')).equals(disk));
  const dry = piped(content, '-', file('disk'), '--dry-run');
  t.equal(dry.status, 1);
  t.match(String(dry.stdout), /would copy +everything that stdin delivers/);
  t.match(String(dry.stdout).replace(/\s+/g, ' '), /it is refused without --force: stdin is the data/);
  t.match(
    JSON.parse(String(piped(content, '-', file('disk'), '--dry-run', '--json', '--bytes', '5').stdout)),
    {
      ...{ bytes: 5, needsForce: true, transport: 'host-memory', source: { kind: 'stream', path: 'stdin' } },
      destinations: [{ effect: 'truncate', from: 0, to: 4 }],
    },
  );
  t.ok(readFileSync(file('disk')).equals(disk));
  t.equal(piped(content, '-', file('disk'), '--force').status, 0);
  t.ok(readFileSync(file('disk')).equals(content));
});

t.test('what has no meaning is refused, with the reason', async (t) => {
  for (const [message, ...args] of [
    [/from stdin to stdout/, '-', '-'],
    [/named twice/, 'source', '-', '-'],
    [/--resume: a pipe cannot be read/, '-', 'q', '--resume', 'journal'],
    [/--start: stdin has no positions/, '-', 'q', '--start', '5'],
    [/--end: stdin has no positions/, '-', 'q', '--end', '5'],
    [/--sparse: a pipe has no holes/, '-', 'q', '--sparse'],
    [/--destination-start: stdout has no positions/, 'source', '-', '--destination-start', '5'],
    [/--sparse: a hole cannot be passed/, 'source', '-', '--sparse'],
    [/--verify: what went into a pipe/, 'source', '-', '--verify'],
  ] as [RegExp, ...string[]][]) {
    const ran = piped(content, ...args);
    t.equal(ran.status, 2, args.join(' '));
    t.equal(ran.stdout.length, 0, args.join(' '));
    t.match(ran.stderr, message, args.join(' '));
  }
  t.notOk(existsSync('q'));
  const required = piped(content, '-', file('q'), '--require-p2p', ...SWITCH);
  t.equal(required.status, 1);
  t.match(required.stderr, /ERR_P2P_REQUIRED/);
  t.notOk(existsSync(file('q')));
});

t.test('stdin and stdout that are files', async (t) => {
  const from = shell('$P2PDMA - $DIR/named < $DIR/source');
  t.equal(from.status, 0, from.stderr);
  t.match(from.stderr, /^stdin is a regular file: named as the source instead of '-'/);
  t.ok(readFileSync(file('named')).equals(content));
  const to = shell('$P2PDMA $DIR/source - > $DIR/redirected');
  t.match(to.stderr, /^stdout is a regular file: named as the destination/);
  t.ok(readFileSync(file('redirected')).equals(content));
  const appended = shell('$P2PDMA $DIR/source - --quiet >> $DIR/redirected');
  t.equal(appended.status, 0, appended.stderr);
  t.equal(statSync(file('redirected')).size, 2 * content.length);
  for (const line of ['$P2PDMA - $DIR/named < $DIR/named', '$P2PDMA $DIR/named - >> $DIR/named']) {
    const same = shell(line);
    t.equal(same.status, 2, line);
    t.match(same.stderr, /ERR_OVERLAP: std(in|out) and the (source|destination) are the same file/, line);
    t.ok(readFileSync(file('named')).equals(content), line);
  }
  t.equal(shell('$P2PDMA - $DIR/none --quiet < /dev/null').status, 0);
  t.equal(statSync(file('none')).size, 0);
});

t.test('a terminal is refused', async (t) => {
  if (spawnSync('script', ['--version']).status !== 0) {
    t.comment('not tested: script(1) is not installed');
    return;
  }
  for (const [args, message] of [
    [`${file('source')} -`, /stdout is a terminal/],
    [`- ${file('tty')}`, /stdin is a terminal/],
  ] as const) {
    const ran = spawnSync('script', ['-qec', `${process.execPath} ${main} copy ${args}`, '/dev/null'], {
      encoding: 'utf8',
      input: '',
    });
    t.equal(ran.status, 2, ran.stdout);
    t.match(ran.stdout, message);
  }
  t.notOk(existsSync(file('tty')));
});

t.test('--bwlimit slows down what comes from a pipe, whose length is not known', async (t) => {
  const ran = piped(content, '-', file('slow'), '--bwlimit', '2MiB', '--json');
  t.equal(ran.status, 0, ran.stderr);
  const { seconds } = JSON.parse(String(ran.stdout));
  t.ok(seconds > 0.7 && seconds < 10, `${seconds} s`);
  const lines = ran.stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const running = lines.filter(({ bytes }) => bytes < content.length);
  t.ok(running.length > 3, `${running.length} lines`);
  for (const line of running)
    t.match(line, { type: 'progress', phase: 'copy', total: null, etaSeconds: null });
});

t.test('Ctrl-C: what arrived is written, although the producer is still there', async (t) => {
  const child = spawn(process.execPath, [main, 'copy', '-', file('stopped'), '--json'], { stdio: 'pipe' });
  child.stdin.write(content);
  let stdout = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  let stderr = '';
  const arrived = new Promise<void>((resolve) => {
    child.stderr.on('data', (text) => {
      stderr += text;
      if (stderr.includes(`"bytes":${content.length}`)) resolve();
    });
  });
  child.stdin.on('error', () => {});
  await arrived;
  if (!skipNative) t.notOk(isNonBlocking(child.pid!, 0), 'the flags of what others may read as well');
  child.kill('SIGINT');
  const [code] = await once(child, 'close');
  t.equal(code, 0, 'no length was asked for, so nothing is missing');
  t.match(JSON.parse(stdout), { bytes: content.length });
  t.ok(readFileSync(file('stopped')).equals(content));
});

t.test(
  'a reader of stdout that does not read does not keep a second signal from stopping the copy',
  async (t) => {
    const child = spawn(process.execPath, [main, 'copy', file('source'), '-', '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.pause();
    const ended = once(child, 'exit');
    let stderr = '';
    const said = async (what: string) => {
      while (!stderr.includes(what)) stderr += (await once(child.stderr, 'data'))[0];
    };
    await said('"type":"progress"');
    child.kill('SIGTERM');
    await said('"type":"stopping"');
    child.kill('SIGTERM');
    const [code] = await ended;
    t.equal(code, 143);
    child.stdout.destroy();
  },
);
