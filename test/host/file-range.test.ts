/** Names of one file are one place; a file that is yet to be made is where the kernel would make it. */
import { linkSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { deviceNumber, fileRange } from '../../lib/host/file-range.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-range-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = (name: string) => join(folder, name);

t.test('device numbers', async (t) => {
  t.equal(deviceNumber(0x10301n), '259:1');
  t.equal(deviceNumber(0xfe00n), '254:0');
  t.equal(deviceNumber(0x110103ffn), `259:${0x110ff}`);
  t.match(deviceNumber(statSync('.', { bigint: true }).dev), /^\d+:\d+$/);
});

t.test('a file by any of its names', async (t) => {
  writeFileSync(path('file'), 'hello');
  linkSync(path('file'), path('hard'));
  symlinkSync('file', path('soft'));
  const whole = { start: 0, length: Number.POSITIVE_INFINITY, exact: true };
  const { on } = fileRange(path('file'));
  t.match(on, /^file \d+:\d+$/);
  for (const name of ['file', 'hard', 'soft']) {
    t.same(fileRange(path(name)), { ...whole, name: path(name), on });
  }
  writeFileSync(path('other'), 'hello');
  t.not(fileRange(path('other')).on, on);
});

t.test('a file that is not there', async (t) => {
  mkdirSync(path('folder'));
  symlinkSync('folder', path('link'));
  symlinkSync('folder/new', path('to-new'));
  symlinkSync(path('loop'), path('loop'));
  const { dev, ino } = statSync(path('folder'));
  const would = `file ${dev}:${ino}/new`;
  for (const name of ['folder/new', 'link/new', 'link/../folder/new', 'to-new']) {
    t.equal(fileRange(path(name)).on, would, name);
  }
  t.equal(fileRange(path('none/new')).on, `file ${path('none/new')}`, 'nor is its folder');
  t.match(fileRange(path('loop')).on, /^file .*loop$/, 'a link to itself ends');
});
