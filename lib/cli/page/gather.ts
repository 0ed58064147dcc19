/** The facts of a page: the machine as it is (or under the kernel of `--kernel`), and under each release to choose from. */
import { KERNEL_RELEASES, type System } from '../../index.js';
import { factsOf, type MachineFacts, type PageFacts } from '../../page/facts.js';
import { inspectMachine, type MachineOptions } from '../options.js';
import { packageVersion } from '../version.js';

export interface Asked {
  readonly name: string;
  readonly asked: PageFacts['asked'];
}

export async function gatherFacts(
  system: System,
  options: MachineOptions,
  { name, asked }: Asked,
): Promise<PageFacts> {
  const machines = new Map<string, number>();
  const add = (of: System) => {
    const text = JSON.stringify(factsOf(of, asked.clients));
    const index = machines.get(text) ?? machines.size;
    machines.set(text, index);
    return { release: of.topology.kernel?.text ?? null, machine: index };
  };
  const kernels = [add(system)];
  const { kernel: _, ...rest } = options;
  for (const kernel of KERNEL_RELEASES) {
    const other = await inspectMachine({ ...rest, kernel }, 'data');
    try {
      kernels.push(add(other));
    } finally {
      await other.close();
    }
  }
  return {
    name,
    backend: system.backend,
    machine: system.machine,
    notice: system.notice,
    evidence: system.evidence,
    version: packageVersion(),
    kernels,
    machines: [...machines.keys()].map((text) => JSON.parse(text) as MachineFacts),
    asked,
  };
}
