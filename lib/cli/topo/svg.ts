/** The tree as a self-contained SVG, with its own background, light and dark mode, system fonts, a title and a description. */

import type { Mark, TopoModel, TopoNode } from '../../page/tree.js';
import { ROUTE_KINDS, type RouteKind, type RouteView, routeWords } from '../../page/way.js';
import { clip, type Font, textWidth, wrap, xml } from '../svg-text.js';
import { COLUMN_GAP, type Layout, type LayoutBox, layOut, type Rect } from './layout.js';
import { markTones, styleSheet } from './style.js';

const SCOPE = 'p2pdma-topo';
const MARGIN = 24;
const PAD = 10;
/** The minimum width of the text above the tree, even if the tree needs less. */
const LEAST_WIDTH = 720;
const LONGEST_NAME = 40;

const TITLE: Font = { size: 13, mono: true, bold: true };
const SMALL: Font = { size: 11 };
const SMALL_MONO: Font = { size: 11, mono: true };
const HEADING: Font = { size: 17, bold: true };
const ANSWER: Font = { size: 14, bold: true };
const PROSE: Font = { size: 12.5 };

/** One item in a box, with its position inside the box. */
interface Piece {
  readonly kind: 'text' | 'pill';
  readonly text: string;
  readonly font: Font;
  readonly tone: string;
  readonly x: number;
  /** The top of the row. */
  readonly y: number;
}

interface Content {
  readonly pieces: readonly Piece[];
  readonly width: number;
  readonly height: number;
}

const ROW = { title: 18, text: 15, pill: 22 } as const;
const PILL = { height: 17, side: 7, gap: 6 } as const;

export function drawSvg(model: TopoModel): string {
  const contents = new Map<string, Content>();
  const layout = layOut(toBox(model.host, contents));
  const width = Math.ceil(Math.max(layout.width, LEAST_WIDTH)) + 2 * MARGIN;
  const header = new Column(MARGIN, MARGIN, width - 2 * MARGIN);
  drawHeader(header, model);
  const treeTop = header.y + 14;
  const footer = new Column(MARGIN, treeTop + layout.height + 22, width - 2 * MARGIN);
  drawLegend(footer, model);
  const height = Math.ceil(footer.y + MARGIN);
  const links: { kind: RouteKind | null; svg: string }[] = [];
  collectLinks(model.host, layout, links);
  const rank = (kind: RouteKind | null) => (kind === null ? -1 : ROUTE_KINDS.indexOf(kind));
  links.sort((a, b) => rank(a.kind) - rank(b.kind));

  return [
    `<svg xmlns="http://www.w3.org/2000/svg" class="${SCOPE}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="${SCOPE}-title ${SCOPE}-desc">`,
    `  <title id="${SCOPE}-title">${xml(heading(model))}</title>`,
    `  <desc id="${SCOPE}-desc">${xml(description(model))}</desc>`,
    '  <style>',
    styleSheet(SCOPE),
    '  </style>',
    `  <rect class="paper" width="${width}" height="${height}"/>`,
    ...header.svg,
    `  <g transform="translate(${MARGIN} ${n(treeTop)})">`,
    ...[...layout.frames.values()].flatMap((frame) => drawFrame(frame)),
    ...links.map((link) => link.svg),
    ...drawBoxes(model.host, layout, contents),
    '  </g>',
    ...footer.svg,
    '</svg>',
  ].join('\n');
}

function heading({ name }: TopoModel): string {
  return `PCI topology of ${clip(name, LONGEST_NAME)}`;
}

/** A description of the picture for people who cannot see it. */
function description({ notice, host, route, counts }: TopoModel): string {
  const sentences = [...(notice === null ? [] : [`${notice}.`]), summary(counts)];
  for (const bridge of host.children) {
    sentences.push(`Host bridge ${bridge.title}: ${bridge.marks.map((mark) => mark.text).join(', ')}.`);
  }
  const walk = (node: TopoNode, above: string) => {
    if (node.kind === 'drive') {
      const facts = [node.subtitle, ...node.marks.map((mark) => mark.text), ...node.lines, ...node.roles];
      sentences.push(`${node.title} (${facts.join(', ')}) is below ${above}.`);
    } else if (node.marks.some((mark) => mark.kind === 'acs')) {
      sentences.push(`ACS redirects in ${node.title}.`);
    }
    for (const child of node.children) walk(child, node.title);
  };
  for (const bridge of host.children) for (const child of bridge.children) walk(child, bridge.title);
  if (route !== null) sentences.push(`Route ${route.question}: ${answer(route)}. ${route.reason}`);
  return sentences.join(' ');
}

