/**
 * The trace events of one request as a ladder: down through the layers, over the hardware, and up again.
 *
 *     ▼ iov_iter      64 KiB …
 *     ▼ bio           read, byte 0 …
 *     ▼ dma map       …
 *     ◆ fabric        0000:03:00.0 writes 64 KiB …
 *     ▲ completion    status 0
 *     ▲ bio           done …
 */
import { hexNumber } from '../../base/words.js';
import type { TraceEvent } from '../../index.js';
import { bytes, printable, wrap } from '../format.js';
import type { View } from '../table.js';

/** The events from the first layer's call to the last layer's completion. */
export interface TracedRequest {
  readonly op: string;
  readonly offset: number;
  readonly bytes: number;
  readonly events: readonly TraceEvent[];
}

export interface Traced {
  /** Events outside the requests: memory, the route. */
  readonly around: readonly TraceEvent[];
  readonly requests: readonly TracedRequest[];
}

/** Split a trace into its requests, each from the first event on the memory, or the submission, to the last completed bio. */
export function cutRequests(events: readonly TraceEvent[]): Traced {
  const around: TraceEvent[] = [];
  const requests: TracedRequest[] = [];
  let current: TraceEvent[] = [];
  let open = 0;
  for (const event of events) {
    const name = `${event.layer} ${event.event}`;
    const begins = PINS.has(event.layer) || BEGINS.has(name);
    if (current.length === 0 && !begins) {
      around.push(event);
      continue;
    }
    current.push(event);
    if (BEGINS.has(name)) open++;
    else if (ENDS.has(name)) open--;
    else continue;
    if (open > 0) continue;
    requests.push(requestOf(current));
    current = [];
  }
  around.push(...current);
  return { around, requests };
}

const PINS = new Set(['iov_iter', 'gup']);
const BEGINS = new Set(['bio submit', 'bio split', 'native-target submit']);
const ENDS = new Set(['bio endio', 'native-target complete']);

function requestOf(events: TraceEvent[]): TracedRequest {
  const submit = events.find((event) => event.event === 'submit');
  return {
    op: String(submit?.op ?? '?'),
    offset: Number(submit?.offset ?? 0),
    bytes: Number(submit?.bytes ?? 0),
    events,
  };
}

/** down: on the way to the device; device: what the hardware does; up: on the way back. */
type Side = 'down' | 'device' | 'up';

interface Rung {
  readonly side: Side;
  readonly layer: string;
  readonly text: string;
}

const ARROWS: Record<Side, string> = { down: '▼', device: '◆', up: '▲' };

export function drawLadder(request: TracedRequest, { colour, width }: View): string[] {
  const { op, offset, bytes: count, events } = request;
  const began = events[0]?.time ?? 0;
  const took = (events.at(-1)?.time ?? began) - began;
  const what = count === 0 ? op : `${op} ${bytes(count)} at byte ${offset}`;
  const lines = [`${colour.bold(what)}  ${colour.dim(micros(took))}`];
  for (const event of events) {
    const step = rung(event);
    if (step === null) continue;
    const { side, layer, text } = step;
    const paint = side === 'device' ? colour.yellow : side === 'up' ? colour.green : colour.cyan;
    const time = colour.dim(micros(event.time - began).padStart(9));
    lines.push(...wrap(printable(text), width, `${time}  ${paint(`${ARROWS[side]} ${layer.padEnd(12)}`)}  `));
  }
  return lines;
}

function micros(time: number): string {
  return time < 10_000 ? `${time.toFixed(0)} µs` : `${(time / 1000).toFixed(1)} ms`;
}

/** Groups the digits, because physical and bus addresses are long: `0x20_0102_0000`. */
function hex(address: unknown): string {
  return hexNumber(Number(address)).replace(/(?<=[\da-f])(?=([\da-f]{4})+$)/g, '_');
}

const OPCODES: Record<number, string> = {
  0: 'flush',
  1: 'write',
  2: 'read',
  8: 'write zeroes',
  9: 'dataset management',
};

const PATHS: Record<string, string> = {
  internal: 'inside the drive',
  peerBus: 'across the bus, peer to peer',
  hostBridge: 'through the host bridge',
  hostDram: 'host DRAM',
};

interface Segment {
  readonly phys: number;
  readonly address: number;
  readonly length: number;
  readonly provider: string | null;
  readonly bus: boolean;
}

/** Some entries of a table, and the number of further entries. */
function segments(entries: unknown, total: unknown, one: (entry: Segment) => string): string {
  const shown = (Array.isArray(entries) ? (entries as Segment[]) : []).map(one);
  const more = Number(total) - shown.length;
  return shown.join(', ') + (more > 0 ? `, and ${more} more` : '');
}

const many = (count: unknown, word: string) =>
  `${count} ${word}${count === 1 ? '' : word.endsWith('y') ? '' : 's'}`;

type Fields = Readonly<Record<string, unknown>>;

const down = (layer: string, text: string): Rung => ({ side: 'down', layer, text });
const device = (layer: string, text: string): Rung => ({ side: 'device', layer, text });
const up = (layer: string, text: string): Rung => ({ side: 'up', layer, text });

const size = (e: Fields) => bytes(Number(e.bytes ?? e.length ?? 0));

