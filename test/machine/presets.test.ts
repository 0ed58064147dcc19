/**
 * Every machine that comes with the package, both directions, every choice of provider. The table is written from the
 * rules of the patch series (distance, map type, ACS, host bridge allow-list, queue feature), not from what the code answers.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  type ClientVerdict,
  MACHINE_PRESETS,
  openSystem,
  type PathBytes,
  type Receipt,
  type System,
} from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';

/** Where the memory of a copy lies, seen from its ends. */
type Via = 'source' | 'destination' | 'third' | null;

/** What the kernel says of two different functions: a provider and its client. */
interface Pair {
  readonly provider: string;
  readonly client: string;
  readonly distance: number;
  readonly mapType: ClientVerdict['mapType'];
  readonly acs?: readonly string[];
  readonly reason: RegExp;
  readonly remedy?: RegExp | null;
}

/** One way to copy between two drives, and what comes of it. */
interface Copy {
  readonly from: string;
  readonly to: string;
  readonly provider: string;
  readonly transport: Receipt['transport'];
  readonly via: Via;
  readonly reason: RegExp;
}

interface Row {
  /** The drives by name, in the order of their addresses. */
  readonly drives: Readonly<Record<string, string>>;
  /** Their CMBs, by name. */
  readonly memory: Readonly<Record<string, 'published' | 'unpublished' | 'none'>>;
  readonly pairs: readonly Pair[];
  readonly copies: readonly Copy[];
  /** What a drive answers when another's (`peer`), or its own (`own`), CMB memory is handed to it regardless. */
  readonly peer: 'ok' | 'EREMOTEIO' | 'ENODEV';
  readonly own: 'ok' | 'EREMOTEIO' | 'ENODEV';
}

const SWITCH = { nvme0: '0000:03:00.0', nvme1: '0000:04:00.0' };
const PORTS = { nvme0: '0000:01:00.0', nvme1: '0000:02:00.0' };
const PUBLISHED = { nvme0: 'published', nvme1: 'published' } as const;
/** Four controllers under one switch, of which two have memory. */
const FOUR = {
  drives: {
    nvme0: '0000:03:00.0',
    nvme1: '0000:04:00.0',
    nvme2: '0000:05:00.0',
    nvme3: '0000:06:00.0',
  },
  memory: { nvme0: 'published', nvme1: 'published', nvme2: 'none', nvme3: 'none' },
} as const;
const PORT = '0000:00:01.0';

const ASKED = /host memory was asked for \(provider: none\)/;
const NO_MEMORY = /has no peer-to-peer memory/;
const QUEUE = /IOMMU driver.*cannot map peer-to-peer memory, so the queue of nvme[01] does not take it/;
const REFUSED = /not on the kernel’s host bridge allow-list/;
const HEAD = /nvme2n1 is an NVMe multipath head: its queue does not take peer-to-peer memory/;
const BUS = /share the upstream bridge.*no function on the way redirects/;

/** Both directions of a pair that the rules treat alike. */
function pairs(drives: Readonly<Record<string, string>>, verdict: Omit<Pair, 'provider' | 'client'>): Pair[] {
  const [a, b] = Object.keys(drives) as [string, string];
  return [
    { provider: a, client: b, ...verdict },
    { provider: b, client: a, ...verdict, acs: (verdict.acs ?? []).toReversed() },
  ];
}

type Outcome = readonly [transport: Receipt['transport'], via: Via, reason: RegExp];

/** Both directions of two drives: what comes of each choice of provider. */
function copies(by: Record<'auto' | 'source' | 'destination', Outcome> & { port?: RegExp }): Copy[] {
  const rows: Copy[] = [];
  for (const [from, to] of [
    ['nvme0', 'nvme1'],
    ['nvme1', 'nvme0'],
  ] as const) {
    const choices: [string, Outcome][] = [
      ['auto', by.auto],
      [from, by.source],
      [to, by.destination],
      [PORT, ['host-memory', null, by.port ?? NO_MEMORY]],
      ['none', ['host-memory', null, ASKED]],
    ];
    for (const [provider, [transport, via, reason]] of choices) {
      rows.push({ from, to, provider, transport, via, reason });
    }
  }
  return rows;
}

const peerToPeer = (transport: Receipt['transport'], reason: RegExp) =>
  copies({
    auto: [transport, 'source', reason],
    source: [transport, 'source', reason],
    destination: [transport, 'destination', reason],
  });
const hostOnly = (auto: RegExp, named: RegExp = auto, port: RegExp = NO_MEMORY) =>
  copies({
    port,
    auto: ['host-memory', null, auto],
    source: ['host-memory', null, named],
    destination: ['host-memory', null, named],
  });

