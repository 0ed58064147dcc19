/**
 * What a P2pFileHandle over node:fs reads and writes: a file that is appended to, a pipe, a character device, a file of /proc.
 * As there, the kernel decides where appended bytes go, and keeps where the file stands.
 */
import { zeroPath } from '../backend/path-bytes.js';
import { hostError } from '../base/errors.js';
import type { PlainTarget } from '../host/plain-target.js';
import type { HandleFile } from './handle-file.js';
import { type Metrics, Sums } from './metrics.js';
import type { StreamContext } from './session.js';

type Call = (done: (error: NodeJS.ErrnoException | null, bytes: number) => void) => void;

export class PlainHandleFile implements HandleFile {
  readonly position = null;
  /** The kernel refuses what they do not. */
  readonly allows = { read: true, write: true };
  readonly target: PlainTarget;
  readonly #context: StreamContext;
  readonly #sums = new Sums();

  constructor(context: StreamContext, target: PlainTarget) {
    this.#context = context;
    this.target = target;
  }

  read(view: Uint8Array, position: number | null): Promise<number> {
    return this.#call('read', (done) => this.target.file.read(view, position, done));
  }

  async write(view: Uint8Array, position: number | null): Promise<number> {
    let written = 0;
    while (written < view.length) {
      const rest = view.subarray(written);
      const at = position === null ? null : position + written;
      written += await this.#call('write', (done) => this.target.file.write(rest, at, done));
    }
    return written;
  }

  close(): Promise<void> {
    return this.#context.closeTarget(this.target);
  }

  meter(into: Metrics): void {
    this.#sums.addTo(into);
  }

  /** The kernel moves it on. */
  follow(): void {}

  forStream(positioned: boolean): PlainTarget {
    return this.target.positioned(positioned);
  }

  #call(syscall: 'read' | 'write', run: Call): Promise<number> {
    this.#sums.inFlight++;
    return new Promise((resolve, reject) => {
      run((error, bytes) => {
        this.#sums.inFlight--;
        const moved = error === null ? bytes : 0;
        this.#sums.count(syscall, moved, { ...zeroPath(), hostDram: moved });
        if (error === null) resolve(bytes);
        else reject(hostError(error, syscall, this.target.path));
      });
    });
  }
}
