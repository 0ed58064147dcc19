/**
 * Whatever happens to the words of lspci on their way: no failure but our own errors, no hang, and no verdict that the whole text
 * does not give. Less may be known of a text that lost something, never anything else.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { describeMachine, P2pdmaError, type System } from '../../lib/index.js';
import { quoted, wrapped } from '../helpers/lspci-words.js';
import { sureVerdict, verdictsByPair } from '../helpers/sent-verdicts.js';

const dumps = fileURLToPath(new URL('../../../test/fixtures/dumps', import.meta.url));
const MOST_MS = 1000;
const RUNS = 100;
// The same cases each time; another number, other cases.
fc.configureGlobal({ seed: Number(process.env.FUZZ_SEED ?? 14) });

/** Texts of whole machines, as root, with IDs. */
const WHOLE = ['root-acs', 'pciutils-3.5', 'pciutils-3.14', 'domains'].map((name) => ({
  name,
  text: oneRedirects(readFileSync(`${dumps}/${name}.txt`, 'latin1')),
}));

/** One function alone decides about redirection, so that a verdict hangs on every line about it. */
function oneRedirects(text: string): string {
  let seen = 0;
  return text.replaceAll(/ACSCtl:.*/g, (line) => (++seen === 2 ? line : line.replaceAll('+', '-')));
}

type Known = ReadonlyMap<string, string | null>;

/** Null: refused. */
async function open(text: string): Promise<System | null> {
  const from = process.cpuUsage();
  const bytes = Buffer.from(text, 'latin1');
  const opened = await describeMachine(bytes, { cpu: 'intel:6', kernel: '6.12.30' }).catch(
    (error: unknown) => {
      if (error instanceof P2pdmaError) return null;
      throw error;
    },
  );
  // Of this process alone: other load on the machine is not its fault.
  const { user, system } = process.cpuUsage(from);
  const ms = (user + system) / 1000;
  if (ms > MOST_MS) throw new Error(`took ${Math.round(ms)} ms`);
  return opened;
}

async function verdictsOf(text: string): Promise<Known> {
  const system = await open(text);
  if (system === null) return new Map();
  const known = new Map(verdictsByPair(system).map(([pair, verdict]) => [pair, sureVerdict(verdict)]));
  await system.close();
  return known;
}

/** Throws if the mutilated text says something that the whole one does not. */
async function assertNoMore(whole: Known, mutilated: string): Promise<void> {
  for (const [pair, verdict] of await verdictsOf(mutilated)) {
    if (verdict === null || whole.get(pair) === verdict) continue;
    throw new Error(`${pair} is ${verdict}, but of the whole text ${whole.get(pair) ?? 'nothing'}`);
  }
}

/** One property for each whole text. */
async function holds<T>(
  t: Test,
  inputs: (text: string) => fc.Arbitrary<T>,
  mutilate: (text: string, input: T) => string,
): Promise<void> {
  for (const { name, text } of WHOLE) {
    const whole = await verdictsOf(text);
    t.ok(
      [...whole.values()].some((verdict) => verdict !== null),
      `${name} has verdicts`,
    );
    const property = fc.asyncProperty(inputs(text), (input) => assertNoMore(whole, mutilate(text, input)));
    await fc.assert(property, { numRuns: RUNS });
    t.pass(name);
  }
}

t.test('cut anywhere', (t) =>
  holds(
    t,
    (text) => fc.nat(text.length),
    (text, at) => text.slice(0, at),
  ),
);

const ACS_LINES = /Access Control Services|ACSCap|ACSCtl/;

t.test('some lines lost, unless they are all that a function says of ACS', (t) =>
  holds(
    t,
    (text) => fc.uniqueArray(fc.nat(text.split('\n').length - 1), { minLength: 1, maxLength: 12 }),
    (text, lost) => {
      const lines = text.split('\n');
      const spared = lost.filter((at) => !lost.some((other) => other !== at && bothOfAcs(lines, at, other)));
      return lines.filter((_, at) => !spared.includes(at)).join('\n');
    },
  ),
);

function bothOfAcs(lines: readonly string[], a: number, b: number): boolean {
  return Math.abs(a - b) <= 2 && ACS_LINES.test(lines[a]!) && ACS_LINES.test(lines[b]!);
}

