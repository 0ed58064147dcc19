/**
 * `npm run test:vm`: build what is missing, boot each plan's machine, check the witness, print a summary.
 * Exit 0 only if everything ran and passed; 1 if something failed; 2 if the referee cannot work here.
 *
 *   --only PLAN,…    these alone
 *   --kernels        Debian's own kernels too, which are fetched first (700 MB)
 *   --verbose        print the guests' TAP as it comes
 *   --keep           keep the folders of boots that passed
 *   --record         keep the kernels' answers to the scenarios in recorded-answers/
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { type BootResult, boot } from './boot.js';
import {
  answersOf,
  COUNTS_AS,
  type Compared,
  compare,
  differences,
  type Recorded,
  readRecorded,
  record,
  table,
  totals,
} from './differential.js';
import type { Guest } from './guest/guest.js';
import { cacheFolder, VmError } from './host.js';
import { ensureUserland, type Userland } from './initramfs.js';
import { ensureKernel, type Kernel, type Series } from './kernel.js';
import { type Image, packImage } from './pack.js';
import { ensurePackages } from './packages.js';
import { type Plan, plans } from './plans.js';
import { type Mark, readTrace, sections, type Verdict, verdicts } from './witness.js';

const here = path.dirname(fileURLToPath(import.meta.url));

/** The witness's word on a boot: one verdict per marked section. */
export async function witnessOf(result: BootResult): Promise<Verdict[]> {
  const marksFile = path.join(result.folder, 'out/marks.jsonl');
  if (!existsSync(marksFile)) return [];
  const marks = readFileSync(marksFile, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Mark);
  const guest = JSON.parse(readFileSync(path.join(result.folder, 'out/guest.json'), 'utf8')) as Guest;
  const windows = guest.drives.flatMap(({ name, cmb }) => (cmb === null ? [] : [{ provider: name, ...cmb }]));
  const drives = new Map(
    result.qemu.drives.flatMap((d) => d.namespaces.map((n) => [n.blk, d.name] as const)),
  );
  return verdicts(sections(await readTrace(path.join(result.folder, 'trace.log')), marks, drives, windows));
}

/** The table of a machine's scenarios, and what is wrong with it. */
async function scenariosOnBoth(machine: string, answers: Recorded, say: (line: string) => void) {
  const compared = await compare(machine, answers);
  for (const line of table(compared)) say(`  scenario: ${line}`);
  const failures: string[] = [];
  for (const row of compared) {
    if (COUNTS_AS[row.verdict] !== 'fail') continue;
    failures.push(`scenario: ${row.scenario.name}`);
    for (const line of differences(row)) say(`    ${row.scenario.name}: ${line}`);
  }
  return { compared, failures };
}

/** Recorded answers that are not what a kernel answers. */
function outdated(series: Series, { answers }: Recorded): string[] {
  const recorded = readRecorded(series)?.answers ?? {};
  return Object.keys(answers).filter((name) => !isDeepStrictEqual(recorded[name], answers[name]));
}

/** The referee's own parts are tested first, without a boot. */
function testSelf(): string[] {
  const folder = path.join(here, 'self');
  const failed: string[] = [];
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.test.js'))) {
    const { status, stdout } = spawnSync(
      process.execPath,
      ['--enable-source-maps', path.join(folder, file)],
      {
        encoding: 'utf8',
      },
    );
    if (status !== 0) {
      failed.push(file);
      console.log(stdout);
    }
  }
  return failed;
}

interface Report {
  readonly passed: number;
  /** Transfers that the witness confirms. */
  readonly witnessed: number;
  /** Whose answers the scenarios have; null: none were asked. */
  readonly release: string | null;
  readonly scenarios: readonly Compared[];
  readonly failures: readonly string[];
}

interface Settings {
  readonly kernel: Kernel;
  readonly userland: Userland;
  readonly image: Image;
  readonly verbose?: boolean | undefined;
  readonly keep?: boolean | undefined;
  readonly record?: boolean | undefined;
}

const seriesOf = ({ series }: Plan): Series => series ?? '6.12';

const say = (line: string) => console.log(`# ${line}`);

