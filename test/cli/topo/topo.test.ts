import { spawnSync } from 'node:child_process';
import picocolors from 'picocolors';
import t from 'tap';
import { textWidth, wrap, xml } from '../../../lib/cli/svg-text.js';
import { drawDot } from '../../../lib/cli/topo/dot.js';
import { type LayoutBox, layOut, type Rect } from '../../../lib/cli/topo/layout.js';
import { findRoute } from '../../../lib/cli/topo/route.js';
import { drawSvg } from '../../../lib/cli/topo/svg.js';
import { drawText } from '../../../lib/cli/topo/text.js';
import { openSystem, type System } from '../../../lib/index.js';
import { modelOf, type TopoNode } from '../../../lib/page/tree.js';
import type { RouteView } from '../../../lib/page/way.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { p2pdma } from '../../helpers/cli.js';
import { TestMachine } from '../../helpers/pci-fixture.js';
import { fc } from '../../helpers/random.js';
import { bigServer, controllerOf, NASTY, nastyNames, systemOf } from '../../helpers/topo-pictures.js';

const plain = picocolors.createColors(false);
const coloured = picocolors.createColors(true);

const topo = (...args: string[]) => p2pdma('topo', ...args);

async function on<T>(machine: string, run: (system: System) => T): Promise<T> {
  const system = await openSystem({ machine });
  try {
    return run(system);
  } finally {
    await system.close();
  }
}

const routeOn = (machine: string, ...names: string[]): Promise<RouteView> =>
  on(machine, (system) => findRoute(system, names));

t.test('text: the route is heavy, so it is seen without colour', async (t) => {
  const { status, stdout, stderr } = topo('--machine', 'switch', '--route', 'nvme0n1', 'nvme1n1');
  t.equal(status, 0, stderr);
  t.equal(
    stdout.split('\n\n')[0],
    `\
emulated machine 'switch': its drives end with this process
CPU GenuineIntel, family 6, IOMMU none
host bridge 0000:00  8086:29c0  not on the allow-list: passes no peer traffic
├─ 0000:00:00.0  conventional
└─ 0000:00:01.0  root-port
   └─ 0000:01:00.0  upstream-port
      ┣━ 0000:02:00.0  downstream-port
      ┃  ┗━ 0000:03:00.0  nvme0  CMB 16 MiB  nvme0n1 1 GiB  ◀ source, provider
      ┗━ 0000:02:01.0  downstream-port
         ┗━ 0000:04:00.0  nvme1  CMB 16 MiB  nvme1n1 1 GiB  ◀ destination`,
  );
  t.match(stdout, /^route nvme0n1 → nvme1n1: peer-to-peer on the bus, distance 4$/m);
  t.match(stdout, /share the upstream bridge 0000:01:00\.0/);
});

t.test('text: up to the host bridge and refused there; what is off the route stays light', async (t) => {
  const text = await on('root-ports', (system) =>
    drawText(modelOf(system, { name: '', route: findRoute(system, ['nvme0', 'nvme1']), all: false }), plain),
  );
  t.match(
    text,
    `\
┠─ 0000:00:00.0  conventional
┣━ 0000:00:01.0  root-port
┃  ┗━ 0000:01:00.0  nvme0  CMB 16 MiB  nvme0n1 1 GiB  ◀ provider
┗━ 0000:00:02.0  root-port
   ┗━ 0000:02:00.0  nvme1  CMB 16 MiB  nvme1n1 1 GiB  ◀ client`,
  );
  t.match(text, /not supported: the kernel refuses it\n/);
  t.match(text, /remedy: Put both devices below one PCIe switch/);
  const some = await on('four-drives', (system) =>
    drawText(
      modelOf(system, { name: '', route: findRoute(system, ['nvme0n1', 'nvme1n1']), all: false }),
      plain,
    ),
  );
  t.match(some, /┡━ 0000:02:01\.0 .*\n {6}│ {2}┗━ 0000:04:00\.0 .*\n {6}├─ 0000:02:02\.0/);
});

