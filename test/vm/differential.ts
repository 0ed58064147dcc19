/**
 * The emulator's half of the scenarios beside the kernel's: what is equal, what is excused, and the kernel's half as it
 * was recorded, so that the emulator is held to it where no kernel is booted.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { olderThan, parseRelease } from '../../lib/backend/kernel-release.js';
import { errnoName } from '../../lib/base/errno.js';
import { distributionOf } from '../../lib/kernel/releases/distributions.js';
import { withheldFromPrograms } from '../../lib/kernel/releases/table.js';
import type { Machine } from '../../lib/machine/machine.js';
import type { BootResult } from './boot.js';
import { emulate } from './emulated-probe.js';
import type { Guest } from './guest/guest.js';
import { vmFile } from './host.js';
import { machineByName } from './machines.js';
import {
  loadScenarios,
  NEWER,
  type Outcome,
  type Outcomes,
  type Scenario,
  scenariosOf,
} from './scenarios.js';

/** What the kernels of a series answered when they were last asked, and which release it was that answered. */
export interface Recorded {
  readonly release: string;
  readonly answers: Outcomes;
}

const fileOf = (series: string) => vmFile('recorded-answers', `${series}.json`);

export interface Compared {
  readonly scenario: Scenario;
  readonly emulator: Outcome;
  readonly kernel: Outcome | null;
  readonly verdict: Verdict;
  /** Why they may differ on this kernel; null: they may not. */
  readonly excuse: string | null;
}

/** `'excused'`: they differ, and the scenario says why they may. `'needless'`: it has an excuse, and they are equal. */
export type Verdict = 'equal' | 'excused' | 'needless' | 'unequal';

/** What a verdict is in TAP and in the totals: an excused scenario was not held to the kernel, so it passed nothing. */
export const COUNTS_AS: Readonly<Record<Verdict, 'pass' | 'skip' | 'fail'>> = {
  equal: 'pass',
  excused: 'skip',
  needless: 'fail',
  unequal: 'fail',
};

/** How many rows passed, failed and were skipped: `'2 passed, 0 failed, 1 skipped'`. */
export function totals(rows: readonly Compared[]): string {
  const count = (as: 'pass' | 'skip' | 'fail') =>
    rows.filter(({ verdict }) => COUNTS_AS[verdict] === as).length;
  return `${count('pass')} passed, ${count('fail')} failed, ${count('skip')} skipped`;
}

/** Null: no kernel of this series was asked yet. */
export function readRecorded(series: string): Recorded | null {
  const file = fileOf(series);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Recorded) : null;
}

/** The series of which there are answers. */
export function recordedSeries(): string[] {
  return readdirSync(vmFile('recorded-answers')).map((name) => name.replace(/\.json$/, ''));
}

/** Keep what a kernel answered, in the order of the scenarios; those of machines not booted stay as they were. */
export function record(series: string, { release, answers }: Recorded): void {
  const all = { ...readRecorded(series)?.answers, ...answers };
  const lines = loadScenarios().flatMap(({ name }) => {
    const outcome = all[name];
    return outcome === undefined ? [] : [`    ${JSON.stringify(name)}: ${JSON.stringify(outcome)}`];
  });
  const head = `{\n  "release": ${JSON.stringify(release)},\n  "answers": {\n`;
  writeFileSync(fileOf(series), `${head}${lines.join(',\n')}\n  }\n}\n`);
}

/** What the guest of a boot answered; null if its plan has no scenarios. */
export function answersOf(result: BootResult): Recorded | null {
  const file = path.join(result.folder, 'out/scenarios.json');
  if (!existsSync(file)) return null;
  const { release } = JSON.parse(readFileSync(path.join(result.folder, 'out/guest.json'), 'utf8')) as Guest;
  return { release, answers: JSON.parse(readFileSync(file, 'utf8')) as Outcomes };
}

/** What a kernel makes of a machine: one that is built without P2PDMA takes no notice of CMBs. */
function asRunBy(release: string, machine: Machine): Machine {
  const known = distributionOf(parseRelease(release));
  const functions =
    known?.p2pdma === false
      ? machine.functions.map((f) => (f.nvme === null ? f : { ...f, nvme: { ...f.nvme, cmb: null } }))
      : machine.functions;
  return { ...machine, kernel: release, functions };
}

/**
 * What the kernels from 7.2 on do otherwise than 6.12, on which the emulator's block layer is modelled. Only these answers
 * are excused: a scenario that differs in anything else is unequal.
 */
