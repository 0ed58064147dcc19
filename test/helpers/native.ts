/** Shared by the native tests: checks for the addon and for loop devices, a transfer as a promise, and child processes. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import { loadAddon, nativeCounters } from '../../lib/native/addon.js';

/** False, or why native tests are skipped here. */
export const skipNative: string | false = (() => {
  try {
    loadAddon();
    return false;
  } catch (error) {
    return (error as Error).message;
  }
})();

/** False, or why there are no loop devices here. */
export const skipLoop: string | false = (() => {
  if (skipNative) return skipNative;
  if (process.getuid?.() !== 0) return 'loop devices need root';
  const { status, error, stderr } = spawnSync('losetup', ['-f'], { encoding: 'utf8' });
  if (error) return `no losetup: ${error.message}`;
  return status === 0 ? false : `losetup -f: ${stderr.trim()}`;
})();

/** Built with AddressSanitizer: slower, and with a preloaded runtime that children inherit. */
export const asan = process.env.P2PDMA_ASAN === '1';

/** A directory on a filesystem with O_DIRECT (not tmpfs). It is removed after the test. */
export function directIoDir(t: { teardown(fn: () => void): void }): string {
  const directory = mkdtempSync(join(process.env.P2PDMA_TEST_DIR ?? tmpdir(), 'p2pdma-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A loop device of `bytes` over a sparse file, removed after the test. */
export function loopDevice(t: { teardown(fn: () => void): void }, bytes: number, sectorSize = 512): string {
  const directory = mkdtempSync(join('/dev/shm', 'p2pdma-'));
  const file = join(directory, 'image');
  const fd = openSync(file, 'w');
  ftruncateSync(fd, bytes);
  closeSync(fd);
  const device = execFileSync('losetup', ['-f', '--show', '--sector-size', String(sectorSize), file], {
    encoding: 'utf8',
  }).trim();
  t.teardown(() => {
    spawnSync('losetup', ['-d', device]);
    rmSync(directory, { recursive: true, force: true });
  });
  return device;
}

/**
 * The addon's counters when nothing that was collected still waits for its finalizer, which the runtime calls in a later turn;
 * after a second, as they are.
 */
export async function countersAtRest(): Promise<ReturnType<typeof nativeCounters>> {
  for (let tries = 0; tries < 100 && nativeCounters().mappings > 0; tries++) await sleep(10);
  return nativeCounters();
}

export function request(
  op: 'read' | 'write',
  offset: number,
  segments: readonly Uint8Array[],
  done: (io: IoRequest) => void,
): IoRequest {
  const path = { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
  return { op, offset, segments, result: 0, path, done };
}

/** One transfer; resolves to the request with its result. */
export function transfer(
  target: BlockTarget,
  op: 'read' | 'write',
  offset: number,
  ...segments: Uint8Array[]
): Promise<IoRequest> {
  return new Promise((resolve) => target.submit(request(op, offset, segments, resolve)));
}

/** Bytes that differ for each position and each seed. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  const out = new Uint8Array(bytes);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = state >>> 24;
  }
  return out;
}

const lib = new URL('../../lib/native/', import.meta.url);

/**
 * Runs `code` as a module in its own process, with `openNative`, `nativeCounters` and `io(target, op, offset,
 * …segments)` available and `args` in `argv`. The process must exit by itself.
 */
export function child(
  code: string,
  args: readonly string[] = [],
  nodeArgs: readonly string[] = [],
  /** A command that runs another: `['strace', …]`. */
  wrapper: readonly string[] = [],
): { status: number | null; signal: string | null; stdout: string; stderr: string } {
  const prelude = `
    import { openNative } from ${JSON.stringify(new URL('backend.js', lib).href)};
    import { nativeCounters } from ${JSON.stringify(new URL('addon.js', lib).href)};
    // Killing a tracer would leave the traced behind: whoever hangs ends itself.
    setTimeout(() => process.exit(99), 50_000).unref();
    const argv = ${JSON.stringify(args)};
    const request = (op, offset, segments, done) => ({ op, offset, segments, done, result: 0,
      path: { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 } });
    const io = (target, op, offset, ...segments) =>
      new Promise((resolve) => target.submit(request(op, offset, segments, resolve)));
  `;
  const [command, ...rest] = [
    ...wrapper,
    process.execPath,
    ...nodeArgs,
    '--input-type=module',
    '-e',
    prelude + code,
  ];
  const { status, signal, stdout, stderr } = spawnSync(command!, rest, { encoding: 'utf8', timeout: 60_000 });
  return { status, signal, stdout, stderr };
}

/** The modules that workers import. */
export const nativeBackendUrl = new URL('backend.js', lib).href;
export const addonUrl = new URL('addon.js', lib).href;