/** Two drives under one switch, nothing in the way. */
const onTheBus = {
  drives: SWITCH,
  memory: PUBLISHED,
  pairs: pairs(SWITCH, { distance: 4, mapType: 'BUS_ADDR', reason: BUS, remedy: null }),
  copies: peerToPeer('p2p-bus', BUS),
  peer: 'ok',
  own: 'ok',
} as const satisfies Row;

const REDIRECTING = ['0000:02:00.0', '0000:02:01.0'];
const REDIRECT = /ACS redirection in 0000:02:0[01]\.0, 0000:02:0[01]\.0/;
const DISABLE = /pci=disable_acs_redir=0000:02:0[01]\.0;0000:02:0[01]\.0.*isolation/;

/** ACS redirection sends it up, and the host bridge passes it on. */
const upAndDown = {
  drives: SWITCH,
  memory: PUBLISHED,
  pairs: pairs(SWITCH, {
    distance: 4,
    mapType: 'THRU_HOST_BRIDGE',
    acs: REDIRECTING,
    reason: REDIRECT,
    remedy: DISABLE,
  }),
  copies: peerToPeer('p2p-host-bridge', REDIRECT),
  peer: 'ok',
  own: 'ok',
} as const satisfies Row;

const acrossPorts = (reason: RegExp) =>
  ({
    drives: PORTS,
    memory: PUBLISHED,
    pairs: pairs(PORTS, { distance: 4, mapType: 'THRU_HOST_BRIDGE', reason, remedy: null }),
    copies: peerToPeer('p2p-host-bridge', reason),
    peer: 'ok',
    own: 'ok',
  }) as const satisfies Row;

const withoutMemory = {
  drives: SWITCH,
  memory: { nvme0: 'none', nvme1: 'none' },
  pairs: onTheBus.pairs,
  copies: hostOnly(/no drive has a CMB/, NO_MEMORY),
  peer: 'ENODEV',
  own: 'ENODEV',
} as const satisfies Row;

const near = (provider: string, client: string, distance: number): Pair => ({
  provider,
  client,
  distance,
  mapType: 'BUS_ADDR',
  reason: BUS,
  remedy: null,
});

const bus = (from: string, to: string, provider: string, via: Via): Copy => ({
  from,
  to,
  provider,
  transport: 'p2p-bus',
  via,
  reason: BUS,
});
const host = (from: string, to: string, provider: string, reason: RegExp): Copy => ({
  from,
  to,
  provider,
  transport: 'host-memory',
  via: null,
  reason,
});

