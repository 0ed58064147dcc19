/**
 * The pages of `--format html` in a browser: they say what the command says, by mouse and by keyboard, fetch nothing, fit
 * every width, and can be read in light and dark.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import t, { type Test } from 'tap';
import { pageOf } from '../../../lib/cli/page/html.js';
import { type Explanation, MACHINE_PRESETS } from '../../../lib/index.js';
import { factsOf, type PageFacts, type Told } from '../../../lib/page/facts.js';
import { launch, noBrowser } from '../../helpers/browser.js';
import { p2pdma } from '../../helpers/cli.js';
import { contrasts } from '../../helpers/look-at-page.js';
import { manyDrives, NASTY, nastyNames } from '../../helpers/topo-pictures.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-page-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

interface Explained {
  readonly providers: readonly Explanation[];
}

function written(name: string, html: string): string {
  const path = join(folder, `${name}.html`);
  writeFileSync(path, html);
  return pathToFileURL(path).href;
}

function output(...args: string[]): string {
  const { status, stdout, stderr } = p2pdma(...args);
  if (status !== 0) throw new Error(`p2pdma ${args.join(' ')}: ${status}\n${stderr}`);
  return stdout;
}

const facts = (page: Page) =>
  page.$$eval('#facts dt', (terms) =>
    Object.fromEntries(terms.map((term) => [term.textContent, term.nextElementSibling!.textContent])),
  );

/** Of a machine of which only the topology exists. */
async function pageFor(name: string, system: object): Promise<string> {
  const told = { locate: () => null, stacked: () => [], ...system } as unknown as Told;
  const page: PageFacts = {
    name,
    backend: 'native',
    machine: null,
    notice: null,
    evidence: null,
    version: '0.0.0',
    kernels: [{ release: '6.12.117', machine: 0 }],
    machines: [factsOf(told)],
    asked: { provider: null, clients: [] },
  };
  return written(name.replace(/\W/g, '_'), await pageOf({ title: name, facts: page, text: name }));
}

