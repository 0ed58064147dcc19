/** One case, drawn from the seed and its index: plain data, so that it can be printed and run again. */
import { presets } from '../../lib/machine/presets.js';
import type { Content } from '../../lib/sim/content.js';
import { Random } from '../../lib/sim/random.js';

/** Those whose drives are nobody's legs: a namespace in an array or below a head is busy. */
const MACHINES = Object.values(presets)
  .filter(({ arrays, subsystems }) => arrays.length + subsystems.length === 0)
  .map(({ name }) => name);

export type BackendName = 'native' | 'emulator';
/** A file on the disk, in memory, in a file system that is full soon; a device of its own. */
export type PlaceKind = 'file' | 'tmpfs' | 'full' | 'device';

export const WAYS = [
  'pipeline',
  'fan-out',
  'journal',
  'pipe',
  'pipe-fan-out',
  'node-pipeline',
  'for-await-write',
  'read',
  'lent',
  'write',
  'targets',
  'kill',
] as const;
export type Way = (typeof WAYS)[number];

export type DisturbanceKind =
  | 'none'
  | 'cut'
  | 'grow'
  | 'replace'
  | 'overwrite'
  | 'full'
  | 'abort'
  | 'stop'
  | 'destroy-reader'
  | 'destroy-writer'
  | 'unpipe'
  | 'listener'
  | 'pause'
  | 'media-error'
  | 'remove'
  | 'pool-exhausted';

export interface End {
  readonly kind: PlaceKind;
  /** What is there before; null: nothing. */
  readonly content: Content | null;
}

export interface Case {
  readonly seed: number;
  readonly index: number;
  readonly backend: BackendName;
  /** Natively. */
  readonly engine: 'uring' | 'threads';
  /** Emulated. */
  readonly machine: string;
  readonly latency: { readonly readUs: number; readonly writeUs: number } | null;
  readonly way: Way;
  /** What a copy is given: paths, streams or Targets. */
  readonly ends: 'paths' | 'streams' | 'targets';
  readonly source: End & { readonly content: Content };
  readonly destinations: readonly End[];
  readonly start: number;
  readonly end: number | null;
  readonly destinationStart: number;
  readonly flags: 'w' | 'r+';
  readonly chunk: number | null;
  readonly writerChunk: number | null;
  readonly depth: number;
  readonly memory: 'auto' | 'cmb' | 'host';
  readonly provider: 'auto' | 'none';
  readonly sparse: boolean;
  readonly verify: boolean;
  readonly flush: boolean;
  readonly bandwidth: number | null;
  /** Lengths of what a foreign source hands over, in turn. */
  readonly pieces: readonly number[];
  readonly disturbance: { readonly kind: DisturbanceKind; readonly turns: number; readonly bytes: number };
}

/** Devices have this size. */
export const DEVICE_BYTES = 1024 * 1024;
const MOST = 800_000;
/** So much of what is there before fits on the file system that is full soon. */
const MOST_ON_FULL = 150_000;

const DISTURBED: Record<Way, readonly DisturbanceKind[]> = {
  pipeline: [
    'cut',
    'grow',
    'replace',
    'overwrite',
    'full',
    'abort',
    'stop',
    'media-error',
    'remove',
    'pool-exhausted',
    'destroy-reader',
    'destroy-writer',
    'pause',
    'listener',
  ],
  'fan-out': [
    'cut',
    'grow',
    'replace',
    'full',
    'abort',
    'stop',
    'media-error',
    'remove',
    'pool-exhausted',
    'destroy-reader',
    'destroy-writer',
  ],
  journal: ['abort', 'stop', 'replace', 'full', 'media-error'],
  pipe: [
    ...(['cut', 'grow', 'overwrite', 'full', 'abort', 'destroy-reader', 'destroy-writer', 'unpipe'] as const),
    ...(['listener', 'pause', 'media-error', 'pool-exhausted', 'remove'] as const),
  ],
  'pipe-fan-out': [
    'cut',
    'grow',
    'full',
    'destroy-reader',
    'destroy-writer',
    'listener',
    'pause',
    'media-error',
  ],
  'node-pipeline': [
    'cut',
    'grow',
    'full',
    'abort',
    'destroy-reader',
    'destroy-writer',
    'listener',
    'media-error',
  ],
  'for-await-write': [
    'cut',
    'grow',
    'overwrite',
    'full',
    'abort',
    'destroy-reader',
    'destroy-writer',
    'media-error',
  ],
  read: ['cut', 'grow', 'replace', 'overwrite', 'abort', 'destroy-reader', 'pause', 'media-error', 'remove'],
  lent: ['cut', 'abort', 'destroy-reader', 'pause', 'media-error', 'remove'],
  write: ['full', 'abort', 'destroy-writer', 'media-error', 'remove'],
  targets: ['cut', 'grow', 'media-error', 'remove'],
  kill: ['none'],
};
const ON_FILES: ReadonlySet<DisturbanceKind> = new Set(['cut', 'grow', 'replace', 'overwrite']);
/** Of their source everything is taken, from the beginning on. */
const WHOLE: ReadonlySet<Way> = new Set(['write', 'kill', 'targets']);
const EMULATED: ReadonlySet<DisturbanceKind> = new Set(['media-error', 'remove', 'pool-exhausted']);

