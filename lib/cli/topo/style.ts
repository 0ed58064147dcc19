/**
 * Colours of the SVG in light and dark mode. Texts have a contrast of at least 4.5 to their background (tested in a
 * browser).
 */

import type { Mark } from '../../page/tree.js';
import { ROUTE_KINDS, type RouteKind } from '../../page/way.js';
import { MONO, SANS } from '../svg-text.js';

type Both = readonly [light: string, dark: string];

interface Tone {
  /** Lines and borders. */
  readonly line: Both;
  /** The area inside a border. */
  readonly fill: Both;
  /** Text on that area. */
  readonly text: Both;
}

export const tones: Readonly<Record<string, Tone>> = {
  plain: { line: ['#8c959f', '#656c76'], fill: ['#f6f8fa', '#161b22'], text: ['#1f2328', '#e6edf3'] },
  bus: { line: ['#1a7f37', '#3fb950'], fill: ['#dafbe1', '#12301b'], text: ['#0f4d22', '#aff5b4'] },
  'host-bridge': { line: ['#0969da', '#58a6ff'], fill: ['#ddf4ff', '#0f2a4a'], text: ['#0a3069', '#cae8ff'] },
  unknown: { line: ['#8250df', '#bc8cff'], fill: ['#fbefff', '#2b1b4a'], text: ['#512a97', '#e2c5ff'] },
  'host-memory': { line: ['#9a6700', '#d29922'], fill: ['#fff8c5', '#33270a'], text: ['#4d2d00', '#f8e3a1'] },
  refused: { line: ['#cf222e', '#ff7b72'], fill: ['#ffebe9', '#3d1418'], text: ['#82071e', '#ffd7d5'] },
  acs: { line: ['#bc4c00', '#f0883e'], fill: ['#fff1e5', '#3a1d06'], text: ['#762c00', '#ffdfb6'] },
  cmb: { line: ['#4f46b8', '#a5a0ff'], fill: ['#ecebff', '#24214f'], text: ['#2f2a7d', '#dcdaff'] },
  off: { line: ['#8c959f', '#656c76'], fill: ['#ffffff', '#0d1117'], text: ['#4d555e', '#b1bac4'] },
};

/** What each mark of a node looks like. */
export const markTones: Readonly<Record<Mark['kind'], string>> = {
  acs: 'acs',
  'acs-unknown': 'acs',
  cmb: 'cmb',
  'cmb-off': 'off',
  passes: 'bus',
  'passes-not': 'refused',
  'passes-unknown': 'off',
};

export const PAPER: Both = ['#ffffff', '#0d1117'];
export const INK: Both = ['#1f2328', '#e6edf3'];
export const MUTED: Both = ['#4d555e', '#b1bac4'];
const FRAME_FILL: Both = ['#fbfcfd', '#11161d'];

/** Line patterns, so that the kinds can be distinguished without colours. */
export const dashes: Readonly<Record<RouteKind, string | null>> = {
  bus: null,
  'host-bridge': '14 5',
  unknown: '2 6',
  'host-memory': '7 6',
  refused: '3 4',
};

/** Every rule is prefixed with the picture's class: an SVG's style applies to the whole page that embeds it. */
export function styleSheet(scope: string): string {
  const rules = [
    `.${scope} text { font-family: ${SANS}; }`,
    `.${scope} .mono { font-family: ${MONO}; }`,
    `.${scope} .bold { font-weight: 600; }`,
    `.${scope} .link, .${scope} .route { fill: none; stroke-linejoin: round; }`,
    `.${scope} .link { stroke-width: 1.5; }`,
    `.${scope} .route { stroke-width: 4; }`,
    ...ROUTE_KINDS.flatMap((kind) =>
      dashes[kind] === null ? [] : [`.${scope} .route.${kind} { stroke-dasharray: ${dashes[kind]}; }`],
    ),
    ...colours(scope, 0),
    '@media (prefers-color-scheme: dark) {',
    ...colours(scope, 1).map((rule) => `  ${rule}`),
    '}',
  ];
  return rules.map((rule) => `    ${rule}`).join('\n');
}

function colours(scope: string, scheme: 0 | 1): string[] {
  return [
    `.${scope} .paper { fill: ${PAPER[scheme]}; }`,
    `.${scope} .ink { fill: ${INK[scheme]}; }`,
    `.${scope} .muted { fill: ${MUTED[scheme]}; }`,
    `.${scope} .frame { fill: ${FRAME_FILL[scheme]}; stroke: ${tones.plain!.line[scheme]}; }`,
    ...Object.entries(tones).flatMap(([name, { line, fill, text }]) => [
      `.${scope} .box.${name} { fill: ${fill[scheme]}; stroke: ${line[scheme]}; }`,
      `.${scope} .link.${name}, .${scope} .route.${name} { stroke: ${line[scheme]}; }`,
      `.${scope} .on-${name} { fill: ${text[scheme]}; }`,
      `.${scope} .solid.${name} { fill: ${line[scheme]}; }`,
      `.${scope} .in-${name} { fill: ${scheme === 0 ? '#ffffff' : '#0d1117'}; }`,
    ]),
  ];
}
