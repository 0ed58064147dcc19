import type { BootOptions } from './boot.js';
import { vmMachines } from './machines.js';

/**
 * What is booted: a machine, and the compiled test files (relative to test/vm) that run in it in this order.
 * A file of the library's own suites is named from here too: `'../conformance/native.test.js'`.
 */
export interface Plan
  extends Pick<
    BootOptions,
    'machine' | 'tests' | 'limitSeconds' | 'nodeFlags' | 'data' | 'memoryMiB' | 'kernelArgs'
  > {}

export const plans: readonly Plan[] = [
  { machine: vmMachines.switch, tests: ['guest/smoke.test.js', 'guest/facts.test.js'] },
  { machine: vmMachines['root-ports'], tests: ['guest/facts-root-ports.test.js'] },
];