function summary({ functions, drives, cmbs }: TopoModel['counts']): string {
  const many = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;
  const memory = cmbs === 0 ? 'none with' : `${cmbs} with`;
  return `${many(functions, 'PCI function')}, ${many(drives, 'NVMe controller')}, ${memory} peer memory (CMB).`;
}

function answer({ kind, distance }: RouteView): string {
  return distance === null || distance < 0 ? routeWords[kind] : `${routeWords[kind]}, distance ${distance}`;
}

/** Lines of text, one below the other. */
class Column {
  readonly svg: string[] = [];
  readonly x: number;
  readonly width: number;
  y: number;

  constructor(x: number, y: number, width: number) {
    this.x = x;
    this.y = y;
    this.width = width;
  }

  paragraph(text: string, font: Font, tone: string): void {
    for (const line of wrap(text, this.width, font)) {
      const height = Math.ceil(font.size * 1.45);
      this.svg.push(`  ${textAt({ x: this.x, y: this.y + font.size }, line, font, tone)}`);
      this.y += height;
    }
  }
}

function drawHeader(column: Column, model: TopoModel): void {
  if (model.notice !== null) column.paragraph(model.notice, PROSE, 'on-acs');
  column.paragraph(heading(model), HEADING, 'ink');
  const { route } = model;
  if (route === null) {
    column.paragraph(summary(model.counts), PROSE, 'muted');
    return;
  }
  column.y += 4;
  column.paragraph(`${route.question}: ${answer(route)}`, ANSWER, `on-${route.kind}`);
  column.paragraph(route.reason, PROSE, 'ink');
  for (const note of route.notes) column.paragraph(`Note: ${note}`, PROSE, 'muted');
  for (const remedy of route.remedies) column.paragraph(`Remedy: ${remedy}`, PROSE, 'muted');
}

/** Collects the content of a box, from top to bottom. */
class ContentWriter {
  readonly #pieces: Piece[] = [];
  #y = PAD - 2;
  #right = 0;

  /** @returns the x coordinate of the text's end */
  text(text: string, font: Font, tone: string, x = PAD): number {
    return this.#put({ kind: 'text', text, font, tone, x, y: this.#y }, 0);
  }

  pill(text: string, font: Font, tone: string, x = PAD): number {
    return this.#put({ kind: 'pill', text, font, tone, x, y: this.#y }, 2 * PILL.side);
  }

  /** @returns the x coordinate of the next pill */
  pills(pills: readonly { text: string; tone: string }[], font: Font): number {
    let x = PAD;
    for (const { text, tone } of pills) x = this.pill(text, font, tone, x) + PILL.gap;
    return x;
  }

  down(height: number): void {
    this.#y += height;
  }

  finish(): Content {
    return { pieces: this.#pieces, width: this.#right + PAD, height: this.#y + PAD - 4 };
  }

  #put(piece: Piece, sides: number): number {
    this.#pieces.push(piece);
    const end = piece.x + textWidth(piece.text, piece.font) + sides;
    this.#right = Math.max(this.#right, end);
    return end;
  }
}

function contentOf(node: TopoNode): Content {
  const into = new ContentWriter();
  const on = `on-${node.route ?? 'plain'}`;
  const lines = node.lines.map((line) => clip(line, LONGEST_NAME));
  const isHost = node.kind === 'host' || node.kind === 'host-bridge';
  const font = isHost ? SMALL : SMALL_MONO;
  putNames(into, node, on);
  const left = node.kind === 'drive' ? putMemory(into, node, lines, on) : lines;
  if (node.kind !== 'drive') putMarks(into, node);
  for (const line of left) {
    into.text(line, font, on);
    into.down(ROW.text + 1);
  }
  putRoles(into, node);
  return into.finish();
}

