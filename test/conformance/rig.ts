/** What a backend's own test file gives to the suite, and how each test gets a machine of its own. */
import type { Test } from 'tap';
import type { System } from '../../lib/index.js';

/** One machine under test. */
export interface Rig {
  readonly system: System;
  /** A place of at least 4 units to read from, and how to put bytes there. */
  readonly source: string;
  /** Three places of at least 4 units to write to. */
  readonly destinations: readonly [string, string, string];
  /** `'block'`: what surrounds a write must stay; `'file'`: lengths are exact. */
  readonly kind: 'block' | 'file';
  /** A provider whose CMB may be used between these, or null. */
  readonly provider: string | null;
  /** Why there is none. */
  readonly noProvider: string;
  /** Only at such memory addresses may its drives be trusted with each other's CMB; cases that need others are skipped. */
  readonly peerAlignment?: { readonly bytes: number; readonly reason: string };
  /** Read or write behind the library's back (or at least not through its streams). */
  peek(path: string, start: number, length: number): Promise<Buffer>;
  poke(path: string, start: number, bytes: Buffer): Promise<void>;
  /** A file's length. */
  length(path: string): Promise<number>;
}

export interface Backend {
  readonly name: string;
  /** What the suite's lengths are multiples of: places have at least four of it. Default 1 MiB; a slow machine takes less. */
  readonly unit?: number;
  open(): Promise<Rig>;
}

const patterns = new Map<number, Buffer>();

/** Bytes that differ everywhere and depend on `seed`; the first of them do not depend on the length. */
export function pattern(length: number, seed = 1): Buffer {
  let known = patterns.get(seed);
  if (known === undefined || known.length < length) {
    known = makePattern(length, seed);
    patterns.set(seed, known);
  }
  return Buffer.from(known.subarray(0, length));
}

function makePattern(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    bytes[i] = state;
  }
  return bytes;
}

export const ZERO = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };

/** Poll: slow machines take their time. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 3000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  if (!condition()) throw new Error(`never: ${what}`);
}

/** What the tests of a suite are made of. */
export interface Suite {
  readonly unit: number;
  /** The length of each place. */
  readonly size: number;
  test(name: string, body: (t: Test, rig: Rig) => Promise<void>): void;
  /** Skipped where there is no provider. */
  cmbTest(name: string, body: (t: Test, rig: Rig) => Promise<void>): void;
}

export function suiteOn(t: Test, backend: Backend): Suite {
  const unit = backend.unit ?? 1024 * 1024;

  /** Each test has a machine of its own, which must be empty in the end. */
  const test: Suite['test'] = (name, body) =>
    t.test(`${backend.name}: ${name}`, async (t) => {
      const rig = await backend.open();
      const free = rig.provider === null ? 0 : available(rig);
      await body(t, rig);
      if (rig.provider !== null && !rig.system.context.closed) {
        t.equal(available(rig), free, 'the provider has all of its memory back');
      }
      t.same(await rig.system.close(), ZERO, 'nothing is left over');
    });

  const cmbTest: Suite['cmbTest'] = (name, body) =>
    test(name, async (t, rig) => {
      if (rig.provider === null) t.pass(name, { skip: rig.noProvider });
      else await body(t, rig);
    });

  return { unit, size: 4 * unit, test, cmbTest };
}

function available(rig: Rig): number {
  return rig.system.topology.find(rig.provider!)?.p2pmem?.available ?? 0;
}
