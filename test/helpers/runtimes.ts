/** Other runtimes than the one that runs the tests. */
import { createRequire } from 'node:module';

export const { names, runtime } = createRequire(import.meta.url)('../../../scripts/runtimes.cjs') as {
  names: readonly string[];
  runtime(name: string, kindOfMachine?: string): string;
};

/** The binary of a runtime of test/runtimes/versions.json; or why it cannot be had. */
export function fetched(name: string, kindOfMachine?: string): { binary: string; skip: string | false } {
  try {
    return { binary: runtime(name, kindOfMachine), skip: false };
  } catch (error) {
    return { binary: '', skip: (error as Error).message };
  }
}
