/** `p2pdma trace copy`: one request as a ladder, in the order of the layers. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { p2pdma } from '../../helpers/cli.js';
import { skipNative } from '../../helpers/native.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-trace-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const trace = (...args: string[]) => p2pdma('trace', 'copy', ...args);

/** `['▼ iov_iter', …]` of each request. */
function rungs(stdout: string): string[][] {
  return stdout
    .split('\n\n')
    .slice(1)
    .map((ladder) =>
      ladder
        .split('\n')
        .slice(1)
        .map((line) => /[▼◆▲] (\S+ ?[a-z]*)/.exec(line)?.[0].trim() ?? '')
        .filter(Boolean),
    );
}

t.test('a switch: down through the layers, across the hardware, and up', async (t) => {
  const { status, stdout, stderr } = trace('nvme0n1', 'nvme1n1', '--machine', 'switch');
  t.equal(status, 0, stderr);
  t.notMatch(stdout, '\u001b', 'no colour when not a terminal');
  const [read, write, ...more] = rungs(stdout);
  const ladder = [
    ...['▼ iov_iter', '▼ pin', '▼ bio', '▼ scatterlist', '▼ dma map', '▼ SGL', '▼ command', '▼ doorbell'],
    ...['◆ PCIe', '◆ drive', '◆ PCIe', '◆ PCIe', '▲ completion', '▲ dma unmap', '▲ bio'],
  ];
  t.same(read, ladder);
  t.same(write, ladder);
  t.same(more, []);
  t.match(stdout, /read 64 KiB at byte 0/);
  t.match(stdout, /▼ pin +64 KiB from 0x[0-9a-f_]+: P2P memory, the CMB of 0000:03:00\.0/);
  t.match(stdout, /▼ SGL +0x[0-9a-f_]+ \+ 64 KiB \(bus address, marked P2P\)/);
  t.match(
    stdout,
    /◆ PCIe +0000:04:00\.0 reads 64 KiB of the memory of 0000:03:00\.0 at 0x[0-9a-f_]+: across the bus/,
  );
  t.match(stdout, /▲ bio +done: 64 KiB across the bus, peer to peer/);
  for (const line of stdout.split('\n')) t.notMatch(line, /undefined|NaN|\[object/);
});

t.test('an IOMMU, a large chunk: IOVAs, split bios', async (t) => {
  const { status, stdout, stderr } = trace('nvme0n1', 'nvme1n1', '--machine', 'iommu', '--chunk', '2MiB');
  t.equal(status, 0, stderr);
  t.match(stdout, /▼ bio split +byte 1048576, 1 MiB/);
  t.match(stdout, /▼ p2pdma +0000:03:00\.0 for 0000:04:00\.0: THRU_HOST_BRIDGE; ACS redirects in /);
  t.match(stdout, /▼ dma map +IOVA 0x[0-9a-f_]+ \+ 1 MiB in the IOMMU/);
  t.match(stdout, /▲ bio +done: 2 MiB through the host bridge/);
  t.equal(rungs(stdout).length, 2, 'split bios stay one request');
});

t.test('no CMB: host memory; PRPs', async (t) => {
  const { stdout } = trace('nvme0n1', 'nvme1n1', '--machine', 'no-cmb', '--chunk', '4096');
  t.match(stdout, /▼ pin +4 KiB from 0x[0-9a-f_]+: host memory/);
  t.match(stdout, /▼ PRP +0x[0-9a-f_]+ \+ 4 KiB\n/);
  t.match(stdout, /▲ bio +done: 4 KiB host DRAM/);
});

t.test('several requests, in JSON', async (t) => {
  const { status, stdout } = trace('nvme0n1', 'nvme1n1', '--machine', 'switch', '--requests', '3', '--json');
  t.equal(status, 0);
  const { requests, around } = JSON.parse(stdout);
  t.same(requests.map(({ op }: { op: string }) => op).sort(), [
    'read',
    'read',
    'read',
    'write',
    'write',
    'write',
  ]);
  t.match(around, [{ layer: 'pci-p2pdma' }, { layer: 'streams', event: 'route', transport: 'p2p-bus' }]);
});

t.test('files: only the chunk is written, and what holds data is refused', async (t) => {
  const [a, b] = [join(folder, 'a'), join(folder, 'b')];
  writeFileSync(a, Buffer.alloc(100_000, 1));
  writeFileSync(b, Buffer.alloc(100_000, 2));
  const { status, stderr } = trace(a, b, '--machine', 'switch', '--start', '4096', '--chunk', '8192');
  t.equal(status, 0, stderr);
  const after = readFileSync(b);
  t.equal(after.length, 100_000);
  t.ok(after.subarray(0, 4096).every((byte) => byte === 2));
  t.ok(after.subarray(4096, 12_288).every((byte) => byte === 1));
  t.ok(after.subarray(12_288).every((byte) => byte === 2));
});

t.test('natively: submission and completion', { skip: skipNative }, async (t) => {
  const [a, c] = [join(folder, 'a'), join(folder, 'c')];
  const { status, stdout, stderr } = trace(a, c, '--backend', 'native');
  t.equal(status, 0, stderr);
  t.match(stdout, /▼ submit +read, byte 0, 64 KiB/);
  t.match(stdout, /▲ completion +64 KiB/);
});

t.test('mistakes', async (t) => {
  t.equal(trace('nvme0n1').status, 2);
  t.match(trace('nvme0n1', 'nvme1n1', '--machine', 'switch', '--chunk', 'x'), { status: 2, stderr: /size/ });
  t.match(trace('nvme9n1', 'nvme1n1', '--machine', 'switch'), {
    status: 2,
    stderr: /^emulated machine .*\nerror ENOENT: /,
  });
});
