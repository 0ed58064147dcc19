/** `doctor --report`: what is in the file, what is left out of it, and that nothing is overwritten. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { Discretion } from '../../../lib/cli/page/discretion.js';
import { MACHINE_PRESETS, type PciDev } from '../../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { entriesOf, tarOf } from '../../helpers/archives.js';
import { launch, noBrowser } from '../../helpers/browser.js';
import { p2pdma, runCli } from '../../helpers/cli.js';
import { contrasts } from '../../helpers/look-at-page.js';
import { hexDump } from '../../helpers/lspci-dump.js';
import { manyDrives } from '../../helpers/topo-pictures.js';

/** Without the script and the style, which are the same for everybody. */
const contents = (html: string) =>
  html.replaceAll(/<script>[\s\S]*?<\/script>|<style>[\s\S]*?<\/style>/g, '');

const written = (file: string) => contents(readFileSync(file, 'utf8'));

/** A machine in which everything that could name it does. */
function named(t: { testdir(): string }) {
  const folder = join(t.testdir(), 'alice-box-captured');
  mkdirSync(folder);
  const tree = twoDrivesBelowASwitch();
  for (const [at, drive] of tree.nvme!.entries()) drive.serial = `S3CRET${at}0042`;
  const [volume] = tree.blocks!;
  volume!.dmName = 'alicebox--vg-data';
  for (const mount of tree.mounts!) mount.mountPoint = mount.mountPoint.replace('/mnt', '/home/alice');
  return { folder: writeSysfsTree(folder, tree), entries: () => entriesOf(folder) };
}

// Each page looks at the machine under every kernel that matters.
t.setTimeout(300_000);

const NAMES = /S3CRET|alice|192\.0\.2\.1/g;