/** A function without its capability of ACS, and with its other lines, is another machine's: the only thing that is not noticed. */
function takesAcs(lines: readonly string[], from: number, to: number): boolean {
  const lost = lines.slice(from, to);
  const inside = lost.join('\n').split('\n\n').at(-1)!;
  return /Access Control[\s\S]*ACSCap[\s\S]*ACSCtl/.test(inside);
}

t.test('a range of lines lost, which does not take away all that a function says of ACS', (t) =>
  holds(
    t,
    (text) => fc.tuple(fc.nat(text.split('\n').length), fc.nat(90)),
    (text, [from, length]) => {
      const lines = text.split('\n');
      if (takesAcs(lines, from, from + length)) return text;
      return [...lines.slice(0, from), ...lines.slice(from + length)].join('\n');
    },
  ),
);

t.test('functions lost', (t) =>
  holds(
    t,
    (text) => fc.array(fc.boolean(), { minLength: 1, maxLength: text.split('\n\n').length }),
    (text, kept) =>
      text
        .split('\n\n')
        .filter((_, at) => kept[at] ?? true)
        .join('\n\n'),
  ),
);

t.test('headings lost, so that the lines of two functions are in a row', (t) =>
  holds(
    t,
    (text) => fc.array(fc.boolean(), { minLength: 1, maxLength: text.split('\n\n').length }),
    (text, lost) =>
      text
        .split('\n\n')
        .map((part, at) => (lost[at] ? part.replace(/^.*\n/, '') : part))
        .join('\n'),
  ),
);

t.test('through mail programs: what is wrapped is joined again', async (t) => {
  for (const { name, text } of WHOLE) {
    const whole = await verdictsOf(text);
    const options = fc.record({
      width: fc.integer({ min: 60, max: 120 }),
      indent: fc.constantFrom('\t', '        ', ' ', ''),
      mark: fc.constantFrom('', '>', '> ', '>> ', '> > > '),
      end: fc.constantFrom('\n', '\r\n'),
    });
    const property = fc.asyncProperty(options, async ({ width, indent, mark, end }) => {
      const mailed = quoted(wrapped(text, width, indent), mark).replaceAll('\n', end);
      t.strictSame(
        await verdictsOf(mailed),
        whole,
        `${name}: ${JSON.stringify({ width, indent, mark, end })}`,
      );
    });
    await fc.assert(property, { numRuns: 20 });
    const narrow = fc.asyncProperty(fc.integer({ min: 8, max: 60 }), (width) =>
      assertNoMore(whole, wrapped(text, width)),
    );
    await fc.assert(narrow, { numRuns: 30 });
  }
});

t.test('flags changed, except those of ACS', (t) =>
  holds(
    t,
    () => fc.array(fc.nat(5000), { minLength: 1, maxLength: 50 }),
    (text, places) => {
      const flags = [...text.matchAll(/[+-](?=[\s,])/g)].filter(
        ({ index }) =>
          !/ACSCtl[^\n]*$/.test(text.slice(0, index)) && !/Status: Cap$/.test(text.slice(0, index)),
      );
      const changed = new Set(places.map((at) => flags[at % flags.length]!.index));
      return [...text].map((char, at) => (changed.has(at) ? (char === '+' ? '-' : '+') : char)).join('');
    },
  ),
);

t.test('anything at all: only our own errors, and soon', async (t) => {
  const { text } = WHOLE[0]!;
  const edits = fc.array(
    fc.tuple(fc.nat(text.length), fc.nat(400), fc.oneof(fc.string(), fc.constantFrom('\n', '[', '> ', '\0'))),
    { minLength: 1, maxLength: 20 },
  );
  const property = fc.asyncProperty(edits, async (all) => {
    let edited = text;
    for (const [at, length, insert] of all) edited = edited.slice(0, at) + insert + edited.slice(at + length);
    const system = await open(edited);
    if (system !== null) verdictsByPair(system);
    await system?.close();
  });
  await fc.assert(property, { numRuns: RUNS });
  const repeated = ['> ', '\t', ' ', 'Capabilities: [', '00:00.0 ', '[0000:', '-+-[0000:00]-', '|', 'a'];
  for (const piece of repeated) {
    for (const start of [
      '',
      '00:00.0 Host bridge [0600]: x [8086:2020]\n',
      '-[0000:00]-+-00.0\n',
      `${text}\n`,
    ]) {
      const system = await open(start + piece.repeat(200_000));
      await system?.close();
    }
    t.pass(JSON.stringify(piece));
  }
});
