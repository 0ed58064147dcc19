import { readFileSync } from 'node:fs';
import { vmFile } from './host.js';

/**
 * Scenarios that the emulator and a booted kernel answer alike, or that say why not. The data is scenarios.json:
 *
 *     scenario   = machine, operation, provider, source, destination, and what the operation lets one choose
 *     operation  = questions in the language of probe.c, with
 *                    $P:allocate $S:disk $D:char $D:ctrl   doors of provider, source and destination
 *                    $bytes $at …                          from the scenario's `with`, else from `defaults`
 *                    %1 %2 …                               patterns that no other scenario has
 *                  and two questions that probe.c leaves to its caller: `available X`, `remove X`
 *
 * All scenarios of a machine run on one boot of it, in the order of the file, so that what a kernel says or
 * decides only once is compared too. Those marked `after` come last: they take drives away.
 */
export interface Scenario {
  /** Unique: `'switch: copy nvme0: nvme0 → nvme1 bytes=4096'`. */
  readonly name: string;
  readonly machine: string;
  readonly operation: string;
  /** Drives by the machine's names. */
  readonly provider: string;
  readonly source: string;
  readonly destination: string;
  /** Ready to ask, but for the doors: `'map 0 nvme0:allocate 65536 0 shared'`. */
  readonly questions: readonly string[];
  /** How the process that asked ends; null: by itself, with everything still mapped and open. */
  readonly signal: 'SIGKILL' | null;
  readonly after: boolean;
  /** Why emulator and kernel may differ; null: they may not. */
  readonly excused: string | null;
}

/** What came of a scenario. */
export interface Outcome {
  /**
   * One per question: `'ok N'`, `'err ERRNO'`, `'status N'` (NVMe status type and code), `'differs'` (data that is not
   * the pattern), `'died'` (the process was ended by a signal; later questions are not asked).
   */
  readonly answers: readonly string[];
  /** What the kernel newly said about peer-to-peer, as `Said` spells it. */
  readonly said: readonly string[];
  /** Of each drive, `available` of its pool before the first question and after the process's end; null: no pool. */
  readonly before: Readonly<Record<string, number | null>>;
  readonly after: Readonly<Record<string, number | null>>;
}

export type Outcomes = Readonly<Record<string, Outcome>>;

/** The kernel's warnings about a pair, in both spellings. */
export const said = {
  unreachable: (client: string, provider: string) => `${client} cannot reach ${provider}`,
  redirected: (client: string, provider: string, ports: string) =>
    `ACS redirects between ${client} and ${provider}: ${ports}`,
};

interface Newer {
  readonly operations: readonly string[];
  readonly why: string;
  /** A question's first word, the emulator's answer and the kernel's: these may differ, and nothing else may. */
  readonly instead: readonly (readonly [word: string, emulator: string, kernel: string])[];
}

interface ScenarioFile {
  /** What kernels from 7.2 on do otherwise, by operation. */
  readonly newer: readonly Newer[];
  readonly defaults: Readonly<Record<string, string>>;
  readonly operations: Readonly<
    Record<string, { readonly what: string; readonly signal?: 'SIGKILL'; readonly ask: readonly string[] }>
  >;
  readonly scenarios: readonly {
    readonly machine: string;
    readonly operation: string;
    readonly provider: string;
    readonly source: string;
    readonly destination: string;
    readonly with?: Readonly<Record<string, string>>;
    readonly after?: boolean;
    readonly excused?: string;
  }[];
}

const file = JSON.parse(readFileSync(vmFile('scenarios.json'), 'utf8')) as ScenarioFile;

/** Differences between kernels from 7.2 on and 6.12 that the emulator does not model. */
export const NEWER = file.newer;

export function loadScenarios(): Scenario[] {
  const names = new Set<string>();
  return file.scenarios.map((row, i) => {
    const operation = file.operations[row.operation];
    if (operation === undefined) throw new Error(`scenario ${i}: no operation is called ${row.operation}`);
    const chosen = Object.entries(row.with ?? {}).map(([key, value]) => ` ${key}=${value}`);
    const { machine, provider, source, destination } = row;
    const when = row.after === true ? ' [after]' : '';
    const name = `${machine}: ${row.operation} ${provider}: ${source} → ${destination}${chosen.join('')}${when}`;
    if (names.has(name)) throw new Error(`scenario ${i}: there are two of ${name}`);
    names.add(name);
    const words: Record<string, string> = {
      ...file.defaults,
      ...row.with,
      P: provider,
      S: source,
      D: destination,
    };
    const questions = operation.ask.map((question) =>
      question
        .replaceAll(/\$(\w+)/g, (whole, word: string) => {
          if (words[word] === undefined) throw new Error(`${name}: nothing is called ${whole}`);
          return words[word];
        })
        .replaceAll(/%(\d)/g, (_, n: string) => String(1000 + i * 10 + Number(n))),
    );
    return {
      ...{ name, machine, operation: row.operation, provider, source, destination, questions },
      signal: operation.signal ?? null,
      after: row.after ?? false,
      excused: row.excused ?? null,
    };
  });
}

/** A machine's scenarios in the order in which they run. */
export function scenariosOf(machine: string): Scenario[] {
  const own = loadScenarios().filter((scenario) => scenario.machine === machine);
  return [...own.filter(({ after }) => !after), ...own.filter(({ after }) => after)];
}

/** Answers in the spelling of `Outcome`. */
export function normalised(question: string, answer: string): string {
  const [word, number] = answer.split(' ');
  if (word === 'differs') return 'differs';
  // NVME_IOCTL adds "do not retry" and "more" to the status; type and code are what a command ended with.
  if (word === 'status') return `status ${Number(number) & 0x7ff}`;
  // At the library's seam, and in its native backend, a drive without p2pmem/allocate is one without memory.
  if (question.startsWith('map ') && answer === 'err 2') return 'err 19';
  return answer;
}

/** The process that asks was ended by a signal. */
export class Died extends Error {}

/** What both halves do with a scenario, whoever answers. */
export interface Respondent {
  /** @throws Died */
  ask(question: string): Promise<string>;
  end(signal: 'SIGKILL' | null): Promise<void>;
}

export interface Surroundings {
  respondent(): Promise<Respondent>;
  available(): Promise<Record<string, number | null>>;
  /** What was said since the last call. */
  said(): Promise<string[]>;
}

export async function runScenario(scenario: Scenario, around: Surroundings): Promise<Outcome> {
  await around.said();
  const before = await around.available();
  const respondent = await around.respondent();
  const answers: string[] = [];
  for (const question of scenario.questions) {
    try {
      answers.push(normalised(question, await respondent.ask(question)));
    } catch (error) {
      if (!(error instanceof Died)) throw error;
      answers.push('died');
      break;
    }
  }
  await respondent.end(scenario.signal);
  return { answers, said: (await around.said()).sort(), before, after: await around.available() };
}
