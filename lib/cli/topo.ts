import type { Command } from 'commander';
import type { PciDev, System } from '../index.js';
import { bytes, type Colours, colours, printable } from './format.js';
import { type MachineOptions, openMachine, withMachine } from './options.js';

const PCI_ACS_RR = 0x04;
const PCI_ACS_CR = 0x08;
const PCI_ACS_EC = 0x20;

export function addTopo(program: Command): void {
  withMachine(
    program.command('topo').description('the PCI tree: host bridges, ports, switches, drives, CMBs'),
  ).action(async (options: MachineOptions) => {
    const system = await openMachine(options);
    try {
      const text = options.json
        ? JSON.stringify(asJson(system))
        : drawTree(system, colours(process.stdout)).join('\n');
      process.stdout.write(`${text}\n`);
    } finally {
      await system.close();
    }
  });
}

function asJson({ backend, topology }: System): unknown {
  return {
    backend,
    cpu: topology.cpu,
    iommu: topology.iommu,
    functions: topology.functions.map((dev) => ({
      bdf: dev.bdf,
      portType: dev.portType,
      upstream: dev.upstream?.bdf ?? null,
      hostBridge: { domain: dev.hostBridge.domain, bus: dev.hostBridge.bus },
      vendor: dev.vendor,
      device: dev.device,
      class: dev.class,
      acs: dev.acs,
      numaNode: dev.numaNode,
      iommuGroup: dev.iommuGroup,
      p2pmem: dev.p2pmem,
    })),
  };
}

/** The tree, a function a line, each with its bars of indentation. */
function drawTree(system: System, colour: Colours): string[] {
  const { topology } = system;
  const cpu = `${topology.cpu.vendor ?? 'unknown CPU'}${topology.cpu.family === null ? '' : `, family ${topology.cpu.family}`}`;
  const lines = [`${colour.bold('CPU')} ${printable(cpu)}, IOMMU ${topology.iommu}`];
  for (const bridge of topology.hostBridges) {
    const name = `${bridge.domain.toString(16).padStart(4, '0')}:${bridge.bus.toString(16).padStart(2, '0')}`;
    lines.push(`${colour.bold('host bridge')} ${name}`);
    const roots = topology.functions.filter((f) => f.upstream === null && f.hostBridge === bridge);
    drawLevel(system, roots, '', lines, colour);
  }
  return lines;
}

function drawLevel(
  system: System,
  level: readonly PciDev[],
  indent: string,
  lines: string[],
  colour: Colours,
): void {
  for (const [i, dev] of level.entries()) {
    const last = i === level.length - 1;
    lines.push(`${indent}${last ? '└─ ' : '├─ '}${describe(system, dev, colour)}`);
    const below = system.topology.functions.filter((f) => f.upstream === dev);
    drawLevel(system, below, `${indent}${last ? '   ' : '│  '}`, lines, colour);
  }
}

function describe(system: System, dev: PciDev, colour: Colours): string {
  const controller = system.controllers.find((c) => c.pdev?.bdf === dev.bdf);
  const parts = [dev.bdf, controller === undefined ? dev.portType : colour.bold(printable(controller.name))];
  if (dev.acs === 'unknown') parts.push(colour.yellow('ACS unknown'));
  else if (dev.acs !== 'none' && (dev.acs & (PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC)) !== 0) {
    parts.push(colour.yellow('ACS redirects peer traffic up'));
  }
  if (dev.p2pmem !== null) {
    const cmb = `CMB ${bytes(dev.p2pmem.size)}`;
    parts.push(dev.p2pmem.published ? colour.green(cmb) : colour.yellow(`${cmb}, not published`));
  }
  for (const ns of controller?.namespaces ?? []) parts.push(`${printable(ns.name)} ${bytes(ns.size)}`);
  return parts.join('  ');
}
