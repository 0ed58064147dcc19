import type { PciDev } from '../backend/topology.js';
import { vmaOf } from '../kernel/memremap.js';
import { lengthOf } from './byte-queue.js';
import { type Ended, Joint } from './joint.js';
import { isHole } from './lending.js';
import type { RangeWriter } from './range-writer.js';

/** The position and the memory for the chunks. */
interface Way {
  readonly position: number;
  /** The provider into whose CMB chunks in ordinary memory are copied first; null: host memory. */
  readonly provider: PciDev | null;
  /** The file has no data there yet, so a hole exists without any action. */
  readonly fresh: boolean;
}

/**
 * Write the chunks that a stream was given, each according to its kind: a hole is left out or punched, memory that a drive
 * can reach is written without a copy, and adjacent chunks in ordinary memory are gathered.
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
