/** Every example runs, ends with exit code 0, and prints what it is about. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const folder = fileURLToPath(new URL('../../examples/', import.meta.url));
const expected: Record<string, RegExp[]> = {
  pipe: [
    /^1048576 bytes, p2p-bus$/m,
    /left over: \{"iovas":0,"pages":0,"slots":0,"requests":0,"handles":0\}/,
  ],
  'for-await': [
    /080acf35a507ac9849cfcba47dc2ad83e01b75663a516279c8b9d243b719643e/,
    /may keep/,
    /bytes 510 to 514: 0{10}/,
  ],
  mirror: [/read once: 4194304 bytes; across the bus: 12582912; host DRAM: 0/, /verified: true/],
  'http-range': [/^206 bytes 4-18\/1073741824$/m, /^quick brown fox$/m],
  'upload-server': [
    /^broken off; HEAD 200: [1-9]\d* of 3000001 bytes are there$/m,
    /^PATCH at a wrong offset: 409$/m,
    /^PATCH 204: 3000001 bytes are there$/m,
    /^in nvme0n1: identical$/m,
  ],
  'gzip-backup': [/backed up 8388731 bytes/, /restored: identical/],
  passthrough: [
    /identify: status 0, model 'p2pdma/,
    /read: status 0, 'p2pdma p2pdma' in the CMB, \{"internal":4096/,
  ],
  metrics: [
    /^# writer of nvme1n1 closed, 16777216 bytes across the bus so far$/m,
    /^p2pdma_path_bytes_total\{backend="emulator",machine="switch",path="peerBus"\} 16777216$/m,
    /^p2pdma_errors_total\{backend="emulator",machine="switch",code="ENOENT"\} 1$/m,
    /^p2pdma_p2pmem_available_bytes\{backend="emulator",machine="switch",provider="0000:03:00\.0"\} 16646144$/m,
  ],
  trace: [/gup +pin_user_pages/, /dma-direct +map_sg/, /nvme-controller +complete/],
};

const examples = readdirSync(folder)
  .filter((name) => name.endsWith('.js'))
  .map((name) => name.slice(0, -3));
t.same(examples.sort(), Object.keys(expected).sort(), 'every example has its expectation');

for (const example of examples) {
  t.test(example, async (t) => {
    const run = spawnSync(process.execPath, [join(folder, `${example}.js`)], { encoding: 'utf8' });
    t.equal(run.status, 0, run.stderr);
    for (const line of expected[example]!) t.match(run.stdout, line);
  });
}