function putNames(into: ContentWriter, node: TopoNode, on: string): void {
  const end = into.text(clip(node.title, LONGEST_NAME), TITLE, on);
  if (node.kind === 'drive') {
    into.text(node.subtitle, SMALL_MONO, on, end + 8);
    into.down(ROW.title + 3);
  } else {
    into.down(ROW.title);
    into.text(clip(node.subtitle, LONGEST_NAME), SMALL, on);
    into.down(ROW.text + 2);
  }
}

/** Adds a drive's memory, with its first namespace beside it. @returns the remaining lines */
function putMemory(
  into: ContentWriter,
  { marks }: TopoNode,
  lines: readonly string[],
  on: string,
): readonly string[] {
  const [mark] = marks;
  if (mark === undefined) return lines;
  const pills = marks.map((one) => ({ text: one.text, tone: markTones[one.kind] }));
  const x = into.pills(pills, SMALL);
  const [first, ...others] = lines;
  const beside = first !== undefined && marks.length === 1 && mark.text.length < 16;
  if (beside) into.text(first, SMALL_MONO, on, x + 2);
  into.down(ROW.pill);
  return beside ? others : lines;
}

function putMarks(into: ContentWriter, { marks }: TopoNode): void {
  for (const mark of marks) {
    into.pill(mark.text, SMALL, markTones[mark.kind]);
    into.down(ROW.pill);
  }
}

function putRoles(into: ContentWriter, { kind, roles, route }: TopoNode): void {
  const font = { ...SMALL, bold: true };
  const tone = `=${route}`;
  if (roles.length > 0) {
    into.down(2);
    into.pills(
      roles.map((text) => ({ text, tone })),
      font,
    );
  } else if (kind === 'host' && route !== null) {
    into.pill('host memory', font, tone);
  } else return;
  into.down(ROW.pill);
}

function toBox(node: TopoNode, contents: Map<string, Content>): LayoutBox {
  const content = contentOf(node);
  contents.set(node.id, content);
  return {
    id: node.id,
    width: content.width,
    height: content.height,
    framed: isSwitch(node),
    kind: node.kind,
    children: node.children.map((child) => toBox(child, contents)),
  };
}

function isSwitch({ dev, children }: TopoNode): boolean {
  return dev?.portType === 'upstream-port' && children.some((c) => c.dev?.portType === 'downstream-port');
}

function drawFrame({ x, y, width, height }: Rect): string[] {
  return [
    `    <rect class="frame" x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}" rx="8" stroke-dasharray="4 3"/>`,
    `    ${textAt({ x: x + 10, y: y + 15 }, 'PCIe switch', SMALL, 'muted')}`,
  ];
}

function drawBoxes(node: TopoNode, layout: Layout, contents: Map<string, Content>): string[] {
  const { x, y, width, height } = layout.boxes.get(node.id)!;
  const tone = node.route ?? (node.kind === 'others' ? 'off' : 'plain');
  const border = node.route === null ? (node.kind === 'drive' ? 1.5 : 1) : 2.5;
  const tooltip = [`${node.title}, ${node.subtitle}`, ...node.details].join('\n').split('\n').map(xml);
  return [
    '    <g>',
    `      <title>${tooltip.join('&#10;')}</title>`,
    `      <rect class="box ${tone}" x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}" rx="6" stroke-width="${border}"/>`,
    ...contents.get(node.id)!.pieces.map((piece) => `      ${drawPiece(piece, x, y)}`),
    '    </g>',
    ...node.children.flatMap((child) => drawBoxes(child, layout, contents)),
  ];
}

function drawPiece({ kind, text, font, tone, x, y }: Piece, left: number, top: number): string {
  if (kind === 'text') return textAt({ x: left + x, y: top + y + font.size }, text, font, tone);
  const width = textWidth(text, font) + 2 * PILL.side;
  const solid = tone.startsWith('=');
  const name = solid ? tone.slice(1) : tone;
  const shape = solid ? `solid ${name}` : `box ${name}`;
  const rect = `<rect class="${shape}" x="${n(left + x)}" y="${n(top + y)}" width="${width}" height="${PILL.height}" rx="${PILL.height / 2}"/>`;
  const ink = solid ? `in-${name}` : `on-${name}`;
  const middle = left + x + width / 2;
  return rect + textAt({ x: middle, y: top + y + 12.5, anchor: 'middle' }, text, font, ink);
}