/** @param options.longNames the table of hops may have to be scrolled */
async function fits(t: Test, page: Page, { longNames = false } = {}): Promise<void> {
  for (const width of [320, 480, 768, 1280, 1920]) {
    await page.setViewportSize({ width, height: 900 });
    const wide = await page.evaluate('document.documentElement.scrollWidth');
    t.ok((wide as number) <= width, `${width} wide: ${wide}`);
    const cut = await page.evaluate(
      "(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector('#way .wide'))",
    );
    t.ok(longNames || (cut as number) <= 0, `${width} wide: of the way nothing is cut off (${cut} px)`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

async function readable(t: Test, page: Page): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    const texts = await page.evaluate(contrasts);
    t.ok(texts.length > 20, `${colorScheme}: ${texts.length} texts`);
    t.same(
      texts.filter(({ contrast }) => contrast < 4.5).map(({ text, contrast }) => `${text}: ${contrast}`),
      [],
      `${colorScheme}: each can be read`,
    );
  }
}

t.test('in a browser', { skip: noBrowser, timeout: 300_000 }, async (t) => {
  const browser = await launch();
  t.teardown(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const troubles: string[] = [];
  page.on('console', (message) => troubles.push(message.text()));
  page.on('pageerror', (error) => troubles.push(String(error)));
  page.on('dialog', async (dialog) => {
    troubles.push(dialog.message());
    await dialog.dismiss();
  });
  page.on('request', (request) => {
    if (!request.url().startsWith('file:')) troubles.push(request.url());
  });
  const open = (...args: string[]) =>
    page.goto(written(args.join('_').replace(/\W/g, '_'), output(...args, '--format', 'html')));

  for (const preset of MACHINE_PRESETS) {
    t.test(preset, async (t) => {
      await open('explain', '--machine', preset);
      const { providers } = JSON.parse(output('explain', '--machine', preset, '--json')) as Explained;
      for (const { provider, clients, notes } of providers) {
        await page.selectOption('#provider', provider);
        t.same(
          await page.locator('#notes li').allTextContents(),
          notes.map(({ text }) => text),
        );
        for (const client of clients) {
          await page.selectOption('#client', client.bdf);
          const said = await facts(page);
          t.match(said, { 'map type': client.mapType, rule: client.rule, why: client.reason });
          t.equal(said['remedy and its cost'] ?? null, client.remedy);
          t.equal(said.refused ?? null, client.refusal);
          const hops = await page.locator('#hops th').allTextContents();
          t.same(
            hops,
            client.hops.map(({ at }) => at),
          );
        }
      }
      await fits(t, page);
      await readable(t, page);
    });
  }

  t.test('what if: an ACS bit, the remedy, another kernel, another IOMMU', async (t) => {
    await open('explain', 'nvme0', 'nvme1', '--machine', 'acs');
    const verdict = () => page.locator('#verdict').innerText();
    t.match(await verdict(), /not supported: the kernel refuses it/);
    await page.click('#try-remedy');
    t.match(await verdict(), /on the bus, distance 4[\s\S]*as it is: not supported/);
    t.match(await page.locator('#drives-sum').innerText(), /change the verdict for 1 of 2 drives/);
    t.match(
      (await facts(page))['remedy for the machine as it is, and its cost'],
      /This costs isolation/,
      'the cost stays in sight',
    );
    await page.check('input[data-at="0000:02:00.0"] >> nth=0');
    t.match(await verdict(), /not supported/, 'one bit is enough');
    await page.click('button[data-acs=undo] >> nth=0');
    await page.click('#reset');
    t.notMatch(await verdict(), /as it is/);
    t.ok(await page.isDisabled('#reset'));
    await page.selectOption('#iommu', 'unsupported');
    t.match(await page.locator('#notes').innerText(), /cannot map peer memory/);
  });

  t.test('what if: another kernel says what the command says', async (t) => {
    for (const [preset, kernel] of [
      ['root-ports', '7.2'],
      ['mirror', '7.2'],
      ['multipath', '7.1'],
    ] as const) {
      await open('explain', '--machine', preset);
      await page.selectOption('#kernel', { label: `Linux ${kernel}` });
      const args = ['explain', '--machine', preset, '--kernel', `${kernel}.0`, '--json'];
      const { providers } = JSON.parse(output(...args)) as Explained;
      for (const { provider, clients } of providers) {
        await page.selectOption('#provider', provider);
        for (const client of clients) {
          await page.selectOption('#client', client.bdf);
          const said = await facts(page);
          t.match(said, { 'map type': client.mapType, rule: client.rule, why: client.reason });
          t.equal(said.refused ?? null, client.refusal);
        }
      }
    }
  });

  t.test('with the keyboard alone', async (t) => {
    await open('topo', '--machine', 'four-drives');
    const at = () => page.evaluate('document.activeElement.id') as Promise<string>;
    const stops: string[] = [];
    for (let i = 0; i < 60 && !stops.includes('all'); i++) {
      await page.keyboard.press('Tab');
      stops.push(await at());
    }
    for (const id of ['provider', 'client', 'kernel', 'iommu', 'all']) {
      t.ok(stops.includes(id), `Tab reaches ${id}`);
    }
    await page.keyboard.press('Tab');
    t.match(await at(), /^tree 0000:/, 'the tree is one stop');
    await page.keyboard.press('End');
    const last = await page.evaluate('document.activeElement.dataset.bdf');
    await page.keyboard.press('Enter');
    t.equal(await page.inputValue('#client'), last);
    t.equal(await page.evaluate('document.activeElement.dataset.bdf'), last, 'the focus stays');
    await page.keyboard.press('ArrowLeft');
    t.not(await page.evaluate('document.activeElement.dataset.bdf'), last);
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('Home');
    t.equal(await at(), await page.locator('[role=treeitem]').first().getAttribute('id'));
    await page.keyboard.press('ArrowDown');
    t.not(await page.evaluate('document.activeElement.dataset.details'), '');
    t.not(await page.locator('#details').innerText(), '');
  });

  t.test('an ACS box keeps the focus while it is switched', async (t) => {
    await open('explain', 'nvme0', 'nvme1', '--machine', 'acs');
    await page.focus('input[data-at="0000:02:00.0"] >> nth=0');
    const before = await page.evaluate('document.activeElement.id');
    await page.keyboard.press('Space');
    t.equal(await page.evaluate('document.activeElement.id'), before);
  });

  t.test('as a screen reader has it', async (t) => {
    await open('explain', 'nvme0', 'nvme1', '--machine', 'acs');
    const heard = await page.locator('body').ariaSnapshot();
    for (const part of [
      'heading "Peer-to-peer DMA on acs" [level=1]',
      'combobox "whose memory"',
      'combobox "who does DMA to it"',
      'combobox "kernel"',
      'combobox "IOMMU"',
      'status',
      'tree "The PCI tree"',
      'treeitem /nvme1 0000:04:00.0 CMB 16 MiB .* client/',
      'checkbox "RR (P2P Request Redirect) of 0000:02:00.0" [checked]',
      'columnheader "remark"',
      'rowheader "0000:02:00.0"',
    ]) {
      const wanted = /^treeitem \/(.*)\/$/.exec(part);
      t.ok(wanted === null ? heard.includes(part) : new RegExp(wanted[1]!).test(heard), part);
    }
    const ids = await page.$$eval('[id]', (all) => all.map(({ id }) => id));
    t.same(
      ids.filter((id, i) => ids.indexOf(id) !== i),
      [],
      'each id is there once',
    );
  });

  t.test('an array: each of its drives has a verdict and a way, and no id is there twice', async (t) => {
    await open('explain', 'nvme0', 'md0', '--machine', 'mirror');
    t.same(await page.locator('#verdict p').count(), 2);
    t.same(await page.locator('#facts dt', { hasText: /^client$/ }).count(), 2);
    const ids = await page.$$eval('[id]', (all) => all.map(({ id }) => id));
    t.same(
      ids.filter((id, i) => ids.indexOf(id) !== i),
      [],
    );
  });

  t.test('4 to 200 drives', async (t) => {
    for (const count of [4, 48, 200]) {
      await page.goto(await pageFor(`${count} drives`, manyDrives(count)));
      t.equal(await page.locator('#drives tr').count(), count);
      const start = Date.now();
      await page.selectOption('#client', { index: count - 1 });
      t.match(await page.locator('#verdict').innerText(), new RegExp(`nvme${count - 1} `));
      const took = Date.now() - start;
      t.ok(took < 5000, `${count} drives: answered in ${took} ms`);
      await fits(t, page);
    }
  });

  t.test('names as nobody gives them', async (t) => {
    await page.goto(await pageFor('</script><script>alert(1)</script>', nastyNames()));
    t.equal(await page.locator('#drives tr').count(), NASTY.length);
    t.match(await page.locator('#drives').innerText(), /<script>alert\("&'"\)<\/script>/, 'it is a text');
    await fits(t, page, { longNames: true });
  });

  t.test('without a script the answer is there', async (t) => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const silent = await context.newPage();
    await silent.goto(
      written('silent', output('explain', 'nvme0', 'nvme1', '--machine', 'acs', '--format', 'html')),
    );
    t.match(await silent.locator('body').innerText(), /rule +host-bridge-not-listed/);
    t.notOk(await silent.locator('#interactive').isVisible());
    await context.close();
  });

  t.test('it stands alone', async (t) =>
    t.same(troubles, [], 'nothing is fetched, refused or complained of'),
  );
});
