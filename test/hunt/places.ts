/** Where copies come from and go to: files on a disk, in memory and on a file system that is full soon, and devices. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { System } from '../../lib/index.js';
import { bytesOfContent, type Content, dataOf } from '../../lib/sim/content.js';
import { peek, poke } from '../helpers/copies.js';
import { type BackendName, DEVICE_BYTES, type PlaceKind } from './draw.js';

const FULL_BYTES = 300 * 1024;
const DEVICES = 4;

/** What one lane of the hunt has for itself, from case to case. */
export class Grounds {
  readonly places: PlaceKind[] = ['file'];
  readonly #folders = new Map<PlaceKind, string>();
  readonly #loops: string[] = [];
  readonly #undo: (() => void)[] = [];
  readonly #leave = () => this.close();

  constructor(backend: BackendName) {
    const root = (parent: string) => {
      const folder = mkdtempSync(join(parent, 'p2pdma-hunt-'));
      this.#undo.push(() => rmSync(folder, { recursive: true, force: true }));
      return folder;
    };
    // A hunt that is interrupted leaves no mounts and loop devices behind.
    process.once('exit', this.#leave);
    this.#folders.set('file', root(process.env.P2PDMA_TEST_DIR ?? tmpdir()));
    if (process.platform === 'linux') {
      this.#folders.set('tmpfs', root('/dev/shm'));
      this.places.push('tmpfs');
    }
    if (backend === 'emulator') this.places.push('device');
    if (process.platform !== 'linux' || process.getuid?.() !== 0) return;
    const full = join(this.#folders.get('tmpfs')!, 'full');
    mkdirSync(full);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${FULL_BYTES}`, 'p2pdma-hunt', full]).status === 0) {
      this.#undo.push(() => spawnSync('umount', [full]));
      this.#folders.set('full', full);
      this.places.push('full');
    }
    if (backend === 'native') this.#addLoops();
  }

  #addLoops(): void {
    if (spawnSync('losetup', ['-f']).status !== 0) return;
    for (let i = 0; i < DEVICES; i++) {
      const image = join(this.#folders.get('tmpfs')!, `image${i}`);
      writeFileSync(image, '');
      truncateSync(image, DEVICE_BYTES);
      const { status, stdout } = spawnSync('losetup', ['-f', '--show', image], { encoding: 'utf8' });
      if (status !== 0) return;
      const device = stdout.trim();
      this.#undo.push(() => spawnSync('losetup', ['-d', device]));
      this.#loops.push(device);
    }
    this.places.push('device');
  }

  /** The place for this case; `slot` 0 is the source. */
  place(kind: PlaceKind, slot: number, system: System): Place {
    if (kind !== 'device') return new FilePlace(join(this.#folders.get(kind)!, `end${slot}`));
    if (system.backend === 'native') return new LoopPlace(this.#loops[slot]!);
    const namespaces = system.controllers.flatMap((controller) => controller.namespaces);
    const namespace = namespaces[slot];
    if (namespace === undefined) return new FilePlace(join(this.#folders.get('file')!, `end${slot}`));
    return new NamespacePlace(namespace.name, system);
  }

  get journal(): string {
    return join(this.#folders.get('file')!, 'journal');
  }

  /** Nothing of the last case is left. */
  sweep(): void {
    for (const [kind, folder] of this.#folders) {
      for (let slot = 0; slot < DEVICES; slot++) rmSync(join(folder, `end${slot}`), { force: true });
      if (kind === 'file') rmSync(this.journal, { force: true });
    }
  }

  close(): void {
    process.off('exit', this.#leave);
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }
}

/** An end of a copy, looked at without this package. */
export interface Place {
  readonly path: string;
  readonly device: boolean;
  fill(content: Content | null): Promise<void>;
  /** Null: there is nothing, or it cannot be read any more. */
  bytes(): Promise<Buffer | null>;
}

export class FilePlace implements Place {
  readonly device = false;
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async fill(content: Content | null): Promise<void> {
    rmSync(this.path, { force: true });
    if (content === null) return;
    const fd = openSync(this.path, 'w');
    try {
      for (const [from, to] of dataOf(content))
        writeSync(fd, bytesOfContent(content, from, to), 0, null, from);
      ftruncateSync(fd, content.size);
    } catch (error) {
      if ((error as { code?: string }).code !== 'ENOSPC') throw error;
    } finally {
      closeSync(fd);
    }
  }

  async bytes(): Promise<Buffer | null> {
    try {
      return readFileSync(this.path);
    } catch {
      return null;
    }
  }

  cut(size: number): void {
    truncateSync(this.path, size);
  }

  /** From where it ends now up to the end of `content`. */
  grow(content: Content): void {
    const fd = openSync(this.path, 'r+');
    const { size } = fstatSync(fd);
    writeSync(fd, bytesOfContent(content, size, content.size), 0, null, size);
    closeSync(fd);
  }

  overwrite(content: Content, from: number, to: number): void {
    const fd = openSync(this.path, 'r+');
    writeSync(fd, bytesOfContent(content, from, to), 0, null, from);
    closeSync(fd);
  }

  async replace(content: Content): Promise<void> {
    const other = new FilePlace(`${this.path}.new`);
    await other.fill(content);
    renameSync(other.path, this.path);
  }

  get size(): number {
    return statSync(this.path).size;
  }
}

class LoopPlace implements Place {
  readonly device = true;
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async fill(content: Content | null): Promise<void> {
    if (content === null) return;
    const fd = openSync(this.path, 'r+');
    writeSync(fd, bytesOfContent(content, 0, DEVICE_BYTES), 0, null, 0);
    closeSync(fd);
  }

  async bytes(): Promise<Buffer> {
    const fd = openSync(this.path, 'r');
    const all = Buffer.alloc(DEVICE_BYTES);
    readSync(fd, all, 0, DEVICE_BYTES, 0);
    closeSync(fd);
    return all;
  }
}

class NamespacePlace implements Place {
  readonly device = true;
  readonly path: string;
  readonly #system: System;

  constructor(path: string, system: System) {
    this.path = path;
    this.#system = system;
  }

  async fill(content: Content | null): Promise<void> {
    if (content === null) return;
    await poke(this.#system, this.path, 0, bytesOfContent(content, 0, DEVICE_BYTES));
  }

  async bytes(): Promise<Buffer | null> {
    return peek(this.#system, this.path, 0, DEVICE_BYTES).catch(() => null);
  }
}
