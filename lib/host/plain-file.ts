/** A file as node:fs has it open: a number, or somebody's FileHandle. Callbacks are never called inside the call. */
import fs from 'node:fs';
import type { FileHandle } from 'node:fs/promises';

type Done<T = void> = (error: NodeJS.ErrnoException | null, value: T) => void;

/** A position of null means: where the file itself stands, which is moved on. */
export interface PlainFile {
  readonly fd: number;
  read(view: Uint8Array, position: number | null, done: Done<number>): void;
  /** May write less than all. */
  write(view: Uint8Array, position: number | null, done: Done<number>): void;
  stat(done: Done<fs.Stats>): void;
  sync(done: Done): void;
  truncate(length: number, done: Done): void;
  close(done: Done): void;
}

export function fileOfNumber(fd: number): PlainFile {
  return {
    fd,
    read: (view, position, done) => fs.read(fd, view, 0, view.length, position, done),
    write: (view, position, done) => fs.write(fd, view, 0, view.length, position, done),
    stat: (done) => fs.fstat(fd, done),
    sync: (done) => fs.fsync(fd, (error) => done(error)),
    truncate: (length, done) => fs.ftruncate(fd, length, (error) => done(error)),
    close: (done) => fs.close(fd, (error) => done(error ?? null)),
  };
}

/** Through the handle's own methods, which keep its descriptor open as long as they use it. */
export function fileOfHandle(handle: FileHandle): PlainFile {
  return {
    fd: handle.fd,
    read: (view, position, done) =>
      settle(
        handle.read(view, 0, view.length, position).then(({ bytesRead }) => bytesRead),
        done,
      ),
    write: (view, position, done) =>
      settle(
        handle.write(view, 0, view.length, position).then(({ bytesWritten }) => bytesWritten),
        done,
      ),
    stat: (done) => settle(handle.stat(), done),
    sync: (done) => settle(handle.sync(), done),
    truncate: (length, done) => settle(handle.truncate(length), done),
    close: (done) => settle(handle.close(), done),
  };
}

/** `done` runs outside the promise, so that what it throws is not taken for the call's failure. */
function settle<T>(promise: Promise<T>, done: Done<T>): void {
  promise.then(
    (value) => process.nextTick(done, null, value),
    (error: NodeJS.ErrnoException) => process.nextTick(done, error, undefined),
  );
}

/** open(2), in the thread pool: it waits as long as the other end of a FIFO is not open. */
export function openPlainFile(
  path: string | Buffer,
  flags: number,
  mode: number | undefined,
): Promise<PlainFile> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, mode ?? 0o666, (error, fd) => {
      if (error === null) resolve(fileOfNumber(fd));
      else reject(error);
    });
  });
}
