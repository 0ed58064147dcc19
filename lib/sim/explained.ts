/** Errors that a scenario explains. Any other error is a fault. */
import type { Op, Scenario, Trouble } from './scenario.js';

const GONE = [
  'ENXIO',
  'ENODEV',
  'EIO',
  'ENOENT',
  'ENOSPC',
  'EAGAIN',
  'EFAULT',
  'ERR_SHORT_TRANSFER',
  'ERR_P2P_REQUIRED',
  'ERR_PROVIDER_REMOVED',
  'SIM_SHORT',
];

function byTrouble(trouble: Trouble): readonly string[] {
  switch (trouble.kind) {
    case 'remove':
      return GONE;
    case 'fault':
      switch (trouble.fault.kind) {
        case 'media-error':
          return ['ENODATA', 'EIO'];
        case 'pool-exhausted':
          return ['ENOMEM', 'ERR_P2P_REQUIRED'];
        case 'drop-peer-writes':
          return ['ERR_VERIFY_MISMATCH'];
        case 'no-completion':
          return ['EIO'];
        default:
          return [];
      }
    case 'reset':
      return ['EIO'];
    case 'lost-write':
      return ['ERR_VERIFY_MISMATCH'];
    default:
      return [];
  }
}

/** Is there a reason for this operation to fail with this code? */
export function isExplained(op: Op, code: string, { troubles }: Scenario, step: number, seen: Seen): boolean {
  const reasons = troubles.filter((trouble) => trouble.step <= step).flatMap(byTrouble);
  if ('abort' in op && op.abort !== null) reasons.push('ABORT_ERR');
  if ('disturbance' in op && op.disturbance !== null) {
    reasons.push('ERR_SHORT_TRANSFER', 'ERR_OUT_OF_RANGE', 'ERR_VERIFY_MISMATCH');
  }
  if ('knobs' in op && op.knobs.highWaterMark !== undefined) reasons.push('ERR_CHUNK_TOO_LARGE');
  if ((op.kind === 'read' && op.way === 'lent') || (op.kind === 'target' && op.provider !== null)) {
    // There may be no CMB, or not enough of it while others use it.
    reasons.push('ERR_P2P_REQUIRED', 'ENOMEM', 'ENODEV', 'EREMOTEIO', 'EINVAL', 'EOPNOTSUPP', 'EIO');
  }
  // The controller that was named is gone.
  if (op.kind === 'target' && reasons.includes('ENODEV')) reasons.push('ERR_INVALID_ARG_VALUE');
  if (seen.sourceMissing) reasons.push('ENOENT');
  if (seen.destinationMissing) reasons.push('ENOENT');
  if (seen.beyond) reasons.push('ERR_OUT_OF_RANGE');
  // The other end of a pipe by hand fails with what ended it.
  return reasons.includes(code) || (code === 'SIM_CLOSED' && reasons.length > 0);
}

export interface Seen {
  readonly sourceMissing: boolean;
  /** For 'r+'. */
  readonly destinationMissing: boolean;
  /** There is nothing at the place that it was to read from. */
  readonly beyond: boolean;
}

export function codeOf(error: Error): string {
  return String((error as { code?: unknown }).code ?? error.name);
}