/** Boot one plan's machine and judge it. Says all of it at the end, because other guests run at the same time. */
async function runPlan(
  { name: plan, machine, tests, alone: _, series = '6.12', optional: _optional, ...more }: Plan,
  { verbose, keep, record: recording, ...parts }: Settings,
): Promise<Report> {
  const said: string[] = [];
  const tell = (line: string) => said.push(line);
  const failures: string[] = [];
  const result = await boot({
    ...parts,
    machine,
    tests,
    ...more,
    ...(verbose === true ? { onLine: (line: string) => console.log(line) } : {}),
  });
  let broken = result.failure;
  let verdictsOfBoot: Verdict[] = [];
  try {
    verdictsOfBoot = machine.iommu === 'translating' ? [] : await witnessOf(result);
  } catch (error) {
    broken ??= (error as Error).message;
  }
  const { passed, failed, skipped } = result.tap;
  const took = `boot ${result.bootSeconds?.toFixed(1) ?? '–'} s, whole ${result.seconds.toFixed(1)} s`;
  tell(`${plan}: ${passed} passed, ${failed.length} failed, ${skipped.length} skipped (${took})`);
  for (const line of skipped) tell(`  skipped: ${line}`);
  for (const difference of result.qemu.differences) tell(`  differs from the description: ${difference}`);
  for (const line of result.notes) tell(`  ${line}`);
  let witnessed = 0;
  for (const { name, objections, summary } of verdictsOfBoot) {
    tell(`  witness: ${name}: ${summary}: ${objections.length === 0 ? 'agrees' : 'OBJECTS'}`);
    for (const objection of objections) tell(`    ${objection}`);
    if (objections.length === 0) witnessed++;
    else failures.push(`${plan}: witness: ${name}`);
  }
  const scenarios: Compared[] = [];
  const answers = answersOf(result);
  if (answers !== null) {
    const { compared, failures: unequal } = await scenariosOnBoth(machine.name, answers, tell);
    scenarios.push(...compared);
    failures.push(...unequal);
    if (recording === true) record(series, answers);
    for (const name of outdated(series, answers)) {
      failures.push(
        `scenario: ${name}: not what recorded-answers/${series}.json says; see it, then use --record`,
      );
    }
  }
  if (broken !== null) failures.push(`${plan}: ${broken.split('\n')[0]}`);
  const clean = broken === null && verdictsOfBoot.every((v) => v.objections.length === 0);
  if (clean && keep !== true) result.discard();
  else tell(`  kept: ${result.folder}`);
  for (const line of said) say(line);
  if (broken !== null) console.log(broken);
  return { passed, witnessed, release: answers?.release ?? null, scenarios, failures };
}

/** Two guests at a time: each keeps little more than one processor busy. Those that measure run alone, last. */
async function inTurns(chosen: readonly Plan[], run: (plan: Plan) => Promise<Report>): Promise<Report[]> {
  const reports: Report[] = [];
  const workers = async (queue: Plan[], count: number) => {
    const work = async () => {
      for (let plan = queue.shift(); plan !== undefined; plan = queue.shift()) reports.push(await run(plan));
    };
    await Promise.all(Array.from({ length: count }, work));
  };
  await workers(
    chosen.filter((plan) => plan.alone !== true),
    2,
  );
  await workers(
    chosen.filter((plan) => plan.alone === true),
    1,
  );
  return reports;
}

/** The kernels of the chosen plans, from the cache or made now. */
async function kernelsOf(chosen: readonly Plan[]): Promise<Map<Series, Kernel>> {
  const kernels = new Map<Series, Kernel>();
  for (const series of new Set(chosen.map(seriesOf))) {
    const kernel = await ensureKernel(series, say);
    kernels.set(series, kernel);
    const cached = kernel.buildSeconds === 0 ? ', from the cache' : '';
    say(`kernel ${series}: ${kernel.source}${cached}`);
  }
  return kernels;
}

/** For each kernel that was asked: how many scenarios, and what came of them. */
function scenariosPerKernel(reports: readonly Report[]): string[] {
  return [...new Set(reports.flatMap(({ release }) => release ?? []))].map((release) => {
    const rows = reports.filter((report) => report.release === release).flatMap((report) => report.scenarios);
    const machines = new Set(rows.map(({ scenario }) => scenario.machine)).size;
    return `scenarios on Linux ${release}: ${rows.length} on ${machines} machines: ${totals(rows)}`;
  });
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      kernels: { type: 'boolean' },
      verbose: { type: 'boolean' },
      keep: { type: 'boolean' },
      record: { type: 'boolean' },
    },
  });
  const started = performance.now();
  const only = values.only?.split(',');
  const chosen = plans.filter(({ name, optional }) =>
    only === undefined ? values.kernels === true || optional !== true : only.includes(name),
  );
  if (chosen.length < (only?.length ?? 1))
    throw new VmError(`--only ${values.only}: there are ${plans.map((p) => p.name).join(', ')}`);

  const failures = testSelf().map((file) => `referee's own test: ${file}`);
  const installed = await ensurePackages(path.join(cacheFolder(), 'packages.log'));
  if (installed.length > 0) say(`packages: installed ${installed.join(' ')}`);
  const kernels = await kernelsOf(chosen);
  const userland = await ensureUserland(say);

  const image = await packImage(userland);
  let reports: Report[];
  try {
    reports = await inTurns(chosen, (plan) =>
      runPlan(plan, { kernel: kernels.get(seriesOf(plan))!, userland, image, ...values }),
    );
  } finally {
    image.discard();
  }
  failures.push(...reports.flatMap((report) => report.failures));
  const sum = (of: (report: Report) => number) => reports.reduce((total, report) => total + of(report), 0);
  for (const line of scenariosPerKernel(reports)) say(line);
  const left = plans.filter((plan) => plan.optional === true && !chosen.includes(plan)).length;
  if (left > 0) say(`not booted: ${left} machines on Debian's own kernels (--kernels)`);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  say(
    `test:vm: ${chosen.length} boots, ${sum((r) => r.passed)} passed in the guests, ${sum((r) => r.witnessed)} transfers confirmed by the witness, ${seconds} s`,
  );
  for (const failure of failures) say(`FAILED ${failure}`);
  return failures.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof VmError)) throw error;
  console.error(`test:vm cannot run here: ${error.message}`);
  process.exitCode = 2;
}
