/**
 * A scenario, drawn from the seed. As in swarm testing, each seed switches kinds of operation and of trouble on and off
 * first, so that some seeds are full of what is rare in others.
 */
import { disksOf } from '../machine/disks.js';
import { type Fault, type Machine, type MachineInput, parseMachine } from '../machine/machine.js';
import { drawMachine } from './draw-machine.js';
import { ROOT } from './files.js';
import { Random } from './random.js';
import type { Disturbance, FileSpec, Knobs, Op, Part, Scenario, Trouble } from './scenario.js';

const KIB = 1024;
/** Devices of a machine that somebody brings are made this small. */
const MOST_DEVICE = 512 * KIB;
const MOST_FILE = 300 * KIB;
/** Longer than the first stretch of a copy with a journal. */
const JOURNAL_FILE = 1400 * KIB;

type Kind = Op['kind'];
type FaultKind = 'media-error' | 'drop-peer-writes' | 'no-completion' | 'pool-exhausted';
const KINDS: readonly Kind[] = ['copy', 'copy', 'copy', 'journal', 'read', 'write', 'target', 'trespass'];
const TROUBLES = [
  ...(['media-error', 'drop-peer-writes', 'no-completion', 'pool-exhausted', 'remove', 'reset'] as const),
  ...(['lost-write', 'clock', 'power-cut'] as const),
] as const;

/** Something that can be read and written, as far as one lane owns it. */
interface Place {
  readonly end: string;
  readonly isFile: boolean;
  readonly from: number;
  readonly to: number;
}

interface Swarm {
  readonly kinds: readonly Kind[];
  readonly aborts: number;
  readonly disturbances: number;
  readonly small: boolean;
}

/** @param given a machine that is to be used instead of one that is drawn */
export function drawScenario(seed: number, given: Machine | null = null): Scenario {
  const random = new Random(seed, 0);
  const machine = given === null ? drawMachine(random) : made(given);
  const parsed = parseMachine(machine);
  const swarm: Swarm = {
    kinds: some(random, random.chance(0.4) ? KINDS : KINDS.filter((kind) => kind !== 'journal')),
    aborts: random.chance(0.3) ? 0.3 : 0,
    disturbances: random.chance(0.3) ? 0.4 : 0,
    small: random.chance(0.3),
  };
  const count = random.between(1, 3);
  const files: FileSpec[] = [];
  const lanes = Array.from({ length: count }, (_, lane) => {
    const places = [...devicePlaces(parsed, lane, count), ...filePlaces(random, lane, swarm, files)];
    const kinds = random.between(1, 5);
    return Array.from({ length: kinds }, () => drawOp(random, swarm, places, parsed));
  });
  return {
    ...{ seed, machine, files },
    pace: { turn: random.pick([0, 0, 0.01, 0.2]), medium: random.pick([0, 0.01, 0.1, 1]) },
    short: random.chance(0.3) ? random.pick([0.05, 0.5]) : 0,
    lanes,
    troubles: drawTroubles(random, parsed, lanes.flat()),
  };
}

/** Whether a machine that somebody brought has a drive or array that programs can be drawn for. */
export function isPlayable(given: Machine): boolean {
  return devicePlaces(parseMachine(made(given)), 0, 1).length > 0;
}

/**
 * A machine that somebody brought, with small drives whose bytes are in memory. Programs write in any order, so its zoned
 * namespaces are left out, and those of size 0.
 */
function made(given: Machine): MachineInput {
  const functions = given.functions.map((fn) => {
    const { nvme } = fn;
    if (nvme === null) return fn;
    const plain = nvme.namespaces.filter(({ zoned, extendedLba }) => zoned === null && extendedLba === null);
    const namespaces = plain.map(({ nsid, blockSize, metadata }) => ({
      ...{ nsid, blockSize, metadata, size: MOST_DEVICE },
    }));
    return { ...fn, nvme: { ...nvme, namespaces } };
  });
  // A machine is valid input; only its lists are read-only.
  return structuredClone({ ...given, latency: null, faults: [], functions }) as unknown as MachineInput;
}

function some<T>(random: Random, all: readonly T[]): T[] {
  const kept = all.filter(() => random.chance(0.6));
  return kept.length > 0 ? kept : [random.pick(all)];
}

/** Every device that nothing is stacked on, cut into one part per lane. */
function devicePlaces(machine: Machine, lane: number, lanes: number): Place[] {
  const members = new Set(
    machine.arrays.flatMap((array) => array.members.map((one) => one.replace(/p\d+$/, ''))),
  );
  const free = disksOf(machine).filter(({ name, namespace }) => !members.has(name) && !namespace.readOnly);
  const sizes: [string, number][] = free.map(({ name, namespace }) => [name, namespace.size]);
  for (const { name, level } of machine.arrays) {
    // The arrays of a machine that is drawn hold at least one namespace; those with parity are not run.
    if (!/^raid[456]$/.test(level)) sizes.push([name, 448 * KIB]);
  }
  return sizes.map(([end, size]) => {
    const slice = Math.floor(size / lanes / 65_536) * 65_536;
    return { end, isFile: false, from: lane * slice, to: (lane + 1) * slice };
  });
}

