/**
 * node dist/test/sim/planted.js [NAME…]: plants each fault in a copy of the built package, and counts the seeds from 1 on until
 * the simulation finds it. The results are kept in test/sim/planted.json, from which docs/simulation.md has its table.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { CANARIES, type PlantedFault } from './canaries.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
export const RESULTS = join(root, 'test/sim/planted.json');
/** Within so many seeds a planted fault has to be found. */
export const MOST_SEEDS = 1000;

export interface Found {
  /** How many seeds it took, from 1 on. */
  readonly seeds: number;
  /** What the simulation said first. */
  readonly said: string;
}

/** Plays seeds with the fault planted. Null: it was not found. */
export function find(fault: PlantedFault, from = 1, seeds = MOST_SEEDS): Found | null {
  const args = ['--from', String(from), '--seeds', String(seeds), '--until-failure', '--lines'];
  const { stdout, stderr, status } = runPlanted(fault, 'dist/test/sim/main.js', args);
  const line = stdout.split('\n').find((text) => text.startsWith('{"seed"'));
  if (line === undefined) {
    // A fault may be so bad that it ends the process.
    if (status !== 0)
      throw new Error(`${fault.name}: the simulation itself ended with ${status}:\n${stderr}`);
    return null;
  }
  const { seed, wrong } = JSON.parse(line);
  return { seeds: seed - from + 1, said: String(wrong[0]).split('\n')[0]! };
}

/** Runs a module of a copy of the built package in which the fault is planted. */
export function runPlanted(fault: PlantedFault, module: string, args: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'p2pdma-planted-'));
  try {
    for (const part of ['dist/lib', 'dist/test/sim', 'package.json'])
      cpSync(join(root, part), join(folder, part), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    plant(fault, join(folder, 'dist/lib', fault.file));
    return spawnSync(process.execPath, [join(folder, module), ...args], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function plant({ name, find, replace }: PlantedFault, path: string): void {
  const text = readFileSync(path, 'utf8');
  if (text.split(find).length !== 2) throw new Error(`${name}: '${find}' is not once in ${path}`);
  writeFileSync(
    path,
    text.replace(find, () => replace),
  );
}

function main(names: readonly string[]): void {
  const results: Record<string, Found> = JSON.parse(readFileSync(RESULTS, 'utf8'));
  for (const fault of CANARIES) {
    if (names.length > 0 && !names.includes(fault.name)) continue;
    const found = find(fault);
    console.log(
      `${fault.name}: ${found === null ? `NOT FOUND in ${MOST_SEEDS} seeds` : `${found.seeds} seeds: ${found.said}`}`,
    );
    if (found === null) process.exitCode = 1;
    else results[fault.name] = found;
  }
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main(process.argv.slice(2));
