import type { Command } from 'commander';
import type { Explanation } from '../index.js';
import { type Colours, colours, printable, table } from './format.js';
import { type MachineOptions, openMachine, withMachine } from './options.js';

export function addExplain(program: Command): void {
  const command = program
    .command('explain')
    .description('why a provider and its clients can, or cannot, do peer-to-peer DMA')
    .argument('<provider>', 'whose memory: a PCI address or a controller’s name')
    .argument('<client...>', 'who does DMA to it');
  withMachine(command).action(async (provider: string, clients: string[], options: MachineOptions) => {
    const system = await openMachine(options);
    try {
      const explanation = system.explain(provider, clients);
      const text = options.json
        ? JSON.stringify(explanation)
        : describe(explanation, colours(process.stdout));
      process.stdout.write(`${text}\n`);
    } finally {
      await system.close();
    }
  });
}

function describe({ provider, distance, note, clients }: Explanation, colour: Colours): string {
  const rows = clients.map((client) => [
    client.bdf,
    client.mapType === 'NOT_SUPPORTED' ? colour.red(client.mapType) : colour.green(client.mapType),
    client.distance < 0 ? '-' : String(client.distance),
    client.acsKnown ? client.acs.join(' ') || 'clear' : 'unknown',
  ]);
  const details = clients.flatMap((client) => [
    '',
    `${colour.bold(client.bdf)}: ${printable(client.reason)}`,
    ...(client.remedy === null ? [] : [`  ${colour.yellow('remedy')}: ${printable(client.remedy)}`]),
  ]);
  return [
    `provider ${colour.bold(provider)}, distance ${distance < 0 ? 'none: not supported for all of these' : distance}`,
    ...(note === null ? [] : [colour.yellow(printable(note))]),
    '',
    table(['client', 'map type', 'distance', 'ACS redirect'], rows, colour),
    ...details,
  ].join('\n');
}
