/**
 * The plot of `p2pdma bench --svg`: two bars for each row, peer to peer and host memory, with the figures beside them.
 * It is legible in light and dark mode.
 *
 *     title
 *                   0        1 GiB/s       2 GiB/s
 *     read nvme0n1  ████████████████│██████████      peer to peer   2.9 GiB/s    50 ms CPU/GiB
 *     64 KiB chunks ████████████████│                host memory    2.0 GiB/s   310 ms CPU/GiB
 *                                   │                peer to peer is 1.42 × as fast
 */

import { bytes } from '../format.js';
import { clip, SANS, textWidth, xml } from '../svg-text.js';
import type { BenchRow, Way, WayResult } from './run.js';

const ROW = 84;
const BAR = 18;
const STEP = BAR + 5;
const TOP = 92;
const MARGIN = 24;
const GAP = 20;
const PLOT = 440;
const TICKS = 5;
const MOST_LETTERS = 44;

const FONT = { size: 13 };
const TITLE = { size: 16, bold: true };

const STYLE = `
  .p2pdma-bench { --ink: #1f2328; --dim: #59636e; --line: #d1d9e0; --axis: #8c959f; --p2p: #1a7f37; --host: #9a6700; --paper: #ffffff; }
  @media (prefers-color-scheme: dark) {
    .p2pdma-bench { --ink: #e6edf3; --dim: #9198a1; --line: #2b323b; --axis: #656c76; --p2p: #3fb950; --host: #d29922; --paper: #0d1117; }
  }
  .p2pdma-bench text { font-family: ${SANS}; font-size: ${FONT.size}px; fill: var(--ink); }
  .p2pdma-bench .title { font-size: ${TITLE.size}px; font-weight: 600; }
  .p2pdma-bench .dim { fill: var(--dim); }
  .p2pdma-bench .bold { font-weight: 600; }
  .p2pdma-bench .figure { text-anchor: end; font-variant-numeric: tabular-nums; }
  .p2pdma-bench .tick { text-anchor: middle; fill: var(--dim); }
  .p2pdma-bench .paper { fill: var(--paper); }
  .p2pdma-bench .grid { stroke: var(--line); }
  .p2pdma-bench .axis { stroke: var(--axis); }
  .p2pdma-bench .p2p { fill: var(--p2p); }
  .p2pdma-bench .host { fill: var(--host); }`;

const WAYS: Readonly<Record<Way, string>> = { p2p: 'peer to peer', host: 'host memory' };

/** `notice` is printed at the top if the machine is emulated. */
export function benchSvg(rows: readonly BenchRow[], heading: string, notice: string | null): string {
  const title = clip(heading, 2 * MOST_LETTERS);
  const names = rows.map(
    ({ what, highWaterMark }) => [clip(what, MOST_LETTERS), `${bytes(highWaterMark)} chunks`] as const,
  );
  const widest = (texts: readonly string[], bold = false) =>
    Math.max(0, ...texts.map((text) => textWidth(text, { ...FONT, bold })));
  const all = rows.flatMap(({ p2p, host }) => (p2p === null ? [host] : [p2p, host]));
  const fastest = Math.max(...all.map(({ bytesPerSecond }) => bytesPerSecond));
  const { ticks, end } = scale(fastest);

  const left = MARGIN + widest(names.flat(), true) + GAP;
  const ways = left + PLOT + GAP;
  const speeds = ways + widest(Object.values(WAYS)) + GAP + widest(all.map(speed));
  const costs = speeds + GAP + widest(all.map(cost));
  const verdicts = rows.map(({ faster, ratio }) => words(faster, ratio));
  const right = Math.max(costs, ways + widest([...verdicts, notPossible('p2p')], true));
  const width = Math.ceil(
    Math.max(right, MARGIN + textWidth(title, TITLE), MARGIN + textWidth(notice ?? '', FONT)) + MARGIN,
  );
  const bottom = TOP + rows.length * ROW - 14;
  const height = bottom + MARGIN;
  const at = (bytesPerSecond: number) => left + (bytesPerSecond / end) * PLOT;

  const bars = rows.flatMap(({ what, p2p, host, faster }, i) => {
    const y = TOP + i * ROW;
    const way = (name: Way, result: WayResult | null, top: number): string[] => {
      const base = top + 14;
      if (result === null) return [text(notPossible(name), ways, base, 'dim')];
      const length = Math.max(1, at(result.bytesPerSecond) - left).toFixed(1);
      return [
        `<rect class="${name}" x="${left}" y="${top}" width="${length}" height="${BAR}" rx="2"/>`,
        text(WAYS[name], ways, base),
        text(speed(result), speeds, base, 'figure'),
        text(cost(result), costs, base, 'figure dim'),
      ];
    };
    const again = i > 0 && rows[i - 1]!.what === what;
    return [
      ...(again ? [] : [text(names[i]![0], MARGIN, y + 14, 'bold')]),
      text(names[i]![1], MARGIN, y + 14 + (again ? 0 : STEP), 'dim'),
      ...way('p2p', p2p, y),
      ...way('host', host, y + STEP),
      ...(verdicts[i] === ''
        ? []
        : [text(verdicts[i]!, ways, y + 14 + 2 * STEP, faster === 'same' ? 'dim' : 'bold')]),
    ];
  });
  const grid = ticks.flatMap((tick) => {
    const x = Math.round(at(tick)) - 0.5;
    return [
      `<line class="${tick === 0 ? 'axis' : 'grid'}" x1="${x}" y1="${TOP - 10}" x2="${x}" y2="${bottom}"/>`,
      text(tick === 0 ? '0' : `${bytes(tick)}/s`, x, TOP - 18, 'tick'),
    ];
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" class="p2pdma-bench" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${xml(title)}</title>
<style>${STYLE}
</style>
<rect class="paper" width="${width}" height="${height}"/>
${notice === null ? '' : `${text(notice, MARGIN, 16, 'dim')}\n`}${text(title, MARGIN, 36, 'title')}
${[...grid, ...bars].join('\n')}
</svg>
`;
}

function text(words: string, x: number, y: number, classes = ''): string {
  return `<text${classes === '' ? '' : ` class="${classes}"`} x="${x}" y="${y}">${xml(words)}</text>`;
}

/** About TICKS round steps of a unit of 1024, up to the fastest bar. */
function scale(fastest: number): { ticks: number[]; end: number } {
  const end = Math.max(1, fastest);
  const unit = 1024 ** Math.floor(Math.log2(end) / 10);
  const rough = end / unit / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power * unit).find((size) => size >= rough * unit)!;
  return { ticks: Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => i * step), end };
}

function notPossible(way: Way): string {
  return `${WAYS[way]}: not possible here`;
}

function speed({ bytesPerSecond }: WayResult): string {
  return `${bytes(Math.round(bytesPerSecond))}/s`;
}

function cost({ cpuSecondsPerGiB }: WayResult): string {
  return `${(cpuSecondsPerGiB * 1000).toFixed(0)} ms CPU/GiB`;
}

/** The comparison in words: `peer to peer is 1.42 × as fast`. */
export function words(faster: BenchRow['faster'], ratio: number | null): string {
  if (faster === null || ratio === null) return '';
  switch (faster) {
    case 'p2p':
      return `peer to peer is ${ratio.toFixed(2)} × as fast`;
    case 'host':
      return `host memory is ${(1 / ratio).toFixed(2)} × as fast`;
    case 'same':
      return `no difference that the rounds agree on (${ratio.toFixed(2)} ×)`;
  }
}