t.test('text: the words are wrapped, the tree is not', async (t) => {
  const text = await on('acs', (system) =>
    drawText(
      modelOf(system, { name: '', route: findRoute(system, ['nvme0', 'nvme1']), all: false }),
      plain,
      60,
    ),
  );
  const [tree, words] = text.split('\n\n') as [string, string];
  t.match(tree, /^ {6}┣━ 0000:02:00\.0 {2}downstream-port {2}ACS redirects peer traffic up$/m);
  for (const line of words.split('\n').slice(1)) t.ok(line.length <= 62, line);
});

t.test('text: the colour is the kind of way', async (t) => {
  for (const [machine, names, code] of [
    ['switch', ['nvme0n1', 'nvme1n1'], 32],
    ['zen', ['nvme0n1', 'nvme1n1'], 36],
    ['no-cmb', ['nvme0n1', 'nvme1n1'], 33],
    ['acs', ['nvme0', 'nvme1'], 31],
  ] as const) {
    const text = await on(machine, (system) =>
      drawText(modelOf(system, { name: '', route: findRoute(system, names), all: false }), coloured),
    );
    t.match(text, `\u001b[${code}m┗━ \u001b[39m`, machine);
  }
  t.notMatch(topo('--machine', 'switch').stdout, '\u001b');
});

t.test('routes: kind, links, roles', async (t) => {
  t.match(await routeOn('switch', 'nvme0n1', 'nvme1n1'), {
    kind: 'bus',
    provider: '0000:03:00.0',
    distance: 4,
    remedies: [],
    notes: [],
  });
  const inner = await routeOn('nested-switches', 'nvme1', '0000:07:00.0');
  t.same([...inner.links.keys()].sort(), ['0000:05:00.0', '0000:05:01.0', '0000:06:00.0', '0000:07:00.0']);
  t.ok(inner.nodes.has('0000:04:00.0'), 'it turns at the inner switch');
  const listed = await routeOn('acs-listed', 'nvme0', 'nvme1');
  t.equal(listed.kind, 'host-bridge');
  t.equal(listed.nodes.get('0000:00'), 'host-bridge');
  t.notOk(listed.links.has('0000:00'), 'not up to the CPU');
  t.match(listed.remedies, [/disable_acs_redir=0000:02:00\.0;0000:02:01\.0/]);
  const refused = await routeOn('acs', 'nvme0n1', 'nvme1n1');
  t.match(refused, { kind: 'host-memory', provider: null, distance: null });
  t.match(refused.remedies, [/disable_acs_redir/], 'what would help instead');
  t.equal(refused.links.get('0000:00'), 'host-memory', 'up to the CPU');
  const iommu = await routeOn('iommu-unsupported', 'nvme0n1', 'nvme1n1');
  t.match(iommu, { kind: 'host-memory', reason: /cannot map peer-to-peer memory/ });
  t.match((await routeOn('iommu-unsupported', 'nvme0', 'nvme1')).notes, [/cannot map/]);
  t.match((await routeOn('no-cmb', 'nvme0', 'nvme1')).notes, [/no p2pmem/]);
  const third = await routeOn('four-drives', 'nvme2n1', 'nvme3n1');
  t.match(third, { kind: 'bus', provider: '0000:03:00.0' });
  t.same(Object.fromEntries(third.roles), {
    '0000:03:00.0': ['provider'],
    '0000:05:00.0': ['source'],
    '0000:06:00.0': ['destination'],
  });
  const fan = await routeOn('four-drives', 'nvme0n1', 'nvme1n1', 'nvme2n1');
  t.match(fan, { kind: 'bus', clients: ['0000:03:00.0', '0000:04:00.0', '0000:05:00.0'] });
  const itself = await routeOn('switch', 'nvme0', 'nvme0');
  t.match(itself, { kind: 'bus', distance: 0 });
  t.equal(itself.links.size, 0);
});

