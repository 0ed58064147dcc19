/** What must hold after a case, whatever happened to it: a sentence for each thing that does not. */
import type { P2pdmaError, Receipt } from '../../lib/index.js';
import { type Content, firstForeign, zeros } from '../../lib/sim/content.js';
import type { DisturbanceKind } from './draw.js';
import type { Stage } from './stage.js';

const ENDLESS = zeros(Number.MAX_SAFE_INTEGER);

/** Errors that a disturbance explains. */
const EXPLAINED: Record<DisturbanceKind, readonly string[]> = {
  none: [],
  cut: ['ERR_SHORT_TRANSFER', 'ERR_OUT_OF_RANGE'],
  grow: [],
  replace: [],
  overwrite: [],
  full: ['ENOSPC'],
  abort: ['ABORT_ERR'],
  stop: [],
  'destroy-reader': ['ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED', 'HUNT_CLOSED'],
  'destroy-writer': ['ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED', 'HUNT_CLOSED'],
  unpipe: [],
  listener: [],
  pause: [],
  'media-error': ['ENODATA'],
  // The kernel sets a removed drive's capacity to 0, so there is no space for what is written to it.
  remove: ['ENXIO', 'ENODEV', 'EIO', 'ENOENT', 'ENOSPC', 'ERR_SHORT_TRANSFER', 'ERR_P2P_REQUIRED'],
  'pool-exhausted': ['ENOMEM'],
};

export async function judge(stage: Stage): Promise<string[]> {
  const wrong = [...stage.wrong, ...judgeError(stage), ...judgeCount(stage), ...judgeDeliveries(stage)];
  for (const [i] of stage.destinations.entries()) wrong.push(...(await judgeDestination(stage, i)));
  wrong.push(...judgeReceipt(stage), ...judgeSystem(stage));
  return wrong;
}

function judgeError({ error, drawn, span }: Stage): string[] {
  if (error === null) return [];
  const { code, name } = error as P2pdmaError;
  const { kind } = drawn.disturbance;
  const explained = [...EXPLAINED[kind]];
  if (drawn.verify && (kind === 'replace' || kind === 'overwrite')) explained.push('ERR_VERIFY_MISMATCH');
  if (drawn.way === 'journal' && kind === 'replace') explained.push('ERR_JOURNAL_MISMATCH');
  if (drawn.way === 'kill') explained.push('HUNT_KILLED');
  if (drawn.way === 'lent') explained.push('ERR_P2P_REQUIRED', 'ENOMEM');
  if (drawn.chunk !== null) explained.push('ERR_CHUNK_TOO_LARGE');
  // A copy of nothing from a source's end is refused.
  if (span === 0) explained.push('ERR_OUT_OF_RANGE');
  if (explained.includes(code)) {
    return code === 'ABORT_ERR' && name !== 'AbortError' ? [`an abort is called ${name}`] : [];
  }
  return [`nothing explains ${error.stack ?? String(error)}`];
}

/** With what an interrupted copy had done before. */
function wholeOf(receipt: Receipt | null): number {
  return receipt === null ? 0 : receipt.bytes + (receipt.resumedFrom ?? 0);
}

/** How many bytes went, as far as those who ended well were told; null: it did not end well. */
function countOf({ error, receipt, promised, drawn, reader }: Stage): number | null {
  if (error !== null) return null;
  if (receipt !== null) return wholeOf(receipt);
  if (drawn.way === 'read' || drawn.way === 'lent') return reader!.bytesRead;
  const { stream, acknowledged } = promised[0]!;
  return stream?.bytesWritten ?? acknowledged;
}

function judgeCount(stage: Stage): string[] {
  const { drawn, disturbed, span, versions } = stage;
  const count = countOf(stage);
  if (count === null || drawn.way === 'kill') return [];
  const { kind } = drawn.disturbance;
  const [least, most] = ((): [number, number] => {
    if (drawn.way === 'write') return [drawn.source.content.size, drawn.source.content.size];
    if (!disturbed) return [span, span];
    if (kind === 'stop') return [0, span];
    const { size } = versions.at(-1)!;
    const whole = stage.late && (drawn.way === 'pipeline' || drawn.way === 'fan-out');
    if (kind === 'cut' && !whole) return [Math.max(0, Math.min(span, size - drawn.start)), span];
    if (kind === 'grow') return [span, mostOf(stage)];
    return [span, span];
  })();
  return count >= least && count <= most ? [] : [`${count} bytes went, and ${least} to ${most} were to go`];
}

function judgeDeliveries({
  deliveries,
  deliveredFromStart,
  drawn,
  reader,
  error,
  versions,
}: Stage): string[] {
  const wrong: string[] = [];
  for (const [i, { chunk, copy }] of deliveries.entries()) {
    if (chunk !== null && error === null && !chunk.equals(copy))
      wrong.push(`chunk ${i} changed after it was delivered`);
  }
  const all = Buffer.concat(deliveries.map(({ copy }) => copy));
  const first = drawn.way === 'targets' ? 0 : drawn.start;
  if (!deliveredFromStart && reader?.readableEnded !== true) return wrong;
  const from = deliveredFromStart ? first : first + reader!.bytesRead - all.length;
  const foreign = firstForeign(
    all,
    from,
    versions.map((content) => ({ content, offset: 0 })),
  );
  if (foreign >= 0) wrong.push(`the byte delivered for ${foreign} was never the source's`);
  if (drawn.way === 'read' && error === null && all.length !== reader!.bytesRead) {
    wrong.push(`${all.length} bytes were delivered, and bytesRead is ${reader!.bytesRead}`);
  }
  return wrong;
}