function collectLinks(
  node: TopoNode,
  layout: Layout,
  links: { kind: RouteKind | null; svg: string }[],
): void {
  const from = layout.boxes.get(node.id)!;
  for (const child of node.children) {
    const to = layout.boxes.get(child.id)!;
    const path = elbow(from.x + from.width, from.y + from.height / 2, to.x, to.y + to.height / 2);
    const kind = child.link;
    const classes = kind === null ? 'link plain' : `route ${kind}`;
    links.push({ kind, svg: `    <path class="${classes}" d="${path}"/>` });
    collectLinks(child, layout, links);
  }
}

/** A line that goes right, then up or down in the middle of the gap, then right. */
function elbow(x1: number, y1: number, x2: number, y2: number): string {
  const turn = x2 - COLUMN_GAP / 2;
  const r = Math.min(8, Math.abs(y2 - y1) / 2);
  if (r < 1) return `M${n(x1)} ${n(y1)}H${n(turn)}L${n(x2)} ${n(y2)}`;
  const s = y2 > y1 ? r : -r;
  return (
    `M${n(x1)} ${n(y1)}H${n(turn - r)}Q${n(turn)} ${n(y1)} ${n(turn)} ${n(y1 + s)}` +
    `V${n(y2 - s)}Q${n(turn)} ${n(y2)} ${n(turn + r)} ${n(y2)}H${n(x2)}`
  );
}

/** The legend, only for what the picture contains. */
function drawLegend(column: Column, { host, route }: TopoModel): void {
  const marks = new Set<Mark['kind']>();
  const kinds = new Set<RouteKind>();
  const walk = (node: TopoNode) => {
    for (const mark of node.marks) marks.add(mark.kind);
    if (node.link !== null) kinds.add(node.link);
    for (const child of node.children) walk(child);
  };
  walk(host);
  if (route !== null) kinds.add(route.kind);
  const entries: { swatch: (x: number, y: number) => string; text: string }[] = [];
  for (const kind of ROUTE_KINDS.filter((k) => kinds.has(k))) {
    entries.push({
      swatch: (x, y) => `<path class="route ${kind}" d="M${n(x)} ${n(y)}h30"/>`,
      text: routeWords[kind],
    });
  }
  const pills: [Mark['kind'], string, string][] = [
    ['cmb', 'CMB', 'memory that other drives can reach'],
    ['cmb-off', 'CMB', 'memory that is not offered to others'],
    ['acs', 'ACS', 'this port sends peer traffic up to the host bridge'],
    ['acs-unknown', 'ACS', 'could not be read: ask as root'],
  ];
  for (const [kind, label, text] of pills) {
    if (!marks.has(kind)) continue;
    const tone = markTones[kind];
    entries.push({
      swatch: (x, y) =>
        `<rect class="box ${tone}" x="${n(x - 1)}" y="${n(y - 8.5)}" width="34" height="17" rx="8.5"/>` +
        textAt({ x: x + 16, y: y + 4, anchor: 'middle' }, label, SMALL, `on-${tone}`),
      text,
    });
  }
  let x = column.x;
  for (const { swatch, text } of entries) {
    const width = 40 + textWidth(text, SMALL) + 24;
    if (x > column.x && x + width > column.x + column.width) {
      x = column.x;
      column.y += 24;
    }
    column.svg.push(
      `  ${swatch(x, column.y + 8)}`,
      `  ${textAt({ x: x + 40, y: column.y + 12 }, text, SMALL, 'muted')}`,
    );
    x += width;
  }
  if (entries.length > 0) column.y += 18;
}

interface Point {
  readonly x: number;
  readonly y: number;
  /** The part of the text that is at this point; default: its start. */
  readonly anchor?: 'middle';
}

function textAt({ x, y, anchor }: Point, text: string, font: Font, tone: string): string {
  const { size, mono = false, bold = false } = font;
  const classes = [tone, ...(mono ? ['mono'] : []), ...(bold ? ['bold'] : [])].join(' ');
  const where = anchor === undefined ? '' : ` text-anchor="${anchor}"`;
  return `<text class="${classes}" x="${n(x)}" y="${n(y)}" font-size="${size}"${where}>${xml(text)}</text>`;
}

function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}
