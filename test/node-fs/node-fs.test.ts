/**
 * Each behaviour of the streams and handles of node:fs, with this package in its place: natively and emulated. docs/node-fs.md is the list.
 */
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openSystem, type System } from '../../lib/index.js';
import { NOTHING_LEFT } from '../helpers/copies.js';
import type { Behaviour, Streams } from './behaviour.js';
import { behaviours } from './behaviours.js';

t.setTimeout(300_000);

const node: Streams = { ...fs, open };
const major = Number.parseInt(process.versions.node, 10);

/** Long enough for a busy machine: a behaviour that never ends is an outcome too. */
const LONGEST = 20_000;

async function seen(row: Behaviour, streams: Streams, folder: string): Promise<unknown> {
  fs.mkdirSync(folder, { recursive: true });
  let timer: NodeJS.Timeout | undefined;
  const never = new Promise((resolve) => (timer = setTimeout(resolve, LONGEST, 'it never ended')));
  try {
    const value = await Promise.race([row.run(streams, folder), never]);
    return JSON.parse(JSON.stringify(value ?? null).replaceAll(folder, 'FOLDER'));
  } finally {
    clearTimeout(timer);
  }
}

async function compare(t: Test, name: string, system: System): Promise<void> {
  const folder = t.testdir({});
  let number = 0;
  for (const row of behaviours) {
    if (row.where !== undefined && row.where !== process.platform) continue;
    if (row.since !== undefined && major < row.since) continue;
    number++;
    const what = `${name}: ${row.group}: ${row.what}`;
    const theirs = await seen(row, node, join(folder, `${number}-theirs`));
    const ours = await seen(row, system, join(folder, `${number}-ours`));
    if (row.differs === undefined) t.same(ours, theirs, what);
    else {
      t.same(theirs, row.differs.theirs, `${what}: node:fs`);
      t.same(ours, row.differs.ours, `${what}: ours`);
    }
  }
  t.same(await system.close(), NOTHING_LEFT, 'nothing is left over');
}

t.test('emulated', async (t) => compare(t, 'emulated', await openSystem({ machine: 'switch' })));

const native = await openSystem().catch(() => null);
t.test('native', { skip: native === null && 'there is no native backend here' }, (t) =>
  compare(t, 'native', native!),
);

t.test('the list', async (t) => {
  const names = behaviours.map(({ group, what }) => `${group}: ${what}`);
  t.equal(new Set(names).size, names.length, 'each behaviour has a name of its own');
});
