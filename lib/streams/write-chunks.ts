import type { PciDev } from '../backend/topology.js';
import { vmaOf } from '../kernel/memremap.js';
import { lengthOf } from './byte-queue.js';
import { type Ended, Joint } from './joint.js';
import { isHole } from './lending.js';
import type { RangeWriter } from './range-writer.js';

/** Where chunks go, and through what. */
interface Way {
  readonly position: number;
  /** Whose CMB what lies anywhere is copied into first; null: host memory. */
  readonly provider: PciDev | null;
  /** The file has nothing there yet: a hole is one by itself. */
  readonly fresh: boolean;
}

/**
 * Write what a stream was given, each chunk as it is: a hole is left out or punched, what a drive can reach is written
 * from where it is, and neighbours that lie anywhere are gathered.
 */
export function writeChunks(
  ranges: RangeWriter,
  chunks: readonly Buffer[],
  { position, provider, fresh }: Way,
  ended: Ended,
): void {
  const joint = new Joint(ended);
  let loose: Buffer[] = [];
  let at = position;
  const gather = () => {
    const bytes = lengthOf(loose);
    if (bytes > 0) ranges.gather(loose, at, provider, joint.piece(bytes));
    at += bytes;
    loose = [];
  };
  for (const chunk of chunks) {
    const hole = isHole(chunk);
    if (!hole && vmaOf(chunk) === null) {
      loose.push(chunk);
      continue;
    }
    gather();
    if (hole) ranges.hole(chunk.length, at, fresh, joint.piece(chunk.length));
    else ranges.write(chunk, at, joint.piece(chunk.length));
    at += chunk.length;
  }
  gather();
  joint.close();
}
