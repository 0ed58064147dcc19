/** Plays seeds one after the other, up to the first one that fails, and sums up what happened. */

import { createHash } from 'node:crypto';
import { optionError } from '../base/arguments.js';
import { noticeOf } from '../emulator/notice.js';
import { loadMachine } from '../machine/load.js';
import type { Machine } from '../machine/machine.js';
import { drawScenario, isPlayable } from './draw.js';
import type { Scenario } from './scenario.js';
import { Simulation } from './simulation.js';

/** The machines of a run: one that is given, or one that each seed draws. */
export interface Stage {
  readonly machine: Machine | null;
  readonly notice: string;
}

/** @throws P2pdmaError: as `openSystem({ machine })`; ERR_MACHINE_INVALID: no drive to play on */
export async function stageOf(spec: string | undefined): Promise<Stage> {
  if (spec === undefined)
    return { machine: null, notice: 'emulated machines, drawn from the seeds: they end with this process' };
  const machine = await loadMachine(spec);
  if (!isPlayable(machine)) {
    throw optionError('ERR_MACHINE_INVALID', 'machine', `'${machine.name}' has no namespace to play on`, {
      received: spec,
      hint: 'Name a machine that has an NVMe drive with a namespace, or an array that runs.',
    });
  }
  return { machine, notice: noticeOf(machine) };
}

export interface Failure {
  readonly seed: number;
  /** What must not be. */
  readonly wrong: readonly string[];
  readonly scenario: Scenario;
}

export interface Run {
  readonly first: number;
  /** How many seeds were played. */
  readonly seeds: number;
  /** Operations by how they ended: `copy complete`, `read ENODATA`. */
  readonly operations: Readonly<Record<string, number>>;
  /** Troubles that were caused, by kind. */
  readonly troubles: Readonly<Record<string, number>>;
  readonly events: number;
  /** Of the hashes of all seeds. */
  readonly hash: string;
  readonly seconds: number;
  readonly failure: Failure | null;
}

export async function playSeeds({ machine }: Stage, first: number, count: number): Promise<Run> {
  const operations: Record<string, number> = {};
  const troubles: Record<string, number> = {};
  const hash = createHash('sha256');
  const began = performance.now();
  let [seeds, events] = [0, 0];
  let failure: Failure | null = null;
  while (seeds < count && failure === null) {
    const scenario = drawScenario(first + seeds, machine);
    const outcome = await new Simulation(scenario).run();
    seeds++;
    events += outcome.events;
    hash.update(outcome.hash);
    addCounts(operations, outcome.ended);
    addCounts(troubles, outcome.troubles);
    const { seed, wrong } = outcome;
    if (wrong.length > 0) failure = { seed, wrong, scenario };
  }
  const seconds = (performance.now() - began) / 1000;
  return {
    ...{ first, seeds, operations: sorted(operations), troubles: sorted(troubles), events },
    ...{ hash: hash.digest('hex'), seconds, failure },
  };
}

function addCounts(sum: Record<string, number>, more: Readonly<Record<string, number>>): void {
  for (const [key, n] of Object.entries(more)) sum[key] = (sum[key] ?? 0) + n;
}

function sorted(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));
}
