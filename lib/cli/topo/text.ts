/**
 * The tree for a terminal, one function per line. Links of the route are drawn with heavy lines, so they are visible
 * without colour too:
 *
 *     host bridge 0000:00  not on the allow-list
 *     ├─ 0000:00:00.0  conventional
 *     └─ 0000:00:01.0  root-port
 *        └─ 0000:01:00.0  upstream-port
 *           ┣━ 0000:02:00.0  downstream-port
 *           ┃  ┗━ 0000:03:00.0  nvme0  CMB 16 MiB  nvme0n1 1 GiB  ◀ source, provider
 *           ┗━ 0000:02:01.0  downstream-port
 *              ┗━ 0000:04:00.0  nvme1  CMB 16 MiB  nvme1n1 1 GiB  ◀ destination
 */

import type { Mark, TopoModel, TopoNode } from '../../page/tree.js';
import { type RouteKind, type RouteView, routeWords } from '../../page/way.js';
import { type Colours, printable, wrap } from '../format.js';

type Paint = (text: string) => string;

/** The text below the tree is wrapped to `width`; the tree itself is never wrapped. */
export function drawText(
  { host, iommu, route, overSeveral }: TopoModel,
  colour: Colours,
  width = Number.POSITIVE_INFINITY,
): string {
  const lines = [`${colour.bold('CPU')} ${printable(host.subtitle)}, IOMMU ${iommu}`];
  if (host.route !== null) lines[0] += `  ${painter(host.route, colour)('◀ host memory')}`;
  for (const bridge of host.children) {
    const parts = [
      `${bold(bridge, colour)('host bridge')} ${bridge.title}`,
      ...(bridge.ids === null ? [] : [bridge.ids]),
      ...bridge.marks.map((mark) => markText(mark, colour)),
    ];
    lines.push(parts.join('  '));
    drawLevel(bridge.children, '', lines, colour);
  }
  if (host.children.length === 0)
    lines.push('no PCI functions are known (--machine switch shows an emulated machine)');
  if (overSeveral.length > 0) {
    lines.push('', ...overSeveral.flatMap((text) => wrap(printable(text), width, '', '  ')));
  }
  if (route !== null) lines.push('', ...routeText(route, colour, width));
  return lines.join('\n');
}

/** Draws the nodes below `indent`; the heavy vertical line extends down to the last child that is on the route. */
function drawLevel(level: readonly TopoNode[], indent: string, lines: string[], colour: Colours): void {
  const routed = level.findLastIndex((node) => node.link !== null);
  const passing = routed < 0 ? null : level[routed]!.link!;
  for (const [i, node] of level.entries()) {
    const last = i === level.length - 1;
    const heavy = painter(passing, colour);
    let joint = last ? '└─ ' : '├─ ';
    if (node.link !== null) {
      const corner = i < routed ? '┣━ ' : last ? '┗━ ' : '┡━ ';
      joint = painter(node.link, colour)(corner);
    } else if (i < routed) joint = `${heavy('┠')}─ `;
    lines.push(`${indent}${joint}${describe(node, colour)}`);
    const rail = i < routed ? `${heavy('┃')}  ` : last ? '   ' : '│  ';
    drawLevel(node.children, `${indent}${rail}`, lines, colour);
  }
}

function describe(node: TopoNode, colour: Colours): string {
  const { kind, title, subtitle, dev, roles, route } = node;
  if (kind === 'others') return colour.dim(`${title} that ${subtitle}`);
  // For a provider that is not a drive, its kind is more useful than its port type.
  const other = kind === 'function' && dev?.p2pmem != null ? subtitle : (dev?.portType ?? '');
  const name = kind === 'drive' ? bold(node, colour)(printable(title)) : other;
  const parts = [
    kind === 'drive' ? subtitle : title,
    name,
    ...node.marks.map((mark) => markText(mark, colour)),
    ...node.lines.map(printable),
  ];
  if (roles.length > 0) parts.push(painter(route, colour)(`◀ ${roles.join(', ')}`));
  return parts.join('  ');
}

function markText({ kind, text }: Mark, colour: Colours): string {
  switch (kind) {
    case 'acs':
      return colour.yellow(`${text} peer traffic up`);
    case 'acs-unknown':
    case 'cmb-off':
    case 'passes-unknown':
      return colour.yellow(text);
    case 'cmb':
    case 'passes':
      return colour.green(text);
    case 'passes-not':
      return colour.yellow(`${text}: passes no peer traffic`);
  }
}

function routeText(route: RouteView, colour: Colours, width: number): string[] {
  const paint = painter(route.kind, colour);
  const distance = route.distance === null || route.distance < 0 ? '' : `, distance ${route.distance}`;
  const said = (label: string, text: string) =>
    wrap(printable(text), width, label === '' ? '  ' : `  ${colour.yellow(label)}: `, '  ');
  return [
    `${colour.bold('route')} ${printable(route.question)}: ${paint(`${routeWords[route.kind]}${distance}`)}`,
    ...said('', route.reason),
    ...route.notes.flatMap((note) => said('note', note)),
    ...route.remedies.flatMap((remedy) => said('remedy', remedy)),
  ];
}

function painter(kind: RouteKind | null, colour: Colours): Paint {
  switch (kind) {
    case null:
      return (text) => text;
    case 'bus':
      return colour.green;
    case 'host-bridge':
      return colour.cyan;
    case 'unknown':
      return colour.magenta;
    case 'host-memory':
      return colour.yellow;
    case 'refused':
      return colour.red;
  }
}

function bold(node: TopoNode, colour: Colours): Paint {
  const paint = painter(node.route, colour);
  return (text) => colour.bold(paint(text));
}