export interface Surroundings {
  readonly backend: BackendName;
  /** Kinds of places that there are here. */
  readonly places: readonly PlaceKind[];
}

export function drawCase(seed: number, index: number, { backend, places }: Surroundings): Case {
  const random = new Random(seed, index * 2 + (backend === 'native' ? 0 : 1));
  const way = drawWay(random, backend);
  const disturbance = drawDisturbance(random, way, backend, places);
  const ordinary = places.filter((place) => place !== 'full');
  const sourceKind = ON_FILES.has(disturbance.kind)
    ? random.pick(ordinary.filter((place) => place !== 'device'))
    : random.pick(ordinary);
  // A journal towards a drive that ends with the process is refused.
  const lasting = ordinary.filter((place) => place !== 'device' || way !== 'journal' || backend === 'native');
  const size = sourceKind === 'device' ? DEVICE_BYTES : random.length(MOST);
  const sparse = random.chance(0.15);
  const fans = way === 'fan-out' || way === 'pipe-fan-out' ? random.between(2, 3) : 1;
  const destinations = Array.from({ length: fans }, (_, i): End => {
    const kind = disturbance.kind === 'full' && i === 0 ? 'full' : random.pick(lasting);
    if (kind === 'device') return { kind, content: content(random, DEVICE_BYTES, false) };
    const most = kind === 'full' ? MOST_ON_FULL : MOST;
    return { kind, content: random.chance(0.4) ? content(random, random.length(most), false) : null };
  });
  const present = destinations.every((end) => end.content !== null);
  const shift = WHOLE.has(way) || random.chance(0.5) ? 0 : random.length(50_000);
  const start = WHOLE.has(way) || random.chance(0.5) ? 0 : Math.min(size, random.length(size));
  const room = Math.min(
    ...destinations.map((end) => (end.kind === 'device' ? DEVICE_BYTES - shift : Number.MAX_SAFE_INTEGER)),
  );
  const bounded = !WHOLE.has(way) && (sourceKind === 'device' || random.chance(0.35));
  const longest = Math.min(MOST, size - start, room);
  const span = bounded ? Math.max(1, random.length(longest)) : null;
  const end =
    span === null ? (size - start > room && !WHOLE.has(way) ? start + room - 1 : null) : start + span - 1;
  return {
    ...{ seed, index, backend, way, disturbance, start, end },
    ends: way === 'journal' ? 'paths' : random.pick(['paths', 'streams', 'targets']),
    engine: random.pick(['uring', 'threads']),
    machine: random.pick(MACHINES),
    latency: random.chance(0.3) ? { readUs: random.below(300), writeUs: random.below(300) } : null,
    source: { kind: sourceKind, content: content(random, size, sparse) },
    destinations,
    destinationStart: shift,
    flags: present && random.chance(0.5) ? 'r+' : 'w',
    chunk: random.chance(0.3) ? null : drawChunk(random),
    writerChunk: random.chance(0.3) ? null : drawChunk(random),
    depth: random.pick([1, 2, 3, 8, 8, 16, 64]),
    memory: way === 'lent' ? 'cmb' : random.pick(['auto', 'auto', 'auto', 'host']),
    provider: random.pick(['auto', 'auto', 'none']),
    sparse: random.chance(0.3),
    verify: random.chance(0.3),
    flush: random.chance(0.4),
    bandwidth: random.chance(0.05) ? random.between(2_000_000, 20_000_000) : null,
    pieces: Array.from({ length: 7 }, () => 1 + random.length(random.pick([100, 5000, 200_000]))),
  };
}

function drawWay(random: Random, backend: BackendName): Way {
  if (random.chance(0.01)) return 'kill';
  return random.pick(WAYS.filter((way) => way !== 'kill' && (way !== 'lent' || backend === 'emulator')));
}

function drawDisturbance(
  random: Random,
  way: Way,
  backend: BackendName,
  places: readonly PlaceKind[],
): Case['disturbance'] {
  const possible = DISTURBED[way].filter(
    (kind) => (backend === 'emulator' || !EMULATED.has(kind)) && (kind !== 'full' || places.includes('full')),
  );
  const kind = possible.length === 0 || random.chance(0.35) ? 'none' : random.pick(possible);
  return { kind, turns: random.below(random.pick([3, 12, 40])), bytes: random.length(MOST) };
}

function drawChunk(random: Random): number {
  return random.pick([
    () => 1 + random.below(600),
    () => 512 << random.below(8),
    () => 4096 << random.below(8),
    () => 1 + random.below(300_000),
  ])();
}

function content(random: Random, size: number, sparse: boolean): Content {
  return { generation: random.between(1, 0x7fffffff), size, sparse };
}
