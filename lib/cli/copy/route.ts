import type { PathBytes, Receipt, System } from '../../index.js';
import { bytes, printable } from '../format.js';
import { fits, type View } from '../table.js';

/**
 * The route that a copy's bytes took:
 *
 *     nvme0n1 ──▶ CMB of nvme0 ══ PCIe switch ══▶ nvme1n1
 *     host DRAM: 0 B
 *
 * If that is too wide, the source is on a line of its own.
 */
export function drawRoute(
  system: System,
  receipt: Receipt,
  source: string,
  destinations: readonly string[],
  { colour, width }: View,
): string[] {
  const memory = place(system, receipt);
  const paint = receipt.transport === 'host-memory' ? colour.yellow : colour.green;
  const link = {
    'p2p-bus': '══ PCIe, peer to peer ══▶',
    'p2p-host-bridge': '══ PCIe, host bridge ══▶',
    'host-memory': '──▶',
  }[receipt.transport];
  const drawn = (left: string): string[] => {
    const first = `${left}${paint(`[ ${memory} ]`)} ${paint(link)} ${short(destinations[0] ?? '')}`;
    const indent = ' '.repeat(left.length + memory.length + 4);
    const rest = destinations.slice(1).map((to) => `${indent} ${paint(link)} ${short(to)}`);
    return [first, ...rest, colour.dim(`${' '.repeat(left.length)}host DRAM: ${hostDram(receipt.path)}`)];
  };
  const whole = drawn(`${short(source)} ──▶ `);
  return fits(whole, width) ? whole : [short(source), ...drawn(' ──▶ ')];
}

function hostDram({ hostDram: known, unproven = 0 }: PathBytes): string {
  if (unproven > 0) return `not known (${bytes(unproven)} are not proven to have gone directly)`;
  return known === 0 ? 'untouched' : bytes(known);
}

function place(system: System, receipt: Receipt): string {
  if (receipt.provider === null) return 'host DRAM';
  const controller = system.controllers.find((c) => c.pdev?.bdf === receipt.provider);
  return `CMB of ${controller === undefined ? receipt.provider : `${printable(controller.name)} ${receipt.provider}`}`;
}

function short(path: string): string {
  const name = path.includes('/') && !path.startsWith('/dev/') ? path.slice(path.lastIndexOf('/') + 1) : path;
  return printable(name);
}
