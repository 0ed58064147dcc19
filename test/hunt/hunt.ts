/**
 * The hunt: copies drawn from a seed, by every door, disturbed in every way, and judged byte for byte. A few at a time, each
 * on grounds of its own.
 */
import { readdirSync } from 'node:fs';
import { inspect } from 'node:util';
import { openSystem, type System } from '../../lib/index.js';
import { countersAtRest } from '../helpers/native.js';
import { type BackendName, type Case, DEVICE_BYTES, drawCase } from './draw.js';
import { judge } from './judge.js';
import { Grounds } from './places.js';
import { Stage } from './stage.js';
import { WAYS } from './ways.js';

export interface HuntOptions {
  readonly seed: number;
  readonly backend: BackendName;
  readonly first: number;
  readonly count: number;
  /** Cases at the same time. */
  readonly lanes: number;
  /** Milliseconds without progress that are a hang. */
  readonly patience: number;
  readonly onCase?: (drawn: Case, outcome: string, wrong: readonly string[]) => void;
}

export interface Failure {
  readonly drawn: Case;
  readonly wrong: readonly string[];
}

export interface HuntReport {
  /** What is left over once all are done, in words. */
  readonly left: readonly string[];
  readonly cases: number;
  /** How many ended how. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly failures: readonly Failure[];
}

export async function hunt(options: HuntOptions): Promise<HuntReport> {
  const { seed, backend, first, count, lanes, patience, onCase } = options;
  const outcomes: Record<string, number> = {};
  const failures: Failure[] = [];
  let next = first;
  let hung = false;
  const descriptors = openDescriptors();
  const lane = async () => {
    const grounds = new Grounds(backend);
    try {
      while (next < first + count && !hung) {
        const drawn = drawCase(seed, next++, { backend, places: grounds.places });
        const { outcome, wrong } = await play(drawn, grounds, patience);
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        if (wrong.length > 0) failures.push({ drawn, wrong });
        onCase?.(drawn, outcome, wrong);
        // What hangs may still touch its grounds.
        if (outcome === 'hang') hung = true;
      }
    } finally {
      if (!hung) grounds.close();
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  const left = hung ? [] : await leaks(descriptors);
  const cases = Object.values(outcomes).reduce((a, b) => a + b, 0);
  return { cases, outcomes, failures, left };
}

function openDescriptors(): number {
  return process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
}

/** Of the whole hunt: no single case is to blame for certain. */
async function leaks(before: number): Promise<string[]> {
  const said: string[] = [];
  const { fds, mappings, rings, inFlight } = await countersAtRest();
  const left = { fds, mappings, rings, inFlight };
  if (Object.values(left).some((n) => n !== 0)) said.push(`the addon still has ${JSON.stringify(left)}`);
  const now = openDescriptors();
  if (now > before + 2) said.push(`${now} descriptors are open, and ${before} were before`);
  return said;
}

async function play(
  drawn: Case,
  grounds: Grounds,
  patience: number,
): Promise<{ outcome: string; wrong: readonly string[] }> {
  grounds.sweep();
  const system = await open(drawn);
  const stage = new Stage(drawn, system, {
    source: grounds.place(drawn.source.kind, 0, system),
    destinations: drawn.destinations.map(({ kind }, i) => grounds.place(kind, i + 1, system)),
    journal: grounds.journal,
  });
  const over = perform(stage);
  const hang = watch(stage, patience);
  try {
    return (
      (await Promise.race([over, hang.found])) ?? { outcome: 'hang', wrong: [describe(stage, patience)] }
    );
  } finally {
    hang.stop();
  }
}

async function open({ backend, engine, machine, latency }: Case): Promise<System> {
  if (backend === 'native') return openSystem({ backend, engine });
  const described = await openSystem({ machine });
  const description = described.snapshot() as {
    functions: { nvme?: { namespaces: { size: unknown }[] } | null }[];
  };
  await described.close();
  for (const { nvme } of description.functions) {
    for (const namespace of nvme?.namespaces ?? []) namespace.size = DEVICE_BYTES;
  }
  return openSystem({ machine: { ...description, latency, ioTimeout: 1 } });
}

async function perform(stage: Stage): Promise<{ outcome: string; wrong: readonly string[] }> {
  const { drawn, system } = stage;
  await stage.source.fill(drawn.source.content);
  for (const [i, place] of stage.destinations.entries()) await place.fill(drawn.destinations[i]!.content);
  stage.begin();
  const disturbance = stage.disturb();
  try {
    await WAYS[drawn.way](stage);
  } catch (error) {
    stage.error = error as Error;
  }
  stage.ended = true;
  const wrong: string[] = [];
  await disturbance.catch((error: Error) => wrong.push(`the hunt itself: ${error.stack}`));
  await stage.shut();
  stage.mend();
  wrong.push(...(await judge(stage)));
  const report = await system.close();
  if (Object.values(report).some((n) => n !== 0)) wrong.push(`close() reports ${JSON.stringify(report)}`);
  return { outcome: outcomeOf(stage), wrong };
}

function outcomeOf({ error }: Stage): string {
  return error === null ? 'complete' : String((error as { code?: unknown }).code ?? error.name);
}

/** Resolves when nothing moved for `patience` milliseconds. */
function watch(stage: Stage, patience: number): { found: Promise<null>; stop(): void } {
  let timer: NodeJS.Timeout;
  const found = new Promise<null>((resolve) => {
    let last = -1;
    let since = performance.now();
    timer = setInterval(() => {
      const now = performance.now();
      const { progress } = stage;
      if (progress !== last) [last, since] = [progress, now];
      else if (now - since > patience) resolve(null);
    }, 250);
  });
  return { found, stop: () => clearInterval(timer) };
}

function describe({ system, reader, promised, ended, disturbed, error }: Stage, patience: number): string {
  const state = (stream: object | null, names: readonly string[]) =>
    stream && Object.fromEntries(names.map((name) => [name, (stream as Record<string, unknown>)[name]]));
  return `nothing moved for ${patience / 1000} s: ${inspect(
    {
      ...{ ended, disturbed, error },
      reader: state(reader, [
        'bytesRead',
        'readableFlowing',
        'readableLength',
        'readableEnded',
        'destroyed',
        'closed',
      ]),
      writers: promised.map(({ stream, acknowledged }) => ({
        acknowledged,
        ...state(stream, [
          'bytesWritten',
          'writableLength',
          'writableFinished',
          'writableNeedDrain',
          'destroyed',
          'closed',
        ]),
      })),
      metrics: system.metrics(),
    },
    { depth: 4 },
  )}`;
}

/** What to run for it to happen again, and what it was. */
export function tell({ drawn, wrong }: Failure): string {
  const again = `npm run hunt -- --seed ${drawn.seed} --first ${drawn.index} --count 1 --backend ${drawn.backend}`;
  return [
    `${drawn.backend} ${drawn.index}: ${again}`,
    ...wrong.map((words) => `  ${words}`),
    `  ${JSON.stringify(drawn)}`,
  ].join('\n');
}