const TABLE: Readonly<Record<string, Row>> = {
  switch: onTheBus,
  'bus-offset': onTheBus,
  'small-cmb': onTheBus,
  'iommu-switch': onTheBus,

  // The far pairs meet at the outer switch: 2 hops up from 03:00.0, 4 from 06:00.0 and 07:00.0.
  'nested-switches': {
    drives: { nvme0: '0000:03:00.0', nvme1: '0000:06:00.0', nvme2: '0000:07:00.0' },
    memory: { nvme0: 'published', nvme1: 'published', nvme2: 'published' },
    pairs: [
      near('nvme0', 'nvme1', 6),
      near('nvme0', 'nvme2', 6),
      near('nvme1', 'nvme0', 6),
      near('nvme1', 'nvme2', 4),
      near('nvme2', 'nvme0', 6),
      near('nvme2', 'nvme1', 4),
    ],
    copies: [
      bus('nvme0', 'nvme1', 'auto', 'source'),
      bus('nvme0', 'nvme1', 'nvme0', 'source'),
      bus('nvme0', 'nvme1', 'nvme1', 'destination'),
      bus('nvme0', 'nvme1', 'nvme2', 'third'),
      host('nvme0', 'nvme1', 'none', ASKED),
      bus('nvme1', 'nvme0', 'auto', 'source'),
      bus('nvme1', 'nvme0', 'nvme1', 'source'),
      bus('nvme1', 'nvme0', 'nvme0', 'destination'),
      bus('nvme1', 'nvme0', 'nvme2', 'third'),
      host('nvme1', 'nvme0', 'none', ASKED),
      bus('nvme0', 'nvme2', 'auto', 'source'),
      bus('nvme0', 'nvme2', 'nvme1', 'third'),
      bus('nvme2', 'nvme0', 'auto', 'source'),
      bus('nvme2', 'nvme0', 'nvme1', 'third'),
      bus('nvme1', 'nvme2', 'auto', 'source'),
      bus('nvme1', 'nvme2', 'nvme2', 'destination'),
      bus('nvme1', 'nvme2', 'nvme0', 'third'),
      bus('nvme2', 'nvme1', 'auto', 'source'),
      bus('nvme2', 'nvme1', 'nvme1', 'destination'),
      bus('nvme2', 'nvme1', 'nvme0', 'third'),
      host('nvme2', 'nvme1', PORT, NO_MEMORY),
    ],
    peer: 'ok',
    own: 'ok',
  },

  'multi-function': {
    drives: { nvme0: '0000:01:00.0', nvme1: '0000:01:00.1' },
    memory: PUBLISHED,
    pairs: pairs(PORTS, { distance: 2, mapType: 'BUS_ADDR', reason: BUS, remedy: null }),
    copies: peerToPeer('p2p-bus', BUS),
    peer: 'ok',
    own: 'ok',
  },

  'root-ports': {
    drives: PORTS,
    memory: PUBLISHED,
    pairs: pairs(PORTS, {
      distance: -1,
      mapType: 'NOT_SUPPORTED',
      reason: REFUSED,
      remedy: /below one PCIe switch/,
    }),
    copies: hostOnly(REFUSED),
    peer: 'EREMOTEIO',
    own: 'ok',
  },
  'root-ports-listed': acrossPorts(/share no upstream bridge.*on the kernel’s host bridge allow-list/),
  zen: acrossPorts(/share no upstream bridge.*AMD/),

  acs: {
    drives: SWITCH,
    memory: PUBLISHED,
    pairs: pairs(SWITCH, {
      distance: -1,
      mapType: 'NOT_SUPPORTED',
      acs: REDIRECTING,
      reason: REDIRECT,
      remedy: DISABLE,
    }),
    copies: hostOnly(REDIRECT),
    peer: 'EREMOTEIO',
    own: 'ok',
  },
  'acs-listed': upAndDown,
  iommu: upAndDown,

  // The way would be there, but the queues take no peer-to-peer memory at all: not even their own drive's.
  'iommu-unsupported': {
    drives: SWITCH,
    memory: PUBLISHED,
    pairs: onTheBus.pairs,
    copies: hostOnly(QUEUE, QUEUE, QUEUE),
    peer: 'EREMOTEIO',
    own: 'EREMOTEIO',
  },

  'no-cmb': withoutMemory,
  'misaligned-cmb': withoutMemory,

  'cmb-read-only': {
    drives: SWITCH,
    memory: { nvme0: 'unpublished', nvme1: 'unpublished' },
    pairs: onTheBus.pairs,
    copies: hostOnly(/no CMB is published/, /CMB is not published/),
    // p2pmem/allocate does not ask whether it is published, and reads may go into this one.
    peer: 'ok',
    own: 'ok',
  },

  // nvme2 and nvme3 have no CMB.
  'four-drives': {
    ...FOUR,
    pairs: [
      near('nvme0', 'nvme1', 4),
      near('nvme0', 'nvme2', 4),
      near('nvme0', 'nvme3', 4),
      near('nvme1', 'nvme0', 4),
      near('nvme1', 'nvme2', 4),
      near('nvme1', 'nvme3', 4),
    ],
    copies: [
      bus('nvme0', 'nvme1', 'auto', 'source'),
      bus('nvme1', 'nvme0', 'auto', 'source'),
      bus('nvme0', 'nvme2', 'auto', 'source'),
      bus('nvme0', 'nvme2', 'nvme1', 'third'),
      host('nvme0', 'nvme2', 'nvme2', NO_MEMORY),
      bus('nvme2', 'nvme0', 'auto', 'destination'),
      bus('nvme2', 'nvme0', 'nvme1', 'third'),
      bus('nvme2', 'nvme3', 'auto', 'third'),
      bus('nvme3', 'nvme2', 'auto', 'third'),
      bus('nvme2', 'nvme3', 'nvme1', 'third'),
      host('nvme2', 'nvme3', 'nvme2', NO_MEMORY),
      host('nvme2', 'nvme3', 'nvme3', NO_MEMORY),
      host('nvme2', 'nvme3', 'none', ASKED),
    ],
    peer: 'ok',
    own: 'ok',
  },

  // md0 is over nvme1n1 and nvme2n1, which are nobody else's: test/emulator/stacks.test.ts writes to it.
  mirror: {
    drives: { nvme0: '0000:03:00.0', nvme1: '0000:04:00.0', nvme2: '0000:05:00.0' },
    memory: { nvme0: 'published', nvme1: 'published', nvme2: 'none' },
    pairs: [
      near('nvme0', 'nvme1', 4),
      near('nvme1', 'nvme0', 4),
      {
        provider: 'nvme0',
        client: 'nvme2',
        distance: -1,
        mapType: 'NOT_SUPPORTED',
        reason: REFUSED,
        remedy: /below one PCIe switch/,
      },
    ],
    copies: [],
    peer: 'ok',
    own: 'ok',
  },

  // nvme2n1 is a head, with nvme2 and nvme3 for paths.
  multipath: {
    ...FOUR,
    pairs: [near('nvme0', 'nvme1', 4), near('nvme0', 'nvme2', 4), near('nvme0', 'nvme3', 4)],
    copies: [
      bus('nvme0', 'nvme1', 'auto', 'source'),
      host('nvme0', 'nvme2', 'auto', HEAD),
      host('nvme2', 'nvme0', 'nvme1', HEAD),
    ],
    peer: 'ok',
    own: 'ok',
  },
};

