/** The tree for Graphviz: `p2pdma topo --format dot | dot -Tpng`. */

import type { TopoModel, TopoNode } from '../../page/tree.js';
import { type RouteKind, routeWords } from '../../page/way.js';
import { printable } from '../format.js';

const look: Readonly<Record<RouteKind, { color: string; fill: string; style: string }>> = {
  bus: { color: '#1a7f37', fill: '#dafbe1', style: 'solid' },
  'host-bridge': { color: '#0969da', fill: '#ddf4ff', style: 'solid' },
  unknown: { color: '#8250df', fill: '#fbefff', style: 'dotted' },
  'host-memory': { color: '#9a6700', fill: '#fff8c5', style: 'dashed' },
  refused: { color: '#cf222e', fill: '#ffebe9', style: 'dashed' },
};

export function drawDot(model: TopoModel): string {
  const { route } = model;
  const label = [
    ...(model.notice === null ? [] : [model.notice]),
    ...(route === null
      ? [`PCI topology of ${model.name}`]
      : [`${route.question}: ${routeWords[route.kind]}`, route.reason]),
  ];
  const lines = [
    `digraph ${quoted([model.name])} {`,
    '  rankdir=LR;',
    '  labelloc=t;',
    '  fontname="sans-serif";',
    `  label=${quoted(label)};`,
    '  node [shape=box, style="rounded,filled", fillcolor="#f6f8fa", color="#8c959f", fontname="sans-serif"];',
    '  edge [dir=none, color="#8c959f"];',
  ];
  draw(model.host, '  ', lines);
  lines.push('}');
  return lines.join('\n');
}

function draw(node: TopoNode, indent: string, lines: string[]): void {
  const switchPorts = node.dev?.portType === 'upstream-port' ? node.children : [];
  if (switchPorts.length > 0) {
    lines.push(`${indent}subgraph ${quoted([`cluster ${node.id}`])} {`, `${indent}  label="PCIe switch";`);
    for (const port of [node, ...switchPorts]) lines.push(`${indent}  ${statement(port)}`);
    lines.push(`${indent}}`);
  } else lines.push(`${indent}${statement(node)}`);
  for (const child of node.children) {
    draw(child, indent, lines);
    const { color, style } = child.link === null ? { color: null, style: null } : look[child.link];
    const how = color === null ? '' : ` [color="${color}", style=${style}, penwidth=3]`;
    lines.push(`${indent}${quoted([node.id])} -> ${quoted([child.id])}${how};`);
  }
}

function statement(node: TopoNode): string {
  const label = [node.title, node.subtitle, ...node.marks.map((mark) => mark.text), ...node.lines];
  if (node.roles.length > 0) label.push(`[${node.roles.join(', ')}]`);
  const { color, fill } = node.route === null ? { color: null, fill: null } : look[node.route];
  const how = color === null ? '' : `, color="${color}", fillcolor="${fill}", penwidth=2`;
  return `${quoted([node.id])} [label=${quoted(label)}${how}];`;
}

/** A quoted ID of the DOT language; lines are separated by its `\n`. */
function quoted(lines: readonly string[]): string {
  return `"${lines.map((line) => printable(line).replace(/[\\"]/g, '\\$&')).join('\\n')}"`;
}
