/** What the types of the options refuse. Nothing here is run: it compiles, or it does not. */
import t from 'tap';
import {
  createReadStream,
  createWriteStream,
  pipeline,
  planCopy,
  type ReadStreamOptions,
  type System,
  type Target,
} from '../../lib/index.js';
import {
  copyOptions,
  optionHelp,
  parseOptions,
  readOptions,
  writeOptions,
} from '../../lib/streams/options.js';

export function refusedByTypes(system: System, target: Target, wide: ReadStreamOptions): void {
  // @ts-expect-error host memory is never peer to peer
  createReadStream('a', { memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a writer
  createWriteStream('a', { memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a copy
  pipeline('a', 'b', { memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a system's copy
  system.pipeline('a', 'b', { memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a system's reader
  system.createReadStream('a', { memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a target's reader
  target.createReadStream({ memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a target's writer
  target.createWriteStream({ memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a system's writer
  system.createWriteStream('a', { memory: 'host', requireP2p: true });
  // @ts-expect-error the same of a plan
  planCopy('a', 'b', { memory: 'host', requireP2p: true });
  // @ts-expect-error a name that no table has
  createReadStream('a', { highwaterMark: 1 });

  createReadStream('a', { memory: 'host' });
  createReadStream('a', { memory: 'host', requireP2p: false });
  createReadStream('a', { memory: 'cmb', requireP2p: true });
  createReadStream('a', { requireP2p: Math.random() > 2 });
  createReadStream('a', wide);
  createReadStream('a', 'utf8');
  pipeline('a', 'b', { requireP2p: true, system });
}

t.test('the tables say of each option what it is for, its default and what it can be', async (t) => {
  const defaults = parseOptions(readOptions, {}) as Record<string, unknown>;
  for (const [name, { text, value, byDefault }] of Object.entries(optionHelp)) {
    t.match(text, /^.+\.$/, name);
    if (name in defaults) t.equal(value, defaults[name], name);
    t.equal(byDefault === '', value === undefined && !['highWaterMark', 'queueDepth'].includes(name), name);
  }
  t.same(optionHelp.engine.choices, ['auto', 'uring', 'threads', 'passthrough']);
  t.equal(optionHelp.highWaterMark.byDefault, '512 KiB, less in a small CMB');
});

t.test('options are accepted one by one as their table accepts them together', async (t) => {
  const { signal } = new AbortController();
  const given = [
    {},
    { start: 5, end: 9, highWaterMark: 4096 },
    { end: Number.POSITIVE_INFINITY, queueDepth: 1, signal },
    { engine: 'threads', memory: 'cmb', requireP2p: true, force: undefined, start: undefined },
    { flags: 'r+', flush: false, highWaterMark: undefined },
  ];
  for (const table of [readOptions, writeOptions, copyOptions]) {
    for (const options of given) {
      const known = Object.fromEntries(Object.entries(options).filter(([name]) => name in table.shape));
      t.strictSame(parseOptions(table, known), table.parse(known), JSON.stringify(known));
    }
    t.throws(() => parseOptions(table, { constructor: 1 }), { code: 'ERR_INVALID_ARG_VALUE' });
    t.throws(() => parseOptions(table, { start: 0.5 }), { code: 'ERR_OUT_OF_RANGE', option: 'start' });
  }
  const one = parseOptions(readOptions, {});
  one.start = 7;
  t.equal(parseOptions(readOptions, {}).start, 0, 'the defaults are nobody’s to change');
});