const BLOCK = 512;
/** Odd, several chunks long, and not at the start of a block: two blocks are touched in part. */
const LENGTH = 150_001;
const START = 1031;
/** Whole blocks that the bytes lie in. */
const SPAN = Math.ceil((START + LENGTH) / BLOCK) * BLOCK - Math.floor(START / BLOCK) * BLOCK;
/** The first and the last block of the destination are read, merged and written. */
const MERGED = 2 * BLOCK;

/** Reads fill SPAN bytes of memory; writes take SPAN out of it, and the merged blocks go through it too. */
function expectedPath(transport: Receipt['transport'], via: Via): PathBytes {
  const between = transport === 'p2p-bus' ? 'peerBus' : 'hostBridge';
  const path: PathBytes = { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
  if (transport === 'host-memory') path.hostDram = 2 * SPAN + MERGED;
  else if (via === 'source') {
    path.internal = SPAN;
    path[between] = SPAN + MERGED;
  } else if (via === 'destination') {
    path[between] = SPAN;
    path.internal = SPAN + MERGED;
  } else path[between] = 2 * SPAN + MERGED;
  return path;
}

function onlyProviders({ drives, memory }: Row): string[] {
  return Object.keys(drives).filter((name) => memory[name] === 'published');
}

t.same(Object.keys(TABLE).sort(), [...MACHINE_PRESETS].sort(), 'every preset has its row');

for (const [preset, row] of Object.entries(TABLE)) {
  t.test(preset, async (t) => {
    const system = await openSystem({ machine: preset });
    checkDrives(t, system, row);
    checkVerdicts(t, system, row);
    for (const copy of row.copies) await checkCopy(t, system, row, copy);
    await checkInside(t, system, row);
    await checkRegardless(t, system, row);
    t.same(await system.close(), NOTHING_LEFT, 'nothing is left over');
  });
}

t.test('files: the length is exact, and whole blocks go drive to drive', async (t) => {
  const folder = t.testdir({ from: bytesOf(LENGTH, 6) });
  const system = await openSystem({ machine: 'switch' });
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  const receipt = await system.pipeline(from, to, {
    requireP2p: true,
    verify: true,
    highWaterMark: 64 * 1024,
  });
  // The file's last block is covered only in part: it is written through the page cache, and the receipt says so.
  const tail = LENGTH % BLOCK;
  const read = LENGTH - tail + BLOCK;
  t.match(receipt, { bytes: LENGTH, transport: 'p2p-bus', provider: SWITCH.nvme0, verified: true });
  t.same(receipt.path, { internal: read, peerBus: LENGTH - tail, hostBridge: 0, hostDram: tail });
  t.ok(readFileSync(to).equals(readFileSync(from)));
  t.same(await system.close(), NOTHING_LEFT);
});

function checkDrives(t: Test, system: System, { drives, memory }: Row): void {
  const found = system.controllers.map((c) => [c.name, c.pdev?.bdf]);
  t.same(Object.fromEntries(found), drives, 'drives');
  for (const [name, state] of Object.entries(memory)) {
    const p2pmem = system.topology.find(drives[name]!)?.p2pmem ?? null;
    const is = p2pmem === null ? 'none' : p2pmem.published ? 'published' : 'unpublished';
    t.equal(is, state, `the CMB of ${name}`);
  }
}

function checkVerdicts(t: Test, system: System, { drives, pairs }: Row): void {
  for (const { provider, client, distance, mapType, acs = [], reason, remedy } of pairs) {
    const what = `${client} with the memory of ${provider}`;
    const answer = system.explain(provider, [client]);
    t.equal(answer.provider, drives[provider], what);
    t.equal(answer.distance, distance, `${what}: distance`);
    const [verdict] = answer.clients;
    t.match(verdict, { bdf: drives[client]!, distance, mapType, acsKnown: true }, what);
    t.same(verdict!.acs, acs, `${what}: ACS`);
    t.match(verdict!.reason, reason, `${what}: why`);
    if (remedy === null) t.equal(verdict!.remedy, null, `${what}: needs no help`);
    else if (remedy !== undefined) t.match(verdict!.remedy, remedy, `${what}: what helps`);
  }
  for (const [name, bdf] of Object.entries(drives)) {
    const own = system.explain(name, [bdf]);
    t.match(own, { distance: 0, clients: [{ distance: 0, mapType: 'BUS_ADDR', acs: [] }] }, `${name} alone`);
  }
}

async function checkCopy(t: Test, system: System, row: Row, copy: Copy): Promise<void> {
  const { from, to, provider, transport, via, reason } = copy;
  const what = `${from} → ${to}, provider ${provider}`;
  const [source, destination] = [`${from}n1`, `${to}n1`];
  const data = bytesOf(LENGTH, 3);
  const before = bytesOf(SPAN + 8192, 4);
  const options = { start: START, end: START + LENGTH - 1, destinationStart: START, provider };
  await poke(system, source, START, data);
  await poke(system, destination, 0, before);

  if (transport === 'host-memory') {
    await t.rejects(
      system.pipeline(source, destination, { ...options, requireP2p: true }),
      { code: 'ERR_P2P_REQUIRED', message: reason },
      `${what}: requireP2p`,
    );
    t.ok((await peek(system, destination, 0, before.length)).equals(before), `${what}: nothing was written`);
  }

  const receipt = await system.pipeline(source, destination, {
    ...options,
    highWaterMark: 64 * 1024,
    requireP2p: transport !== 'host-memory',
    verify: true,
  });
  const chosen =
    via === null ? null : via === 'source' ? from : via === 'destination' ? to : thirdOf(row, copy);
  t.match(
    receipt,
    {
      bytes: LENGTH,
      transport,
      provider: chosen === null ? null : row.drives[chosen]!,
      reason,
      unproven: null,
      verified: true,
      backend: 'emulator',
    },
    what,
  );
  t.same(receipt.path, expectedPath(transport, via), `${what}: bytes by path`);
  data.copy(before, START);
  t.ok((await peek(system, destination, 0, before.length)).equals(before), `${what}: written there only`);
}

/** Of equally near third providers it is the first. */
function thirdOf(row: Row, { from, to, provider }: Copy): string {
  return provider in row.drives ? provider : onlyProviders(row).find((name) => name !== from && name !== to)!;
}

/** From one place to another of one drive: through its own CMB where its queue takes that. */
async function checkInside(t: Test, system: System, row: Row): Promise<void> {
  await poke(system, 'nvme0n1', START, bytesOf(LENGTH, 5));
  const receipt = await system.pipeline('nvme0n1', 'nvme0n1', {
    start: START,
    end: START + LENGTH - 1,
    destinationStart: START + 1024 * 1024,
    verify: true,
  });
  const own = row.own === 'ok' && row.memory.nvme0 === 'published';
  t.match(receipt, { transport: own ? 'p2p-bus' : 'host-memory', verified: true }, 'inside one drive');
  const way = own ? 'internal' : 'hostDram';
  t.same(
    receipt.path,
    { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0, [way]: 2 * SPAN + MERGED },
    'inside one drive: bytes by path',
  );
}

/** No stream to choose the way: the kernel itself answers. */
async function checkRegardless(t: Test, system: System, row: Row): Promise<void> {
  const [first, second] = Object.keys(row.drives) as [string, string];
  for (const [drive, answer] of [
    [first, row.own],
    [second, row.peer],
  ] as const) {
    if (answer === 'ENODEV') {
      t.throws(() => system.allocate(first, 4096), { code: 'ENODEV' }, `${first} has no memory to give`);
      continue;
    }
    const memory = system.allocate(first, 4096);
    memory.buffer.fill(0xee);
    const target = await system.target(`${drive}n1`);
    const what = `${drive} reads into the CMB of ${first}`;
    if (answer === 'ok') {
      t.equal(await target.read(memory.buffer, 0), 4096, what);
      t.ok(memory.buffer.equals(await peek(system, `${drive}n1`, 0, 4096)), `${what}: the bytes are there`);
    } else {
      await t.rejects(target.read(memory.buffer, 0), { code: answer, errno: -121, syscall: 'read' }, what);
      t.ok(memory.buffer.equals(Buffer.alloc(4096, 0xee)), `${what}: not a byte moved`);
    }
    await target.close();
    memory.free();
  }
}