function filePlaces(random: Random, lane: number, { small, kinds }: Swarm, files: FileSpec[]): Place[] {
  return ['a', 'b', 'c'].map((name, i) => {
    const path = `${ROOT}/${lane}${name}`;
    const most = small ? 20 * KIB : MOST_FILE;
    const large =
      kinds.includes('journal') && i === 0 ? JOURNAL_FILE - random.below(KIB) : random.length(most);
    if (i < 2) files.push({ path, size: large, generation: random.between(10, 16) });
    return { end: path, isFile: true, from: 0, to: most };
  });
}

function drawOp(random: Random, swarm: Swarm, places: readonly Place[], machine: Machine): Op {
  const devices = places.filter((place) => !place.isFile);
  const kind = random.pick(swarm.kinds);
  const abort = random.chance(swarm.aborts) ? random.below(random.pick([10, 60, 300])) : null;
  if (kind === 'trespass') {
    const held = machine.arrays.flatMap(({ members }) => members);
    if (held.length > 0) return { kind, end: random.pick(held) };
    if (devices.length > 0) return { kind, end: random.pick(devices).end };
  }
  if (kind === 'write') return drawWrite(random, random.pick(places), abort);
  const source = random.pick(places.slice(0, -1));
  const knobs = drawKnobs(random);
  // Not more chunks than tell something.
  const most = (knobs.highWaterMark ?? MOST_FILE) * 100;
  if (kind === 'read') {
    const way = random.pick(['data', 'for-await', 'lent'] as const);
    return {
      kind,
      way,
      ...drawRange(random, source, most),
      knobs,
      abort,
      disturbance: drawDisturbance(random, swarm, source),
    };
  }
  const others = places.filter((place) => place !== source);
  if (kind === 'target' && devices.length > 1) return drawTarget(random, devices, machine);
  if (kind === 'journal') return drawJournal(random, places, abort);
  const to = [random.pick(others)];
  if (random.chance(0.2)) to.push(random.pick(others.filter((place) => place !== to[0])) ?? to[0]!);
  const range = drawRange(random, source, most);
  const distinct = [...new Set(to)];
  const length = Math.min(
    range.length,
    ...distinct.map((one) => (one.isFile ? MOST_FILE : one.to - one.from)),
  );
  // A copy between paths has one position for all destinations.
  const ways = distinct.length > 1 ? (['streams', 'pipe'] as const) : (['paths', 'streams', 'pipe'] as const);
  return {
    ...{ kind: 'copy', way: random.pick(ways), from: range.from, length, abort },
    to: distinct.map((place) => partOf(random, place, length)),
    knobs,
    disturbance: drawDisturbance(random, swarm, source),
  };
}

function drawRange(random: Random, { end, from, to }: Place, most: number): { from: Part; length: number } {
  const shift = random.chance(0.5) ? 0 : random.length(to - from - 1);
  return {
    from: { end, at: from + shift },
    length: Math.max(1, Math.min(most, random.length(to - from - shift))),
  };
}

/** A part that `length` bytes fit into. */
function partOf(random: Random, { end, isFile, from, to }: Place, length: number): Part {
  const room = Math.max(0, to - from - length);
  return {
    end,
    at: isFile && random.chance(0.6) ? 0 : from + (random.chance(0.4) ? 0 : random.length(room)),
  };
}

function drawWrite(random: Random, place: Place, abort: number | null): Op {
  const pieces: number[] = [];
  let left = place.to - place.from;
  for (let n = random.between(1, 8); n > 0 && left > 0; n--) {
    const piece = Math.max(1, random.length(Math.min(left, random.pick([100, 5000, 200_000]))));
    pieces.push(piece);
    left -= piece;
  }
  const total = pieces.reduce((a, b) => a + b, 0);
  const { highWaterMark = MOST_FILE, ...rest } = drawKnobs(random);
  const knobs = highWaterMark * 100 < total ? rest : { ...rest, highWaterMark };
  return {
    ...{ kind: 'write', generation: random.between(1, 0x7fffffff), pieces, knobs, abort },
    to: partOf(random, place, total),
  };
}

