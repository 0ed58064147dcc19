import t from 'tap';
import { type Mark, sections, TraceReader, verdicts } from '../witness.js';

const CMB0 = 0xfd000000;
const drives = new Map([
  ['a', 'nvme0'],
  ['b', 'nvme1'],
]);
const windows = [{ provider: 'nvme0', start: CMB0, size: 0x1000000 }];

interface Io {
  blk: string;
  op: 'read' | 'write';
  cid: number;
  lba: number;
  /** Address and length of each piece. */
  pieces: [number, number][];
}

const pointerOf = (blk: string) => `0x${blk.charCodeAt(0)}0`;

function begin({ blk, op, cid, lba, pieces }: Io): string[] {
  const bytes = pieces.reduce((sum, [, length]) => sum + length, 0);
  const verb = op === 'read' ? '' : " opname 'NVME_NVM_CMD_WRITE'";
  return [
    `pci_nvme_io_cmd cid ${cid} nsid 0x1 sqid 1 opc 0x2 opname 'X'`,
    `pci_nvme_${op} cid ${cid}${verb} nsid 1 nlb ${bytes / 512} count ${bytes} lba 0x${lba.toString(16)}`,
    ...pieces.map(([address, length]) => `pci_nvme_map_addr addr 0x${address.toString(16)} len ${length}`),
    `dma_blk_io dbs=0x1 bs=${pointerOf(blk)} offset=${lba * 512} to_dev=${op === 'write' ? 1 : 0}`,
    `blk_co_p${op === 'write' ? 'write' : 'read'}v blk ${pointerOf(blk)} bs 0x7 offset ${lba * 512} bytes 4096 flags 0x0`,
  ];
}
const end = ({ blk, cid }: Io) => `pci_nvme_rw_cb cid ${cid} blk '${blk}'`;
const one = (io: Io) => [...begin(io), end(io)];
const markRead = (n: number) => one({ blk: 'a', op: 'read', cid: 9, lba: 1000 + n, pieces: [[0x1000, 512]] });

function judge(trace: string[], marks: Mark[]) {
  const reader = new TraceReader();
  for (const line of trace) reader.line(line);
  return verdicts(sections(reader.transfers(), marks, drives, windows));
}

const expect = { bytes: 4096, source: 'nvme0', destination: 'nvme1', provider: 'nvme0' };
const marks: Mark[] = [
  { n: 0, name: 'copy', lba: 1000, expect },
  { n: 1, name: 'end', lba: 1001 },
];

t.test('a peer-to-peer copy is confirmed', async (t) => {
  const trace = [
    ...markRead(0),
    ...one({ blk: 'a', op: 'read', cid: 1, lba: 0, pieces: [[CMB0, 4096]] }),
    ...one({ blk: 'b', op: 'write', cid: 1, lba: 0, pieces: [[CMB0, 4096]] }),
    ...markRead(1),
  ];
  const [verdict] = judge(trace, marks);
  t.same(verdict?.objections, []);
  t.match(verdict?.summary, '4096 a drive’s own CMB, 4096 peer to peer, 0 host memory');
});

t.test('one byte in host memory is objected to', async (t) => {
  const trace = [
    ...markRead(0),
    ...one({ blk: 'a', op: 'read', cid: 1, lba: 0, pieces: [[CMB0, 4096]] }),
    ...one({
      blk: 'b',
      op: 'write',
      cid: 1,
      lba: 0,
      pieces: [
        [CMB0, 4095],
        [0x2000, 1],
      ],
    }),
    ...markRead(1),
  ];
  const [verdict] = judge(trace, marks);
  t.same(verdict?.objections, [
    'nvme1 write: 4095 bytes in the CMB of nvme0, not 4096',
    'nvme1 write: 1 bytes in host memory, not 0',
  ]);
});

t.test('a piece that straddles the window’s end is split', async (t) => {
  const trace = [
    ...markRead(0),
    ...one({ blk: 'b', op: 'write', cid: 1, lba: 0, pieces: [[CMB0 + 0x1000000 - 512, 4096]] }),
    ...markRead(1),
  ];
  const [verdict] = judge(trace, marks);
  t.match(verdict?.summary, '512 peer to peer, 3584 host memory');
});

t.test('drives are told apart when both use the same command id at once', async (t) => {
  const read: Io = { blk: 'a', op: 'read', cid: 1, lba: 0, pieces: [[CMB0, 4096]] };
  const write: Io = { blk: 'b', op: 'write', cid: 1, lba: 0, pieces: [[CMB0, 4096]] };
  const trace = [...markRead(0), ...begin(read), ...begin(write), end(write), end(read), ...markRead(1)];
  t.same(judge(trace, marks)[0]?.objections, []);
});

