/** `explain --format html` */
import type { System } from '../../index.js';
import type { PageFacts } from '../../page/facts.js';
import { resolving } from '../errors.js';
import { inspectMachine, type MachineOptions, machineName } from '../options.js';
import { gatherFacts } from './gather.js';
import { pageOf } from './html.js';

export interface Question {
  readonly provider: string | undefined;
  readonly clients: readonly string[];
  readonly options: MachineOptions;
  /** The same answer as text. */
  readonly text: (system: System) => Promise<readonly string[]>;
}

export async function explainPage({ provider, clients, options, text }: Question): Promise<string> {
  const system = await inspectMachine(options, 'data');
  try {
    const name = machineName(system, options);
    const asked = await resolving(() => askedOf(system, provider, clients));
    const lines = await text(system);
    return await pageOf({
      title: `Peer-to-peer DMA on ${name}`,
      facts: await gatherFacts(system, options, { name, asked }),
      text: lines.join('\n'),
    });
  } finally {
    await system.close();
  }
}

/** Functions by their addresses; what lies above them as it was named. */
function askedOf(
  system: System,
  provider: string | undefined,
  clients: readonly string[],
): PageFacts['asked'] {
  if (provider === undefined) return { provider: null, clients: [] };
  const { provider: of, clients: verdicts, unreachable = [] } = system.explain(provider, clients);
  const names = [
    ...verdicts.map(({ asked, bdf, stack }) => (stack.length === 0 ? bdf : asked)),
    ...unreachable.map(({ asked }) => asked),
  ];
  return { provider: of, clients: [...new Set(names)] };
}
