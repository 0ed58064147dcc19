/** The plot of `p2pdma bench --svg`: for each row two bars, peer to peer and host memory. Legible in light and dark. */
import type { BenchRow, WayResult } from './bench-run.js';
import { bytes } from './format.js';
import { SANS, textWidth, xml } from './svg-text.js';

const ROW = 74;
const BAR = 18;
const TOP = 64;
const MARGIN = 24;
const PLOT = 420;

const STYLE = `
  .p2pdma-bench { --ink: #1f2328; --dim: #59636e; --line: #d1d9e0; --p2p: #1a7f37; --host: #9a6700; --paper: #ffffff; }
  @media (prefers-color-scheme: dark) {
    .p2pdma-bench { --ink: #f0f6fc; --dim: #9198a1; --line: #3d444d; --p2p: #3fb950; --host: #d29922; --paper: #0d1117; }
  }
  .p2pdma-bench text { font-family: ${SANS}; font-size: 13px; fill: var(--ink); }
  .p2pdma-bench .title { font-size: 15px; font-weight: 600; }
  .p2pdma-bench .dim { fill: var(--dim); }
  .p2pdma-bench .paper { fill: var(--paper); }
  .p2pdma-bench .axis { stroke: var(--line); }
  .p2pdma-bench .p2p { fill: var(--p2p); }
  .p2pdma-bench .host { fill: var(--host); }`;

export function benchSvg(rows: readonly BenchRow[], title: string): string {
  const names = rows.map(({ what, chunk }) => [what, `${bytes(chunk)} chunks`] as const);
  const fastest = Math.max(
    ...rows.flatMap(({ p2p, host }) => [p2p?.bytesPerSecond ?? 0, host.bytesPerSecond]),
  );
  const font = { size: 13 };
  const left = MARGIN + 16 + Math.max(...names.flat().map((name) => textWidth(name, font)));
  const figures = rows.flatMap(({ p2p, host }) => [label(p2p, 'peer to peer'), label(host, 'host memory')]);
  const right = 12 + Math.max(...figures.map((text) => textWidth(text, font)));
  const width = Math.ceil(
    Math.max(left + PLOT + right + MARGIN, 2 * MARGIN + textWidth(title, { size: 15, bold: true })),
  );
  const height = TOP + rows.length * ROW + MARGIN;
  const bars = rows.flatMap(({ p2p, host, ratio, faster }, i) => {
    const y = TOP + i * ROW;
    const bar = (result: WayResult | null, way: 'p2p' | 'host', at: number) => {
      const length = Math.max(1, Math.round(((result?.bytesPerSecond ?? 0) / fastest) * PLOT));
      const text = label(result, way === 'p2p' ? 'peer to peer' : 'host memory');
      const box =
        result === null
          ? ''
          : `<rect class="${way}" x="${left}" y="${at}" width="${length}" height="${BAR}" rx="2"/>`;
      const x = result === null ? left + 8 : left + length + 8;
      return `${box}<text x="${x}" y="${at + 14}">${xml(text)}</text>`;
    };
    const [what, chunk] = names[i]!;
    return [
      `<text x="${MARGIN}" y="${y + 14}">${xml(what)}</text>`,
      `<text class="dim" x="${MARGIN}" y="${y + 34}">${xml(chunk)}</text>`,
      bar(p2p, 'p2p', y),
      bar(host, 'host', y + BAR + 4),
      `<text class="dim" x="${left + 8}" y="${y + 2 * BAR + 18}">${xml(words(faster, ratio))}</text>`,
    ];
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" class="p2pdma-bench" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${xml(title)}</title>
<style>${STYLE}
</style>
<rect class="paper" width="${width}" height="${height}"/>
<text class="title" x="${MARGIN}" y="34">${xml(title)}</text>
<line class="axis" x1="${left - 0.5}" y1="${TOP - 8}" x2="${left - 0.5}" y2="${height - MARGIN}"/>
${bars.join('\n')}
</svg>
`;
}

function label(result: WayResult | null, way: string): string {
  if (result === null) return `${way}: not possible here`;
  const cpu = (result.cpuSecondsPerGiB * 1000).toFixed(0);
  return `${way}  ${bytes(Math.round(result.bytesPerSecond))}/s, ${cpu} ms CPU/GiB`;
}

/** `peer to peer is 1.42 × as fast`. */
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