/** By layer and event. Null: another event says the same. */
const RUNGS: ReadonlyMap<string, ((e: Fields) => Rung | null) | null> = new Map([
  [
    'iov_iter get_pages',
    (e: Fields) => down('iov_iter', `${e.iter}: the next ${size(e)} of ${bytes(Number(e.count))}`),
  ],
  ['gup pin_user_pages', pinned],
  [
    'bio submit',
    (e: Fields) => down('bio', `${e.op}, byte ${e.offset}, ${size(e)} in ${many(e.segments, 'segment')}`),
  ],
  [
    'bio split',
    (e: Fields) => down('bio split', `byte ${e.offset}, ${size(e)}: what the queue takes at once`),
  ],
  ['scatterlist map_bio', (e: Fields) => down('scatterlist', segments(e.segments, e.entries, memoryOf))],
  // The dma-mapping events say the same.
  ['dma-direct map_sg', null],
  ['dma-iommu unmap_sg', null],
  [
    'dma-iommu map_sg',
    (e: Fields) =>
      Number(e.iovaLength) === 0
        ? null
        : down('dma map', `IOVA ${hex(e.iova)} + ${bytes(Number(e.iovaLength))} in the IOMMU`),
  ],
  ['pci-p2pdma warn', verdict],
  [
    'dma-mapping map_sg',
    (e: Fields) => {
      const what = e.error === null ? `${many(e.nents, 'segment')} → ${e.mapped}` : `refused, ${e.error}`;
      return down('dma map', `for ${e.device} by ${e.ops}: ${what}`);
    },
  ],
  [
    'nvme-pci map_data',
    (e: Fields) => {
      const lists = Number(e.lists) > 0 ? `, by ${many(e.lists, 'list')}` : '';
      return down(String(e.form).toUpperCase(), `${segments(e.dma, e.entries, addressOf)}${lists}`);
    },
  ],
  [
    'nvme-pci queue_rq',
    (e: Fields) => {
      const opcode = OPCODES[Number(e.opcode)] ?? `opcode ${e.opcode}`;
      const which = `${e.controller}, queue ${e.qid}, command ${e.cid}`;
      return down('command', `${which}: ${opcode}, namespace ${e.nsid}`);
    },
  ],
  ['nvme-pci sq_doorbell', (e: Fields) => down('doorbell', `queue ${e.qid}, tail ${e.tail}`)],
  ['fabric route', routed],
  [
    'nvme-controller execute',
    (e: Fields) => device('drive', `${e.controller} begins command ${e.cid} of queue ${e.qid}`),
  ],
  [
    'nvme-controller complete',
    (e: Fields) => {
      const how = e.status === 0 ? 'success' : `status ${hexNumber(Number(e.status))}`;
      return up('completion', `${e.controller}, queue ${e.qid}, command ${e.cid}: ${how}`);
    },
  ],
  ['dma-mapping unmap_sg', (e: Fields) => up('dma unmap', many(e.nents, 'segment'))],
  ['nvme-core error', nvmeStatus],
  ['nvme-core end_bio', nvmeStatus],
  ['bio endio', ended],
  [
    'native-target submit',
    (e: Fields) => down('submit', `${e.op}, byte ${e.offset}, ${size(e)}, ${e.target} by ${e.engine}`),
  ],
  [
    'native-target complete',
    (e: Fields) => {
      const result = Number(e.result);
      return up('completion', result < 0 ? `errno ${-result}` : bytes(result));
    },
  ],
]);

/** One event in words; null: another event says the same. */
function rung(event: TraceEvent): Rung | null {
  const known = RUNGS.get(`${event.layer} ${event.event}`);
  return known === undefined ? asItCame(event) : (known?.(event as Fields) ?? null);
}

function pinned(e: Fields): Rung {
  if (Number(e.result) < 0) return down('pin', `refused, errno ${-Number(e.result)}`);
  const whose = e.provider === null ? 'host memory' : `P2P memory, the CMB of ${e.provider}`;
  return down('pin', `${size(e)} from ${hex(e.phys)}: ${whose}`);
}

function memoryOf({ phys, length, provider }: Segment): string {
  return `${hex(phys)} + ${bytes(length)} (${provider === null ? 'host DRAM' : `CMB of ${provider}`})`;
}

function addressOf({ address, length, bus }: Segment): string {
  return `${hex(address)} + ${bytes(length)}${bus ? ' (bus address, marked P2P)' : ''}`;
}

function verdict(e: Fields): Rung {
  const acs = Array.isArray(e.acs) && e.acs.length > 0 ? `; ACS redirects in ${e.acs.join(', ')}` : '';
  const mapType = String(e.mapType).replace('PCI_P2PDMA_MAP_', '');
  return down('p2pdma', `${e.provider} for ${e.client}: ${mapType}${acs}`);
}

function routed(e: Fields): Rung {
  const own = e.target === e.requester ? ' of its own memory' : ` of the memory of ${e.target}`;
  const whose = e.target === null ? '' : own;
  const path = PATHS[String(e.path)] ?? e.path;
  return device('PCIe', `${e.requester} ${e.direction}s ${size(e)}${whose} at ${hex(e.address)}: ${path}`);
}

function nvmeStatus(e: Fields): Rung {
  return up('nvme', `${e.errno ?? ''}${e.status === undefined ? '' : ` (status ${e.status})`}`);
}

function ended(e: Fields): Rung {
  const ways = Object.entries((e.path ?? {}) as Record<string, number>)
    .filter(([, moved]) => moved > 0)
    .map(([way, moved]) => `${bytes(moved)} ${PATHS[way] ?? way}`);
  const how = ways.length > 0 ? `: ${ways.join(', ')}` : '';
  return up('bio', e.status === 0 ? `done${how}` : `failed, errno ${-Number(e.status)}${how}`);
}

/** An unknown event is shown with all its fields. */
function asItCame({ layer, event, time: _time, ...fields }: TraceEvent): Rung {
  const text = Object.entries(fields).map(
    ([key, value]) => `${key} ${typeof value === 'object' ? JSON.stringify(value) : value}`,
  );
  const side: Side = /fault|timeout|error|fail/.test(event) ? 'device' : 'down';
  return { side, layer, text: [event, ...text].join(', ') };
}