function newerKernel(
  release: string,
  { operation, questions }: Scenario,
  mine: Outcome,
  theirs: Outcome | null,
): string | null {
  if (theirs === null || olderThan(parseRelease(release)!.version, 7, 2)) return null;
  const newer = NEWER.find(({ operations }) => operations.includes(operation));
  if (newer === undefined || mine.answers.length !== theirs.answers.length) return null;
  const { answers: _mine, ...around } = mine;
  const { answers: _theirs, ...aroundTheirs } = theirs;
  const known = questions.every((question, i) => {
    const [emulator, kernel] = [mine.answers[i], theirs.answers[i]];
    const word = question.split(' ')[0];
    return (
      emulator === kernel ||
      newer.instead.some((one) => one[0] === word && one[1] === emulator && one[2] === kernel)
    );
  });
  return known && isDeepStrictEqual(around, aroundTheirs) ? newer.why : null;
}

/** An excuse is for kernels that give programs memory; where there is none, the two may agree for that reason alone. */
function needed(release: string, { excused }: Scenario): boolean {
  const kernel = parseRelease(release);
  const gives = withheldFromPrograms(kernel) === null && distributionOf(kernel)?.p2pdma !== false;
  return excused !== null && gives;
}

/** Run a machine's scenarios on the emulator, as that release of the kernel, and put the kernel's answers beside. */
export async function compare(machine: string, { release, answers: kernel }: Recorded): Promise<Compared[]> {
  const scenarios = scenariosOf(machine);
  const emulator = await emulate(asRunBy(release, machineByName(machine)), scenarios);
  return scenarios.map((scenario) => {
    const [mine, theirs] = [emulator[scenario.name]!, kernel[scenario.name] ?? null];
    const equal = isDeepStrictEqual(mine, theirs);
    const excuse = scenario.excused ?? newerKernel(release, scenario, mine, theirs);
    const different = excuse !== null && theirs !== null ? 'excused' : 'unequal';
    const verdict = equal ? (needed(release, scenario) ? 'needless' : 'equal') : different;
    return { scenario, emulator: mine, kernel: theirs, verdict, excuse };
  });
}

/** One line for each: scenario, what the emulator answered, what the kernel answered, verdict. */
export function table(rows: readonly Compared[]): string[] {
  return rows.map(({ scenario, emulator, kernel, verdict, excuse }) => {
    const [mine, theirs] = [
      inShort(scenario, emulator),
      kernel === null ? 'not asked' : inShort(scenario, kernel),
    ];
    const reason = verdict === 'excused' ? `: ${excuse}` : '';
    return `${scenario.name} | ${mine} | ${theirs} | ${verdict}${reason}`;
  });
}

/** For a scenario that is not equal: each question whose answers differ, and what else does. */
export function differences({ scenario, emulator, kernel, verdict }: Compared): string[] {
  if (kernel === null) return ['the kernel was not asked'];
  if (verdict === 'needless') return [`they are equal, and need no excuse: ${scenario.excused}`];
  const lines: string[] = [];
  const most = Math.max(emulator.answers.length, kernel.answers.length);
  for (let i = 0; i < most; i++) {
    const [mine, theirs] = [emulator.answers[i] ?? 'nothing', kernel.answers[i] ?? 'nothing'];
    if (mine !== theirs) {
      lines.push(`${scenario.questions[i]}: emulator ${named(mine)}, kernel ${named(theirs)}`);
    }
  }
  for (const key of ['said', 'before', 'after'] as const) {
    if (isDeepStrictEqual(emulator[key], kernel[key])) continue;
    lines.push(`${key}: emulator ${JSON.stringify(emulator[key])}, kernel ${JSON.stringify(kernel[key])}`);
  }
  return lines;
}

function named(answer: string): string {
  const errno = /^err (\d+)$/.exec(answer)?.[1];
  return errno === undefined ? answer : errnoName(-Number(errno));
}

/** `'pwrite EREMOTEIO, check differs'`, or `'ok'`; and what the kernel said. */
function inShort(scenario: Scenario, { answers, said }: Outcome): string {
  const odd = answers.flatMap((answer, i) =>
    answer.startsWith('ok') ? [] : [`${scenario.questions[i]!.split(' ')[0]} ${named(answer)}`],
  );
  const checked = scenario.questions.some((question) => question.startsWith('check'));
  const whole = checked ? 'ok, data intact' : 'ok';
  return [odd.length === 0 ? whole : [...new Set(odd)].join(', '), ...said].join('; ');
}