function drawTarget(random: Random, devices: readonly Place[], machine: Machine): Op {
  const whole = (n: number) => Math.floor(n / 4096) * 4096;
  const source = random.pick(devices);
  const destination = random.pick(devices.filter((place) => place !== source));
  const length = Math.max(
    4096,
    whole(random.length(Math.min(source.to - source.from, destination.to - destination.from))),
  );
  const providers = machine.functions.flatMap(({ nvme }) => (nvme?.cmb == null ? [] : [nvme.name]));
  return {
    ...{ kind: 'target', length, step: 4096 << random.below(6) },
    from: { end: source.end, at: source.from + whole(random.below(source.to - source.from - length + 1)) },
    to: {
      end: destination.end,
      at: destination.from + whole(random.below(destination.to - destination.from - length + 1)),
    },
    provider: providers.length > 0 && random.chance(0.6) ? random.pick(providers) : null,
  };
}

/** From the lane's first file to its last. */
function drawJournal(random: Random, places: readonly Place[], abort: number | null): Op {
  const files = places.filter((place) => place.isFile);
  const knobs = { ...drawKnobs(random), flags: 'w' as const, flush: true };
  const small = (knobs.highWaterMark ?? 4096) < 4096;
  const { highWaterMark: _, ...rest } = knobs;
  const journal = `${files.at(-1)!.end}.${random.below(1e9)}.journal`;
  return {
    ...{ kind: 'journal', from: { end: files[0]!.end, at: 0 }, length: JOURNAL_FILE, abort, journal },
    knobs: small ? rest : knobs,
    to: [{ end: files.at(-1)!.end, at: random.chance(0.7) ? 0 : random.length(20_000) }],
  };
}

function drawKnobs(random: Random): Knobs {
  const mark = random.pick([
    () => 1 + random.below(600),
    () => 512 << random.below(8),
    () => 4096 << random.below(6),
    () => 1 + random.below(300_000),
  ]);
  return {
    ...(random.chance(0.6) ? { highWaterMark: mark() } : {}),
    ...(random.chance(0.6) ? { queueDepth: random.pick([1, 2, 3, 8, 16]) } : {}),
    ...{
      memory: random.pick(['auto', 'auto', 'auto', 'host']),
      provider: random.pick(['auto', 'auto', 'none']),
    },
    ...{ flags: random.pick(['w', 'r+']), flush: random.chance(0.7), verify: random.chance(0.3) },
  };
}

function drawDisturbance(random: Random, { disturbances }: Swarm, source: Place): Disturbance | null {
  if (!source.isFile || !random.chance(disturbances)) return null;
  const kind = random.pick(['shorten', 'grow', 'overwrite'] as const);
  return { kind, after: random.below(random.pick([5, 40, 200])), bytes: random.length(MOST_FILE) };
}

function drawTroubles(random: Random, machine: Machine, ops: readonly Op[]): Trouble[] {
  const kinds = some(random, TROUBLES);
  const count = random.chance(0.4) ? 0 : random.between(1, 4);
  const troubles = Array.from({ length: count }, () => drawTrouble(random, random.pick(kinds), machine));
  // What a journal promises is about power cuts.
  if (ops.some((op) => op.kind === 'journal') && random.chance(0.4))
    troubles.push({ kind: 'power-cut', step: random.below(400) });
  const [cut] = troubles.filter(({ kind }) => kind === 'power-cut');
  return troubles.filter((one) => one.kind !== 'power-cut' || one === cut);
}

function drawTrouble(random: Random, kind: (typeof TROUBLES)[number], machine: Machine): Trouble {
  const step = random.below(random.pick([50, 400, 2000]));
  const controllers = machine.functions.flatMap(({ nvme, bdf }) => (nvme === null ? [] : [{ ...nvme, bdf }]));
  const one = random.pick(controllers);
  if (kind === 'clock') return { step, kind, ms: random.between(-86_400_000, 86_400_000) };
  if (kind === 'power-cut') return { step, kind };
  if (kind === 'lost-write') {
    return { step: random.below(60), kind, disk: random.pick(disksOf(machine)).name, after: random.below(4) };
  }
  if (kind === 'remove' || kind === 'reset') return { step, kind, controller: one.name };
  return { step, kind: 'fault', fault: drawFault(random, kind, one) };
}

function drawFault(
  random: Random,
  kind: FaultKind,
  { name, bdf, namespaces }: NonNullable<Machine['functions'][number]['nvme']> & { bdf: string },
): Fault {
  const [ns] = namespaces;
  if (kind === 'media-error' && ns !== undefined) {
    const lba = random.below(ns.size / ns.blockSize);
    return { kind, namespace: `${name}n${ns.nsid}`, lba, op: random.pick(['read', 'write', null]) };
  }
  if (kind === 'drop-peer-writes') return { kind, function: bdf };
  if (kind === 'pool-exhausted') return { kind, controller: name, available: 4096 * random.below(40) };
  return { kind: 'no-completion', controller: name, nth: random.between(1, 40) };
}