async function judgeDestination(stage: Stage, i: number): Promise<string[]> {
  const { drawn } = stage;
  if (drawn.way === 'read' || drawn.way === 'lent') return [];
  const place = stage.destinations[i]!;
  const prior = drawn.destinations[i]!.content;
  const { acknowledged, stream } = stage.promised[i]!;
  const firm = Math.max(
    acknowledged,
    stream?.bytesWritten ?? 0,
    stage.error === null ? wholeOf(stage.receipt) : 0,
  );
  const got = await place.bytes();
  // What was pulled out cannot be looked at.
  if (got === null && (place.device || firm === 0)) return [];
  if (got === null) return [`destination ${i} is gone, and ${firm} bytes of it were acknowledged`];
  return [
    ...judgeLength(stage, got.length, { place: place.device, prior, firm }),
    ...judgeBytes(stage, got, { device: place.device, prior, firm }),
  ].map((words) => `destination ${i} ('${place.path}'): ${words}`);
}

interface Before {
  readonly prior: Content | null;
  readonly firm: number;
}

function judgeLength(
  stage: Stage,
  length: number,
  { place: device, prior, firm }: Before & { readonly place: boolean },
): string[] {
  const { drawn } = stage;
  const to = stage.drawn.way === 'targets' ? 0 : drawn.destinationStart;
  const wrong: string[] = [];
  if (firm > 0 && length < to + firm)
    wrong.push(`${firm} bytes from ${to} on were acknowledged, and it ends at ${length}`);
  if (device || drawn.way === 'targets') return wrong;
  const count = countOf(stage);
  const kept = drawn.flags === 'r+' || drawn.ends === 'targets' ? (prior?.size ?? 0) : 0;
  if (count !== null && drawn.ends !== 'targets') {
    const exact = count === 0 ? kept : Math.max(kept, to + count);
    if (length !== exact) wrong.push(`it has ${length} bytes, and ${exact} would be right`);
  }
  const sent = drawn.way === 'write' || drawn.way === 'kill' ? drawn.source.content.size : mostOf(stage);
  const most = Math.max(prior?.size ?? 0, to + sent);
  if (length > most) wrong.push(`it has ${length} bytes, and no more than ${most} were ever sent`);
  return wrong;
}

function mostOf({ versions, drawn, span }: Stage): number {
  const size = Math.max(...versions.map((version) => version.size));
  return Math.max(span, Math.min((drawn.end ?? size - 1) + 1, size) - drawn.start);
}

/**
 *     0 ……… destinationStart ……………… + firm ……………… end
 *       before                source's        source's or before (or a hole that nothing was written to)
 */
function judgeBytes(
  { drawn, versions }: Stage,
  got: Buffer,
  { device, prior, firm }: Before & { readonly device: boolean },
): string[] {
  const to = drawn.way === 'targets' ? 0 : drawn.destinationStart;
  const from = drawn.way === 'write' || drawn.way === 'kill' || drawn.way === 'targets' ? 0 : drawn.start;
  const sources = versions.map((content) => ({ content, offset: from - to }));
  const before = [
    ...(prior === null ? [] : [{ content: prior, offset: 0 }]),
    ...(device && drawn.way !== 'targets' ? [] : [{ content: ENDLESS, offset: 0 }]),
  ];
  const parts = [
    { what: 'was there before', start: 0, end: to, allowed: before },
    { what: 'is the source’s, and was acknowledged', start: to, end: to + firm, allowed: sources },
    {
      what: 'is the source’s or was there before',
      start: to + firm,
      end: got.length,
      allowed: [...sources, ...before],
    },
  ];
  return parts.flatMap(({ what, start, end, allowed }) => {
    const bytes = got.subarray(Math.min(start, got.length), Math.min(end, got.length));
    const foreign = bytes.length === 0 ? -1 : firstForeign(bytes, start, allowed);
    return foreign < 0
      ? []
      : [`byte ${foreign} is none that ${what} (${got.subarray(foreign, foreign + 16).toString('hex')})`];
  });
}

function judgeReceipt({ receipt, drawn, error }: Stage): string[] {
  if (receipt === null || error !== null) return [];
  const wrong: string[] = [];
  const { internal, peerBus, hostBridge, hostDram } = receipt.path;
  // Holes are not moved.
  if (!drawn.sparse && internal + peerBus + hostBridge + hostDram < receipt.bytes)
    wrong.push('the receipt has fewer bytes by path than bytes');
  if (receipt.transport !== 'host-memory' && peerBus + hostBridge + internal === 0 && receipt.bytes > 0) {
    wrong.push(`the receipt says ${receipt.transport}, and no byte went there`);
  }
  if (drawn.provider === 'none' && receipt.transport !== 'host-memory')
    wrong.push('provider none, and not host memory');
  if (drawn.verify && drawn.disturbance.kind !== 'stop' && !receipt.verified)
    wrong.push('the receipt says it was not verified');
  return wrong;
}

/** Once everything is shut. */
function judgeSystem({ system }: Stage): string[] {
  const { inFlight, open, pools } = system.metrics();
  const left = { inFlight, ...open, pools: pools.length };
  return Object.values(left).some((n) => n !== 0) ? [`left over: ${JSON.stringify(left)}`] : [];
}
