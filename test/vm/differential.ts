/**
 * The emulator's half of the scenarios beside the kernel's: what is equal, what is excused, and the kernel's half as it
 * was recorded, so that the emulator is held to it where no kernel is booted.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { errnoName } from '../../lib/base/errno.js';
import type { BootResult } from './boot.js';
import { emulate } from './emulated-probe.js';
import { vmFile } from './host.js';
import { machineByName } from './machines.js';
import { loadScenarios, type Outcome, type Outcomes, type Scenario, scenariosOf } from './scenarios.js';

const RECORDED = vmFile('recorded-answers.json');

export interface Compared {
  readonly scenario: Scenario;
  readonly emulator: Outcome;
  readonly kernel: Outcome | null;
  readonly verdict: Verdict;
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

export function readRecorded(): Outcomes {
  return existsSync(RECORDED) ? (JSON.parse(readFileSync(RECORDED, 'utf8')) as Outcomes) : {};
}

/** Keep what kernels answered, in the order of the scenarios; those of machines not booted stay as they were. */
export function record(answered: Outcomes): void {
  const all = { ...readRecorded(), ...answered };
  const lines = loadScenarios().flatMap(({ name }) => {
    const outcome = all[name];
    return outcome === undefined ? [] : [`  ${JSON.stringify(name)}: ${JSON.stringify(outcome)}`];
  });
  writeFileSync(RECORDED, `{\n${lines.join(',\n')}\n}\n`);
}

/** What the guest of a boot answered; null if its plan has no scenarios. */
export function answersOf(result: BootResult): Outcomes | null {
  const file = path.join(result.folder, 'out/scenarios.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Outcomes) : null;
}

/** Run a machine's scenarios on the emulator and put the kernel's answers beside. */
export async function compare(machine: string, kernel: Outcomes): Promise<Compared[]> {
  const scenarios = scenariosOf(machine);
  const emulator = await emulate(machineByName(machine), scenarios);
  return scenarios.map((scenario) => {
    const [mine, theirs] = [emulator[scenario.name]!, kernel[scenario.name] ?? null];
    const equal = isDeepStrictEqual(mine, theirs);
    const excused = scenario.excused !== null;
    const different = excused && theirs !== null ? 'excused' : 'unequal';
    const verdict = equal ? (excused ? 'needless' : 'equal') : different;
    return { scenario, emulator: mine, kernel: theirs, verdict };
  });
}

/** One line for each: scenario, what the emulator answered, what the kernel answered, verdict. */
export function table(rows: readonly Compared[]): string[] {
  return rows.map(({ scenario, emulator, kernel, verdict }) => {
    const [mine, theirs] = [
      inShort(scenario, emulator),
      kernel === null ? 'not asked' : inShort(scenario, kernel),
    ];
    const reason = verdict === 'excused' ? `: ${scenario.excused}` : '';
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
