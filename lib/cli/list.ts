import type { Command } from 'commander';
import { bytes, colours, printable, table } from './format.js';
import { type MachineOptions, openMachine, withMachine } from './options.js';

export function addList(program: Command): void {
  withMachine(
    program.command('list').description('the NVMe controllers, their namespaces and their CMBs'),
  ).action(async (options: MachineOptions) => {
    const system = await openMachine(options);
    try {
      const controllers = system.controllers.map(({ name, pdev, transport, model, namespaces, cmb }) => ({
        name,
        bdf: pdev?.bdf ?? null,
        transport,
        model,
        namespaces,
        cmb: cmb === null ? null : { ...cmb, available: pdev?.p2pmem?.available ?? 0 },
      }));
      if (options.json) {
        process.stdout.write(`${JSON.stringify({ backend: system.backend, controllers })}\n`);
        return;
      }
      if (controllers.length === 0) {
        process.stdout.write('no NVMe controllers (try --backend emulator)\n');
        return;
      }
      const rows = controllers.flatMap((c) =>
        (c.namespaces.length > 0 ? c.namespaces : [null]).map((ns, i) => [
          i === 0 ? printable(c.name) : '',
          i === 0 ? (c.bdf ?? `(${printable(c.transport)})`) : '',
          ns === null ? '-' : printable(ns.name),
          ns === null ? '-' : bytes(ns.size),
          ns === null ? '-' : String(ns.logicalBlockSize),
          i === 0 ? cmbText(c.cmb) : '',
        ]),
      );
      const head = ['controller', 'address', 'namespace', 'size', 'block', 'CMB'];
      process.stdout.write(`${table(head, rows, colours(process.stdout))}\n`);
    } finally {
      await system.close();
    }
  });
}

function cmbText(
  cmb: { size: number; available: number; published: boolean; unusable: string | null } | null,
): string {
  if (cmb === null) return 'none';
  if (!cmb.published)
    return `${bytes(cmb.size)}, not published: ${printable(cmb.unusable ?? 'no reason known')}`;
  return `${bytes(cmb.size)}, ${bytes(cmb.available)} free`;
}