t.test('what was mapped and refused counts nothing', async (t) => {
  const refused = begin({
    blk: 'b',
    op: 'write',
    cid: 3,
    lba: 0,
    pieces: [
      [CMB0, 4096],
      [0x1000, 4096],
    ],
  }).slice(0, -2);
  const status = 'pci_nvme_err_req_status cid 3 nsid 1 status 0x4012 opc 0x1';
  const another = 'blk_co_pwritev blk 0x610 bs 0x7 offset 0 bytes 4096 flags 0x0';
  const trace = [...markRead(0), ...refused, status, another, ...markRead(1)];
  const [verdict] = judge(trace, [
    { ...marks[0]!, expect: { bytes: 0, destination: 'nvme1', provider: 'nvme0' } },
    marks[1]!,
  ]);
  t.same(verdict?.objections, []);
});

t.test('a receipt that claims more than happened is objected to', async (t) => {
  const path = { internal: 4096, peerBus: 4096, hostBridge: 0, hostDram: 0 };
  const trace = [
    ...markRead(0),
    ...one({ blk: 'a', op: 'read', cid: 1, lba: 0, pieces: [[CMB0, 4096]] }),
    ...one({ blk: 'b', op: 'write', cid: 1, lba: 0, pieces: [[0x1000, 4096]] }),
    ...markRead(1),
  ];
  const [verdict] = judge(trace, [
    { ...marks[0]!, expect: { bytes: 4096, provider: null, path } },
    marks[1]!,
  ]);
  t.same(verdict?.objections, [
    'receipt: peer to peer 4096, witness 0',
    'receipt: host DRAM 0, witness 4096',
  ]);
});

t.test('a mark that is not in the trace is an error, not a pass', async (t) => {
  t.throws(() => judge(markRead(0), marks), /mark 1 \(end\) is not in the trace/);
});

const probe = (blk: string, cid: number): Io => ({ blk, op: 'read', cid, lba: 0, pieces: [[0x1000, 4096]] });

t.test('a drive is named by what is left, when others used its command id at the same time', async (t) => {
  const [a, b, c] = ['a', 'b', 'c'].map((blk) => probe(blk, 1));
  const reader = new TraceReader();
  // Each of them completes once while the others use the same id, then a and b alone.
  const together = [a!, b!, c!].flatMap(begin).concat([c!, b!, a!].map(end));
  for (const line of [...together, ...one(probe('b', 2)), ...one(probe('a', 1))]) reader.line(line);
  t.same(
    reader.transfers().map(({ blk }) => blk),
    ['a', 'b', 'c', 'b', 'a'],
  );
});

t.test('a drive that nothing names is an error in a section, and nowhere else', async (t) => {
  const twins = [probe('b', 1), probe('c', 1)];
  const unnamed = [...twins.flatMap(begin), ...twins.map(end)];
  const rest = [
    ...markRead(0),
    ...one({ blk: 'a', op: 'read', cid: 1, lba: 0, pieces: [[CMB0, 4096]] }),
    ...one({ blk: 'a', op: 'write', cid: 1, lba: 0, pieces: [[CMB0, 4096]] }),
  ];
  const own: Mark[] = [{ ...marks[0]!, expect: { ...expect, destination: 'nvme0' } }, marks[1]!];
  t.same(judge([...unnamed, ...rest, ...markRead(1)], own)[0]?.objections, []);
  t.throws(
    () => judge([...rest, ...unnamed, ...markRead(1)], own),
    /after mark 0 \(copy\) no completion tells the drive/,
  );
});

t.test('lines of a timestamped log are read too', async (t) => {
  const reader = new TraceReader();
  for (const line of markRead(0)) reader.line(`123@1700000000.000001:${line}`);
  t.equal(reader.transfers().length, 1);
});

t.test('commands are counted', async (t) => {
  const two: Mark[] = [
    { n: 0, name: 'copy', lba: 1000, expect: { ...expect, commands: { nvme1: { write: 1 } } } },
    marks[1]!,
  ];
  const whole = one({ blk: 'b', op: 'write', cid: 1, lba: 0, pieces: [[CMB0, 4096]] });
  const halves = [0, 4].flatMap((lba) =>
    one({ blk: 'b', op: 'write', cid: 1, lba, pieces: [[CMB0 + lba * 512, 2048]] }),
  );
  const into = one({ blk: 'a', op: 'read', cid: 1, lba: 0, pieces: [[CMB0, 4096]] });
  t.same(judge([...markRead(0), ...into, ...whole, ...markRead(1)], two)[0]?.objections, []);
  t.same(judge([...markRead(0), ...into, ...halves, ...markRead(1)], two)[0]?.objections, [
    'nvme1 write: 2 commands, not 1',
  ]);
});
