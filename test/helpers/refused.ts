/** Requests that must be refused, on a machine of two drives under a switch; the second one's second namespace is read-only. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ErrorCode, openSystem, P2pdmaError, type System } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from './copies.js';

/** As much of each namespace is looked at. */
const HALF = 512 * 1024;

export const drive = (bdf: string, upstream: string, nvme: object = {}) => ({
  bdf,
  type: 'endpoint',
  upstream,
  vendor: 0x1b36,
  device: 0x10,
  nvme: { cmb: { size: '16MiB' }, namespaces: [{ nsid: 1, size: '8MiB' }], ...nvme },
});

const port = (bdf: string, type: string, upstream: string | null) => ({
  bdf,
  type,
  upstream,
  vendor: 0x104c,
  device: 0x8233,
});

/** A machine to spoil. */
export function machine() {
  return {
    version: 1,
    name: 'two drives',
    hostBridges: [{ bus: 0 }],
    functions: [
      port('00:01.0', 'root-port', null),
      port('01:00.0', 'upstream-port', '00:01.0'),
      port('02:00.0', 'downstream-port', '01:00.0'),
      port('02:01.0', 'downstream-port', '01:00.0'),
      drive('03:00.0', '02:00.0'),
      drive('04:00.0', '02:01.0', {
        namespaces: [
          { nsid: 1, size: '8MiB' },
          { nsid: 2, size: '8MiB', readOnly: true },
        ],
      }),
    ],
  };
}

export interface Rig {
  readonly system: System;
  /** A path in the folder of this test: `file`, two links to it, `other` and `folder/` are there. */
  path(name: string): string;
}

interface Expected {
  readonly code: ErrorCode;
  /** The option or the name, and the value. */
  readonly message: RegExp;
  readonly errno?: number;
  readonly syscall?: string;
}

export function checkError(t: Test, error: unknown, expected: Expected, what: string): void {
  t.type(error, P2pdmaError, `${what}: a P2pdmaError (${String(error)})`);
  t.match(error, expected, what);
  const { hint } = error as P2pdmaError;
  t.ok(hint.length > 10 && hint !== (error as Error).message, `${what}: says what to do`);
}

/** Everything that a refused request must leave as it is. */
async function everything({ system, path }: Rig) {
  const contents: [string, Buffer][] = [];
  for (const name of ['nvme0n1', 'nvme1n1', 'nvme1n2']) {
    contents.push([name, await peek(system, name, 0, HALF)]);
  }
  for (const entry of readdirSync(path('.'), { recursive: true, withFileTypes: true })) {
    const name = join(entry.parentPath, entry.name);
    contents.push([name, entry.isDirectory() ? Buffer.alloc(0) : readFileSync(name)]);
  }
  return { contents, free: system.topology.functions.map((f) => f.p2pmem?.available ?? null) };
}

/** `attempt` is refused as expected and leaves everything as it was. */
export function refused(
  name: string,
  attempt: (rig: Rig) => unknown,
  expected: Expected | ((rig: Rig) => Expected),
): void {
  t.test(name, async (t) => {
    const folder = t.testdir({
      file: bytesOf(1024 * 1024, 1),
      other: bytesOf(5000, 2),
      folder: {},
      symbolic: t.fixture('symlink', 'file'),
      hard: t.fixture('link', 'file'),
    });
    const system = await openSystem({ machine: machine() });
    const rig: Rig = { system, path: (name) => join(folder, name) };
    await poke(system, 'nvme0n1', 0, bytesOf(HALF, 3));
    await poke(system, 'nvme1n1', 0, bytesOf(HALF, 4));
    const before = await everything(rig);
    let error: unknown = 'it was not refused';
    try {
      await attempt(rig);
    } catch (thrown) {
      error = thrown;
    }
    checkError(t, error, typeof expected === 'function' ? expected(rig) : expected, name);
    // Whatever is still to come of it comes now.
    for (let i = 0; i < 5; i++) await new Promise(setImmediate);
    const after = await everything(rig);
    t.same(after.free, before.free, 'the providers have all of their memory');
    t.same(
      after.contents.map(([name]) => name),
      before.contents.map(([name]) => name),
      'no file came or went',
    );
    t.ok(
      after.contents.every(([, bytes], i) => bytes.equals(before.contents[i]![1])),
      'not a byte changed',
    );
    t.same(await system.close(), NOTHING_LEFT, 'nothing is left over');
  });
}
