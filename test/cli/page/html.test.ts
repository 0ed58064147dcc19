/** The file that `--format html` writes: what is in it, that no name can end its script, and what it refuses. */
import { createHash } from 'node:crypto';
import t from 'tap';
import { inScript } from '../../../lib/cli/page/html.js';
import { MACHINE_PRESETS } from '../../../lib/index.js';
import type { PageFacts } from '../../../lib/page/facts.js';
import { p2pdma } from '../../helpers/cli.js';
import { fc } from '../../helpers/random.js';

const MOST = 150 * 1024;

const factsIn = (html: string): PageFacts =>
  JSON.parse(
    /<script type="application\/json" id="machine-facts">(.*?)<\/script>/s.exec(html)![1]!,
  ) as PageFacts;

t.test('one file: its own script and style by their digests, no address, not large', async (t) => {
  for (const preset of MACHINE_PRESETS) {
    const { status, stdout, stderr } = p2pdma('topo', '--machine', preset, '--format', 'html');
    t.equal(status, 0, stderr);
    const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(stdout)![1]!;
    t.match(policy, /^default-src 'none'; /);
    for (const element of ['script', 'style']) {
      const text = new RegExp(`<${element}>(.*?)</${element}>`, 's').exec(stdout)![1]!;
      const digest = createHash('sha256').update(text).digest('base64');
      t.ok(policy.includes(`${element}-src 'sha256-${digest}'`), `${preset}: ${element}`);
    }
    t.notMatch(stdout, /https?:\/\/|\b(src|href)=/, `${preset}: it names nothing to fetch`);
    t.ok(Buffer.byteLength(stdout) < MOST, `${preset}: ${Buffer.byteLength(stdout)} bytes`);
    const facts = factsIn(stdout);
    t.match(facts, { backend: 'emulator', machine: preset });
    t.equal(stdout.split(`emulated machine &#39;${preset}&#39;`).length > 1, true, 'marked as emulated');
  }
});

t.test('facts in a script element come out as they went in, and never end it', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const hostile = `${text}</script><!--<script>${text}\u2028`;
      const escaped = inScript({ hostile });
      return !/[<>&\u2028\u2029]/.test(escaped) && JSON.parse(escaped).hostile === hostile;
    }),
  );
});

t.test('the pair that was asked about is the one that is shown first', async (t) => {
  const asked = (...args: string[]) => factsIn(p2pdma(...args, '--format', 'html').stdout).asked;
  t.same(asked('explain', 'nvme0', 'nvme1', '--machine', 'acs'), {
    provider: '0000:03:00.0',
    clients: ['0000:04:00.0'],
  });
  t.same(asked('explain', 'nvme0', 'md0', '--machine', 'mirror').clients, ['md0']);
  t.same(asked('topo', '--route', 'nvme0', 'nvme1', '--machine', 'acs').provider, '0000:03:00.0');
  t.same(asked('topo', '--machine', 'acs'), { provider: null, clients: [] });
});

t.test('every release to choose from is there; facts that do not differ are there once', async (t) => {
  const { kernels, machines } = factsIn(p2pdma('topo', '--machine', 'acs', '--format', 'html').stdout);
  t.ok(kernels.some(({ release }) => release === '7.2.0'));
  t.ok(machines.length < kernels.length);
});

t.test('what a page cannot show is refused', async (t) => {
  for (const [args, what] of [
    [['--try'], /--format html computes, and --try asks the kernel/],
    [['--kernel', 'all'], /--kernel all compares them/],
    [['--kernel', 'proposed'], /--kernel proposed compares them/],
    [['--json'], /--format and --json|--json and --format/],
  ] as const) {
    const { status, stdout, stderr } = p2pdma('explain', '--machine', 'acs', '--format', 'html', ...args);
    t.equal(status, 2);
    t.equal(stdout, '');
    t.match(stderr, what);
  }
});

t.test('--format json is --json', async (t) => {
  const json = (...args: string[]) => p2pdma('explain', '--machine', 'acs', ...args).stdout;
  t.equal(json('--format', 'json'), json('--json'));
});