t.test('routes: names that are not there, too few of them', async (t) => {
  for (const [pattern, ...args] of [
    [/ERR_INVALID_ARG_VALUE: option --route: needs two names/, '--route', 'nvme0'],
    [/ERR_INVALID_ARG_VALUE: .*nvme9/, '--route', 'nvme0', 'nvme9'],
    [/ERR_INVALID_ARG_VALUE: option --route: there is no 'nvme9n1'/, '--route', 'nvme9n1', 'nvme0n1'],
    [/--route needs a value\nWrite: --route <names\.\.\.>/, '--route'],
    [/Allowed values: text, svg, html, dot, json/, '--format', 'png'],
    [/--format and --json cannot be used together/, '--format', 'svg', '--json'],
  ] as const) {
    const { status, stdout, stderr } = topo('--machine', 'switch', ...args);
    t.equal(status, 2, args.join(' '));
    t.match(stderr, pattern);
    t.equal(stdout, '');
  }
});

t.test('json: host bridges with their verdict, the route', async (t) => {
  const { stdout } = topo('--machine', 'zen', '--route', 'nvme0', 'nvme1', '--format', 'json');
  t.match(JSON.parse(stdout), {
    hostBridges: [{ name: '0000:00', passes: 'everywhere', rule: 'cpu-zen', device: '0000:00:00.0' }],
    route: {
      kind: 'host-bridge',
      provider: '0000:01:00.0',
      roles: { '0000:01:00.0': ['provider'], '0000:02:00.0': ['client'] },
      links: { '0000:01:00.0': 'host-bridge', '0000:00:02.0': 'host-bridge' },
    },
  });
  t.equal(JSON.parse(topo('--machine', 'zen', '--json').stdout).route, null);
});

