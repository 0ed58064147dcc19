/**
 * The pictures of `p2pdma topo --format svg` and `p2pdma bench --svg` as a browser draws them, light and dark: no label touches another, is
 * crossed by a line, or leaves its box or the picture; and every label can be read.
 */
import type { Page } from 'playwright-core';
import t, { type Test } from 'tap';
import type { BenchRow, WayResult } from '../../../lib/cli/bench/run.js';
import { benchSvg } from '../../../lib/cli/bench/svg.js';
import { drawSvg } from '../../../lib/cli/topo/svg.js';
import { MACHINE_PRESETS } from '../../../lib/index.js';
import { modelOf } from '../../../lib/page/tree.js';
import { launch, noBrowser } from '../../helpers/browser.js';
import { look, parseError } from '../../helpers/look-at-svg.js';
import { bigServer, NASTY, nastyNames, presetPicture } from '../../helpers/topo-pictures.js';

const NOTICE = "emulated machine 'switch': its drives end with this process";

function benches(): Record<string, BenchRow[]> {
  const way = (bytesPerSecond: number, cpuSecondsPerGiB: number): WayResult => ({
    bytesPerSecond,
    cpuSecondsPerGiB,
    userCpuSecondsPerGiB: cpuSecondsPerGiB / 2,
    samples: [],
  });
  const row = (what: string, p2p: WayResult | null, host: WayResult): BenchRow => {
    const ratio = p2p && p2p.bytesPerSecond / host.bytesPerSecond;
    const faster = ratio === null ? null : ratio > 1.05 ? 'p2p' : ratio < 0.95 ? 'host' : 'same';
    return { what, highWaterMark: 65536, p2p, host, ratio, faster };
  };
  return {
    'both ways': [
      row('read nvme0n1', way(3.1e9, 0.05), way(2.2e9, 0.31)),
      row('read nvme0n1', way(3.4e9, 0.02), way(3.5e9, 0.21)),
      row('copy nvme0n1 → nvme1n1', way(1.2e9, 0.05), way(2.2e9, 0.31)),
    ],
    'no CMB': [row('read nvme0n1', null, way(5e8, 0.3))],
    'crawling and racing': [
      row('read nvme0n1', way(3, 900), way(1e12, 0.0001)),
      row('read nvme1n1', way(0, 0), way(1023.9, 1e6)),
    ],
    'names as nobody gives them': NASTY.map((name) => row(`read ${name}`, way(1e9, 0.1), way(1e9, 0.1))),
  };
}

async function check(t: Test, page: Page, svg: string, least: number): Promise<void> {
  t.equal(await page.evaluate(parseError, svg), null, 'well-formed XML');
  const papers = new Set<string>();
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    await page.setContent(`<!doctype html><body style="margin: 0">${svg}`);
    const { labels, faults, lineContrast, paper } = await page.evaluate(look);
    papers.add(paper);
    t.ok(labels.length >= least, `${colorScheme}: ${labels.length} labels`);
    t.same(
      labels.filter((label) => label.faults.length > 0),
      [],
      `${colorScheme}: every label is where it belongs`,
    );
    t.same(
      labels.filter((label) => label.contrast < 4.5).map(({ text, contrast }) => `${text}: ${contrast}`),
      [],
      `${colorScheme}: every label can be read`,
    );
    t.same(faults, [], `${colorScheme}: boxes`);
    t.ok(lineContrast >= 3, `${colorScheme}: lines can be seen (${lineContrast.toFixed(1)})`);
  }
  t.equal(papers.size, 2, 'light differs from dark');
}

t.test('in a browser', { skip: noBrowser, timeout: 110_000 }, async (t) => {
  const browser = await launch();
  t.teardown(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
  const requests: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  const scripts: string[] = [];
  page.on('dialog', async (dialog) => {
    scripts.push(dialog.message());
    await dialog.dismiss();
  });

  for (const preset of MACHINE_PRESETS) {
    t.test(preset, async (t) => check(t, page, await presetPicture(preset), 12));
  }
  t.test('a large server', async (t) => {
    const svg = drawSvg(modelOf(bigServer(), { name: 'big server', route: null, all: false }));
    await check(t, page, svg, 120);
  });
  t.test('names as nobody gives them', async (t) => {
    const system = nastyNames();
    const svg = drawSvg(modelOf(system, { name: '<b>&"\u001b[2J'.repeat(20), route: null, all: false }));
    await check(t, page, svg, 40);
    t.same(scripts, [], 'nothing of it is run');
  });
  t.test('bench', async (t) => {
    for (const [what, rows] of Object.entries(benches())) {
      await t.test(what, async (t) =>
        check(t, page, benchSvg(rows, `p2pdma bench, ${what}, depth 8`, NOTICE), 7),
      );
    }
    const svg = benchSvg(benches()['names as nobody gives them']!, '<b>&"\u001b[2J'.repeat(20), null);
    await check(t, page, svg, 7);
    t.same(scripts, [], 'nothing of it is run');
  });
  t.test('a picture with mistakes is found out', async (t) => {
    const good = await presetPicture('switch');
    const faultsOf = async (svg: string) => {
      await page.emulateMedia({ colorScheme: 'light' });
      await page.setContent(`<!doctype html><body style="margin: 0">${svg}`);
      const { labels, faults } = await page.evaluate(look);
      return { labels: labels.flatMap((label) => label.faults), faults, labelled: labels };
    };
    const longer = await faultsOf(good.replace('>downstream port<', '>downstream port of the switch<'));
    t.ok(longer.labels.some((fault) => fault.startsWith('leaves its box')));
    const outside = await faultsOf(good.replace(/(<text [^>]*x=")[^"]*/, '$1-30'));
    t.match(outside.labels, [/leaves the picture/]);
    const above = await faultsOf(good.replace(/>nvme0n1 1 GiB</, '>nvme0n1<tspan dx="-60">over</tspan><'));
    t.same(above.labels, [], 'one label may do with itself what it likes');
    const crossed = await faultsOf(good.replace('</svg>', '<path d="M0 35H400"/></svg>'));
    t.match(crossed.labels, [/is crossed by a line/]);
    const doubled = await faultsOf(good.replace(/<text [^>]*>host bridge device<\/text>/, '$&$&'));
    t.match(doubled.labels, [/touches 'host bridge device'/]);
    const pale = await faultsOf(good.replaceAll('fill: #1f2328', 'fill: #b0b0b0'));
    t.ok(pale.labelled.some(({ contrast }) => contrast < 4.5));
    const moved = await faultsOf(good.replace(/(<rect class="box bus" x=")[^"]*/, '$1730'));
    t.not(moved.faults.length, 0, 'boxes');
    t.type(await page.evaluate(parseError, good.replace('</g>', '')), 'string');
    const plot = benchSvg(benches()['both ways']!, 'bench', null);
    const axis = Number(/class="axis" x1="([\d.]+)"/.exec(plot)![1]);
    const across = await faultsOf(
      plot.replace(/<text x="\d+"(?=[^>]*>peer to peer<)/, `<text x="${axis - 20}"`),
    );
    t.match(across.labels, [/leaves its box \(p2p\)/, /crossed by a line/]);
  });
  t.test('it stands alone', async (t) => t.same(requests, [], 'nothing is fetched'));
});
