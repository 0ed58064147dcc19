/** The palette of the pictures as variables of a page's style sheet, and what has which of its colours. */
import { ROUTE_KINDS } from '../../page/way.js';
import { INK, MUTED, markTones, PAPER, tones } from '../topo/style.js';

const LEVELS = { ok: 'bus', warning: 'host-memory', unknown: 'unknown', problem: 'refused' } as const;

export function colourSheet(): string {
  return [
    `:root{${variables(0)}}`,
    `@media (prefers-color-scheme:dark){:root{${variables(1)}}}`,
    ...ROUTE_KINDS.flatMap((kind) => [
      rule(`.answer.${kind},.row.${kind}`, kind),
      `.tree .item.linked.${kind}{border-left-color:var(--${kind}-line)}`,
    ]),
    ...Object.entries(markTones).map(([mark, tone]) => rule(`.mark.${mark}`, tone)),
    ...Object.entries(LEVELS).map(([level, tone]) => rule(`.findings .${level}`, tone)),
  ].join('\n');
}

function variables(scheme: 0 | 1): string {
  const own: [string, string][] = [
    ['paper', PAPER[scheme]],
    ['ink', INK[scheme]],
    ['muted', MUTED[scheme]],
    ['raised', tones.plain!.fill[scheme]],
    ['frame', tones.plain!.line[scheme]],
    ...Object.entries(tones).flatMap(([name, { line, fill, text }]): [string, string][] => [
      [`${name}-line`, line[scheme]],
      [`${name}-fill`, fill[scheme]],
      [`${name}-text`, text[scheme]],
    ]),
  ];
  return own.map(([name, colour]) => `--${name}:${colour}`).join(';');
}

function rule(what: string, tone: string): string {
  return `${what}{border-color:var(--${tone}-line);background:var(--${tone}-fill);color:var(--${tone}-text)}`;
}
