/** What the texts of `explain` have in common: whose rules they give, and the names and colours of verdicts. */
import type { ClientVerdict, Explanation, System } from '../index.js';
import { type Colours, printable, wrap } from './format.js';

/** The kernel whose rules were applied. */
export function kernelOf({ topology }: System): string | null {
  return topology.kernel?.text ?? null;
}

export function rules({ system, colour, width }: View, all: readonly Explanation[]): string[] {
  const kernel = kernelOf(system);
  const whose = kernel === null ? 'which kernel this is is not known' : `rules of Linux ${printable(kernel)}`;
  const tried = all.some(({ clients }) => clients.some((client) => client.tried !== null));
  return wrap(`${whose}; tried: ${tried ? 'yes' : 'no'}`, width).map(colour.dim);
}

export interface View {
  readonly system: System;
  readonly colour: Colours;
  readonly width: number;
}

/** `nvme0 0000:03:00.0`, or only the address. */
export function nameOf({ system }: View, bdf: string): string {
  const controller = system.controllers.find(({ pdev }) => pdev?.bdf === bdf);
  return controller === undefined || controller.name === bdf ? bdf : `${printable(controller.name)} ${bdf}`;
}

export function paint(colour: Colours, client: ClientVerdict): (text: string) => string {
  const { mapType, refusal } = client;
  if (mapType === 'NOT_SUPPORTED' || refusal !== null) return colour.red;
  return mapType === 'BUS_ADDR' && !isGuess(client) ? colour.green : colour.yellow;
}

/** The verdict depends on ACS settings that could not be read. */
export function isGuess({ rule }: ClientVerdict): boolean {
  return rule === 'acs-unknown';
}