t.test('svg: one element that says what it shows, and needs nothing', async (t) => {
  const { stdout, status } = topo('--machine', 'acs', '--route', 'nvme0', 'nvme1', '--format', 'svg');
  t.equal(status, 0);
  t.match(stdout, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" [^>]*role="img" aria-labelledby="/);
  t.match(stdout, /<title id="[^"]+">PCI topology of acs<\/title>/);
  t.match(
    stdout,
    /<desc [^>]*>emulated machine &#39;acs&#39;: its drives end with this process\. 7 PCI functions, 2 NVMe controllers.*not supported: the kernel refuses it/,
  );
  t.match(stdout, '@media (prefers-color-scheme: dark)');
  t.notMatch(stdout, /url\(|@import|@font-face|href=|<script|<foreignObject/);
  t.equal(stdout.match(/http/g)?.length, 1, 'the namespace only');
});

/** Characters that XML cannot hold, or that do something to a terminal. */
function strange(text: string): string[] {
  return [...text].filter((character) => {
    const code = character.codePointAt(0)!;
    if (code < 0x20) return character !== '\n';
    return (
      (code >= 0x7f && code < 0xa0) ||
      code === 0x202e ||
      (code & 0xf800) === 0xd800 ||
      (code & 0xfffe) === 0xfffe
    );
  });
}

t.test('svg: text from outside is text', async (t) => {
  const system = nastyNames();
  const svg = drawSvg(modelOf(system, { name: NASTY.join(' '), route: null, all: false }));
  t.notMatch(svg, '<script');
  t.same(strange(svg), []);
  t.equal(xml('a<b>&"\'\u0000\ud800é'), 'a&lt;b&gt;&amp;&quot;&#39;\\x00\ufffdé');
  const dot = drawDot(modelOf(system, { name: 'a"b\\', route: null, all: false }));
  t.match(dot, /^digraph "a\\"b\\\\" \{/);
  const text = drawText(modelOf(system, { name: '', route: null, all: false }), plain);
  // As it is written out: what UTF-8 has no bytes for is replaced, and U+FFFF does nothing to a terminal.
  t.same(strange(Buffer.from(text).toString().replaceAll('\uffff', '')), []);
});

t.test('dot: what graphviz reads', async (t) => {
  const { stdout } = topo('--machine', 'nested-switches', '--route', 'nvme0n1', 'nvme1n1', '--format', 'dot');
  t.match(stdout, /"0000:02:00\.0" -> "0000:03:00\.0" \[color="#1a7f37", style=solid, penwidth=3\];/);
  t.match(stdout, /subgraph "cluster 0000:04:00\.0" \{/);
  t.match(stdout, /"0000:05:01\.0" -> "0000:07:00\.0";/);
  t.equal(stdout.match(/[{}]/g)!.length % 2, 0);
  for (const line of stdout.trim().split('\n')) t.match(line, /(^digraph .* \{|\{|\}|;)$/);
});

t.test(
  'dot: graphviz draws it',
  { skip: spawnSync('dot', ['-V']).status !== 0 && 'there is no graphviz' },
  async (t) => {
    for (const system of [bigServer(), nastyNames()]) {
      const { status, stdout, stderr } = spawnSync('dot', ['-Tsvg'], {
        input: drawDot(modelOf(system, { name: 'x', route: null, all: false })),
        encoding: 'utf8',
      });
      t.equal(status, 0, stderr);
      t.match(stdout, '</svg>');
    }
  },
);

t.test('a captured tree: looked at, not opened', async (t) => {
  const root = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  const verdict = topo('--root', root, '--route', 'nvme0', 'nvme1');
  t.equal(verdict.status, 0, verdict.stderr);
  t.match(verdict.stdout, /^host bridge 0000:00 {2}8086:/m);
  t.match(verdict.stdout, /[┣┗]━ 0000:03:00\.0 {2}nvme0 .*◀ provider/);
  const copy = topo('--root', root, '--route', 'nvme0n1', 'nvme1n1', '--json');
  t.equal(copy.status, 0, copy.stderr);
  t.match(JSON.parse(copy.stdout).route, {
    question: 'nvme0n1 → nvme1n1',
    clients: ['0000:03:00.0', '0000:04:00.0'],
  });
});

t.test('what leads to no drive is counted, not shown, where it is much', async (t) => {
  const machine = new TestMachine();
  const bridge = machine.bridge();
  for (let i = 0; i < 9; i++) machine.add(bridge, { bdf: `0000:00:0${i}.0`, type: 'conventional' });
  const port = machine.add(bridge, { bdf: '0000:00:0a.0', type: 'root-port' });
  const drive = machine.add(port, { bdf: '0000:01:00.0' });
  const empty = machine.add(bridge, { bdf: '0000:00:0b.0', type: 'root-port' });
  machine.add(empty, { bdf: '0000:02:00.0' });
  const system = systemOf(machine, [controllerOf(drive, 'nvme0')]);
  const shown = modelOf(system, { name: '', route: null, all: false }).host.children[0]!.children;
  t.same(
    shown.map(({ title }) => title),
    ['0000:00:0a.0', '11 other functions'],
  );
  const all = modelOf(system, { name: '', route: null, all: true });
  t.equal(all.host.children[0]!.children.length, 11);
  t.match(
    drawText(modelOf(system, { name: '', route: null, all: false }), plain),
    /└─ 11 other functions that/,
  );
});

t.test('a machine without PCI', async (t) => {
  const model = modelOf(systemOf(new TestMachine()), { name: 'none', route: null, all: false });
  t.match(drawText(model, plain), /no PCI functions are known/);
  t.match(drawSvg(model), /0 PCI functions, 0 NVMe controllers, none with peer memory/);
});

t.test('ACS that could not be read: a route of its own kind', async (t) => {
  const machine = new TestMachine();
  const bridge = machine.bridge();
  machine.add(bridge, { bdf: '0000:00:00.0', vendor: 0x8086, device: 0x29c0 });
  const root = machine.add(bridge, { bdf: '0000:00:01.0', type: 'root-port', acs: 'unknown' });
  machine.add(root, { bdf: '0000:01:00.0' });
  machine.add(root, { bdf: '0000:01:00.1' });
  const verdict = {
    bdf: '0000:01:00.1',
    mapType: 'BUS_ADDR',
    distance: 2,
    acs: [],
    acsKnown: false,
    rule: 'acs-unknown',
    refusal: null,
    reason: 'r',
    remedy: 'as root',
  };
  const system = {
    ...systemOf(machine),
    explain: () => ({ provider: '0000:01:00.0', distance: 2, notes: [], clients: [verdict] }),
  } as unknown as System;
  const route = findRoute(system, ['0000:01:00.0', '0000:01:00.1']);
  t.match(route, { kind: 'unknown', remedies: ['as root'] });
  const model = modelOf(system, { name: '', route, all: false });
  t.match(drawSvg(model), /class="route unknown"/);
  t.match(drawText(model, plain), /0000:00:01\.0 {2}root-port {2}ACS unknown/);
});

t.test('layout: nothing overlaps, whatever the tree', async (t) => {
  interface Shape {
    size: [number, number];
    framed: boolean;
    children: Shape[];
  }
  const { shape } = fc.letrec<{ shape: Shape }>((tie) => ({
    shape: fc.record({
      size: fc.tuple(fc.integer({ min: 20, max: 300 }), fc.integer({ min: 10, max: 200 })),
      framed: fc.boolean(),
      children: fc.oneof({ maxDepth: 5 }, fc.constant<Shape[]>([]), fc.array(tie('shape'), { maxLength: 5 })),
    }),
  }));
  fc.assert(
    fc.property(shape, (root) => {
      let next = 0;
      const toBox = ({ size: [width, height], framed, children }: Shape): LayoutBox => ({
        id: String(next++),
        width,
        height,
        kind: 'x',
        // A switch's ports are not switches.
        framed: framed && children.length > 0 && children.every((child) => !child.framed),
        children: children.map(toBox),
      });
      const tree = toBox(root);
      const layout = layOut(tree);
      t.same(layOut(tree), layout);
      const boxes = [...layout.boxes];
      const apart = (a: Rect, b: Rect) =>
        a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
      for (const [i, [, a]] of boxes.entries()) {
        if (a.x < 0 || a.y < 0 || a.x + a.width > layout.width || a.y + a.height > layout.height)
          return false;
        for (const [, b] of boxes.slice(i + 1)) if (!apart(a, b)) return false;
      }
      const members = new Map<string, Set<string>>();
      const walk = (box: LayoutBox) => {
        members.set(box.id, new Set([box.id, ...box.children.map(({ id }) => id)]));
        for (const child of box.children) walk(child);
      };
      walk(tree);
      for (const [id, frame] of layout.frames) {
        for (const [other, rect] of boxes)
          if (!members.get(id)!.has(other) && !apart(frame, rect)) return false;
        if (frame.y < 0 || frame.y + frame.height > layout.height) return false;
      }
      return true;
    }),
    { numRuns: 300 },
  );
});

t.test('words: wrapped to a width, long ones cut', async (t) => {
  const font = { size: 12 };
  const lines = wrap(`some words and ${'x'.repeat(200)} end`, 200, font);
  t.ok(lines.length > 3);
  for (const line of lines) t.ok(textWidth(line, font) <= 200, line);
  t.equal(lines.join('').replaceAll(' ', ''), `somewordsand${'x'.repeat(200)}end`);
  t.same(wrap('', 100, font), []);
});

t.test('every function of a big server is drawn once', async (t) => {
  const system = bigServer();
  const seen: string[] = [];
  const walk = (node: TopoNode) => {
    if (node.dev !== null) seen.push(node.dev.bdf);
    for (const child of node.children) walk(child);
  };
  walk(modelOf(system, { name: '', route: null, all: true }).host);
  t.same(seen.sort(), system.topology.functions.map(({ bdf }) => bdf).sort());
});