t.test('what doctor, list, topo and explain say is in it; the output and the exit code stay', async (t) => {
  const folder = t.testdir();
  for (const preset of MACHINE_PRESETS) {
    const file = join(folder, `${preset}.html`);
    const without = p2pdma('doctor', '--machine', preset);
    const { status, stdout, stderr } = p2pdma('doctor', '--machine', preset, '--report', file);
    t.equal(status, without.status, `${preset}: ${stderr}`);
    t.match(stdout.replaceAll(/\s/g, ''), `${without.stdout}report: ${file}`.replaceAll(/\s/g, ''));
    const html = readFileSync(file, 'utf8');
    const text = contents(html)
      .replaceAll(/<[^>]*>/g, '')
      .replaceAll('&quot;', '"')
      .replaceAll('&#39;', "'")
      .replaceAll('&lt;', '<')
      .replaceAll('&gt;', '>')
      .replaceAll('&amp;', '&');
    const { findings } = JSON.parse(p2pdma('doctor', '--machine', preset, '--json').stdout) as {
      findings: { fact: string; remedy: string | null; commands: string[] }[];
    };
    for (const { fact, remedy, commands } of findings) {
      for (const part of [fact, remedy ?? fact, ...commands]) t.ok(text.includes(part), `${preset}: ${part}`);
    }
    const wide = { env: { COLUMNS: '110', NO_COLOR: '1' } };
    for (const [name, lines] of [
      ['topo', runCli(['topo', '--machine', preset], wide).stdout],
      ['explain', runCli(['explain', '--machine', preset], wide).stdout],
    ] as const) {
      t.ok(text.includes(lines.split('\n').slice(1).join('\n').trim()), `${preset}: ${name}`);
    }
    t.match(html, /<meta http-equiv="Content-Security-Policy" content="default-src 'none'; /);
    t.notMatch(html, /https?:\/\/|\b(src|href)=/, 'it names nothing to fetch');
    t.match(html, new RegExp(`the emulated machine &#39;${preset}&#39;`));
  }
});

t.test('serial numbers, host names, mount points and paths are left out, unless asked for', async (t) => {
  const { folder, entries } = named(t);
  const report = join(t.testdirName, 'sosreport-alicebox.tar');
  const inside = entries().map((one) => ({ ...one, path: `sosreport-alicebox-2026/${one.path}` }));
  writeFileSync(
    report,
    tarOf([
      ...inside,
      { path: 'sosreport-alicebox-2026/sos_commands/kernel/uname_-a', content: Buffer.from('alicebox\n') },
      {
        path: 'sosreport-alicebox-2026/lspci.txt',
        content: Buffer.from('alice@alicebox: no root, no lspci\n'),
      },
    ]),
  );
  const notes = join(t.testdirName, "alice's notes.txt");
  writeFileSync(notes, 'Swapped.');
  for (const [name, ...line] of [
    ['root', '--root', folder],
    ['folder', '--from', folder],
    ['report', '--from', report, '--from', notes],
  ] as const) {
    const [plain, full] = [join(t.testdirName, `${name}.html`), join(t.testdirName, `${name}-full.html`)];
    const { stderr } = p2pdma('doctor', ...line, '--report', plain);
    t.equal(stderr, '', name);
    t.same([...new Set(written(plain).match(NAMES))], [], name);
    t.match(written(plain), /are not in this page/);
    t.match(written(plain), /<th scope="row">nvme0<\/th>[\s\S]*?<td>yes<\/td>/, 'that it is in use is there');
    p2pdma('doctor', ...line, '--report', full, '--with-names');
    for (const secret of [
      'S3CRET00042',
      '/home/alice/xfs',
      'alicebox--vg-data',
      name === 'report' ? 'sosreport' : folder,
    ])
      t.ok(written(full).includes(secret), `${name}: ${secret}`);
    t.match(written(full), /are in this page, as was asked for/);
  }
});

t.test('this machine', { skip: process.platform !== 'linux' && 'it is no Linux' }, async (t) => {
  const [plain, full] = [join(t.testdir(), 'plain.html'), join(t.testdirName, 'full.html')];
  p2pdma('doctor', '--report', plain);
  p2pdma('doctor', '--report', full, '--with-names');
  const whole = new RegExp(`(?<!\\w)${hostname().replaceAll(/[^\w]/g, '\\$&')}(?!\\w)`);
  t.notMatch(written(plain), whole);
  t.match(written(full), whole);
  t.notOk(written(plain).includes(process.cwd()));
});

t.test('an emulated machine of somebody’s own has its name left out', async (t) => {
  const machine = JSON.parse(
    p2pdma('snapshot', '--machine', 'switch', '--name', 'alicebox').stdout,
  ) as object;
  const file = join(t.testdir({ 'alice.json': JSON.stringify(machine) }), 'alice.json');
  const html = join(t.testdirName, 'r.html');
  p2pdma('doctor', '--machine', file, '--report', html);
  t.same(written(html).match(NAMES), null);
  t.match(written(html), /emulated machine/);
});

t.test('nothing is overwritten, and nothing is left half written', async (t) => {
  const folder = t.testdir({ 'there.html': 'mine' });
  const there = join(folder, 'there.html');
  const again = p2pdma('doctor', '--machine', 'switch', '--report', there);
  t.equal(again.status, 1);
  t.match(again.stderr, /EEXIST.*exists, and is not overwritten/);
  t.equal(again.stdout, '');
  t.equal(readFileSync(there, 'utf8'), 'mine');
  const nowhere = p2pdma('doctor', '--machine', 'switch', '--report', join(folder, 'no', 'r.html'));
  t.equal(nowhere.status, 1);
  t.match(nowhere.stderr, /ENOENT/);
  const unknown = join(folder, 'unknown.html');
  t.equal(p2pdma('doctor', '--machine', 'no-such', '--report', unknown).status, 2);
  t.notOk(existsSync(unknown));
  const alone = p2pdma('doctor', '--machine', 'switch', '--with-names');
  t.equal(alone.status, 2);
  t.match(alone.stderr, /--with-names is about the page of --report/);
});

t.test('for a program: where the page is', async (t) => {
  const file = join(t.testdir(), 'r.html');
  const { stdout } = p2pdma('doctor', '--machine', 'switch', '--json', '--report', file);
  t.match(JSON.parse(stdout), { verdict: 'works', report: file });
});

t.test('what is taken out of a text', async (t) => {
  const without = new Discretion(false, ['box.example.org', 'box', 'S1', 'a.b']);
  for (const [text, plain] of [
    ['on box, on box.example.org', 'on (left out), on (left out)'],
    ['a.b and axb, boxes', '(left out) and axb, boxes'],
    ['see /home/alice/x.html, /sys/class/nvme', 'see (a path), /sys/class/nvme'],
    ['"/boot/config-6.12" or (/mnt/a b)', '"/boot/config-6.12" or ((a path) b)'],
    ['/dev/nvme0n1 and /dev/mapper/box-root', '/dev/nvme0n1 and (a path)'],
    ['/dev/disk/by-id/nvme-S1', '(a path)'],
    ['dm-0 (box--vg-root) is a device-mapper device', 'dm-0 is a device-mapper device'],
    ['sys/class/nvme-subsystem/*/nvme*n*', 'sys/class/nvme-subsystem/*/nvme*n*'],
    ['pci=disable_acs_redir=0000:02:00.0;0000:02:01.0', 'pci=disable_acs_redir=0000:02:00.0;0000:02:01.0'],
  ] as const) {
    t.equal(without.text(text), plain);
  }
  t.equal(without.quoting("what 'it's /home/a' says"), 'what a file says');
  t.equal(new Discretion(true, ['box']).text('box /home/alice'), 'box /home/alice');
});

const PCI_BRIDGE = 0x060400;

function dumpOf(drives: number): string {
  const { topology } = manyDrives(drives);
  const isPort = ({ portType }: PciDev) => portType.endsWith('-port');
  return hexDump({
    ...topology,
    functions: topology.functions.map((dev) => (isPort(dev) ? { ...dev, class: PCI_BRIDGE } : dev)),
  });
}

t.test('in a browser', { skip: noBrowser, timeout: 300_000 }, async (t) => {
  const browser = await launch();
  t.teardown(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const troubles: string[] = [];
  page.on('console', (line) => troubles.push(line.text()));
  page.on('pageerror', (error) => troubles.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith('file:')) troubles.push(request.url());
  });
  const folder = t.testdir();
  const pages: [string, readonly string[]][] = [['switch', ['--machine', 'switch']]];
  for (const count of [4, 72]) {
    const dump = join(folder, `${count}.txt`);
    writeFileSync(dump, dumpOf(count));
    pages.push([`${count} drives`, ['--from', dump, '--cpu', 'intel:6', '--kernel', '6.12']]);
  }
  for (const [name, line] of pages) {
    await t.test(name, async (t) => {
      const file = join(folder, `${name}.html`);
      const { stderr } = p2pdma('doctor', ...line, '--report', file);
      t.equal(stderr, '');
      await page.goto(pathToFileURL(file).href);
      const explained = await page
        .locator('section', { has: page.locator('h2', { hasText: /^explain$/ }) })
        .innerText();
      t.match(explained, name === '72 drives' ? /is left out: there are \d+ drives/ : /rows: whose memory/);
      for (const width of [320, 480, 768, 1280, 1920]) {
        await page.setViewportSize({ width, height: 900 });
        const wide = (await page.evaluate('document.documentElement.scrollWidth')) as number;
        t.ok(wide <= width, `${width} wide: ${wide}`);
      }
      const headings = await page.locator('h2:visible').allTextContents();
      t.same(headings, [
        'doctor',
        'The verdict',
        'Hop by hop',
        'The PCI tree',
        'All drives',
        'list',
        'topo',
        'explain',
        'versions',
        'What is left out',
      ]);
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        const texts = await page.evaluate(contrasts);
        t.same(
          texts.filter(({ contrast }) => contrast < 4.5),
          [],
          `${colorScheme}: each can be read`,
        );
      }
    });
  }
  await t.test('with the keyboard and for a screen reader', async (t) => {
    await page.goto(pathToFileURL(join(folder, 'switch.html')).href);
    const heard = await page.locator('body').ariaSnapshot();
    for (const part of [
      'heading "doctor" [level=2]',
      'listitem',
      'region "list"',
      'columnheader "in use"',
      'rowheader "nvme0"',
    ])
      t.ok(heard.includes(part), part);
    const scrolled = await page.$$eval('pre, .wide', (all) => all.filter((one) => one.tabIndex !== 0).length);
    t.equal(scrolled, 0, 'what scrolls can be reached');
    await page.selectOption('#client', { index: 1 });
    t.match(await page.locator('#verdict').innerText(), /nvme/);
  });
  t.same(troubles, [], 'nothing is fetched, refused or complained of');
});
