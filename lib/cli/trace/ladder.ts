/**
 * Trace events of one request as a ladder: down through the layers on the left, over the hardware, and up again.
 *
 *     ▼ iov_iter      64 KiB …
 *     ▼ bio           read, byte 0 …
 *     ▼ dma map       …
 *     ◆ fabric        0000:03:00.0 writes 64 KiB …
 *     ▲ completion    status 0
 *     ▲ bio           done …
 */
import type { TraceEvent } from '../../index.js';
import { bytes, type Colours, printable } from '../format.js';

/** The events between the first layer's call and the last one's answer. */
export interface TracedRequest {
  readonly op: string;
  readonly offset: number;
  readonly bytes: number;
  readonly events: readonly TraceEvent[];
}

export interface Traced {
  /** What happened around the requests: memory, the route. */
  readonly around: readonly TraceEvent[];
  readonly requests: readonly TracedRequest[];
}

/** Cut a trace into its requests: from the first look at the memory, or the submission, to the last ended bio. */
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

/** Down: on the way to the device; device: what hardware does; up: on the way back. */
type Side = 'down' | 'device' | 'up';

interface Rung {
  readonly side: Side;
  readonly layer: string;
  readonly text: string;
}

const ARROWS: Record<Side, string> = { down: '▼', device: '◆', up: '▲' };

export function drawLadder({ op, offset, bytes: count, events }: TracedRequest, colour: Colours): string {
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
    lines.push(`${time}  ${paint(`${ARROWS[side]} ${layer.padEnd(12)}`)}  ${printable(text)}`);
  }
  return lines.join('\n');
}

function micros(time: number): string {
  return time < 10_000 ? `${time.toFixed(0)} µs` : `${(time / 1000).toFixed(1)} ms`;
}

/** `0x20_0102_0000`: physical and bus addresses are long. */
function hex(address: unknown): string {
  const digits = Number(address).toString(16);
  return `0x${digits.replace(/\B(?=(.{4})+$)/g, '_')}`;
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

/** Some entries of a table, and how many there are beyond them. */
function segments(entries: unknown, total: unknown, one: (entry: Segment) => string): string {
  const shown = (Array.isArray(entries) ? (entries as Segment[]) : []).map(one);
  const more = Number(total) - shown.length;
  return shown.join(', ') + (more > 0 ? `, and ${more} more` : '');
}

const many = (count: unknown, word: string) =>
  `${count} ${word}${count === 1 ? '' : word.endsWith('y') ? '' : 's'}`;

/** One event in words; null: another says it already. What is not known is shown as it came. */
function rung(event: TraceEvent): Rung | null {
  const { layer, event: name } = event;
  const e = event as Record<string, unknown>;
  const size = () => bytes(Number(e.bytes ?? e.length ?? 0));
  const rungOf = (side: Side, label: string, text: string): Rung => ({ side, layer: label, text });
  switch (`${layer} ${name}`) {
    case 'iov_iter get_pages':
      return rungOf('down', 'iov_iter', `${e.iter}: the next ${size()} of ${bytes(Number(e.count))}`);
    case 'gup pin_user_pages': {
      if (Number(e.result) < 0) return rungOf('down', 'pin', `refused, errno ${-Number(e.result)}`);
      const whose = e.provider === null ? 'host memory' : `P2P memory, the CMB of ${e.provider}`;
      return rungOf('down', 'pin', `${size()} from ${hex(e.phys)}: ${whose}`);
    }
    case 'bio submit':
      return rungOf('down', 'bio', `${e.op}, byte ${e.offset}, ${size()} in ${many(e.segments, 'segment')}`);
    case 'bio split':
      return rungOf('down', 'bio split', `byte ${e.offset}, ${size()}: what the queue takes at once`);
    case 'scatterlist map_bio':
      return rungOf(
        'down',
        'scatterlist',
        `${segments(e.segments, e.entries, ({ phys, length, provider }) => {
          const where = provider === null ? 'host DRAM' : `CMB of ${provider}`;
          return `${hex(phys)} + ${bytes(length)} (${where})`;
        })}`,
      );
    // dma-mapping says the same.
    case 'dma-direct map_sg':
    case 'dma-iommu unmap_sg':
      return null;
    case 'dma-iommu map_sg':
      if (Number(e.iovaLength) === 0) return null;
      return rungOf('down', 'dma map', `IOVA ${hex(e.iova)} + ${bytes(Number(e.iovaLength))} in the IOMMU`);
    case 'pci-p2pdma warn': {
      const acs = Array.isArray(e.acs) && e.acs.length > 0 ? `; ACS redirects in ${e.acs.join(', ')}` : '';
      const verdict = String(e.mapType).replace('PCI_P2PDMA_MAP_', '');
      return rungOf('down', 'p2pdma', `${e.provider} for ${e.client}: ${verdict}${acs}`);
    }
    case 'dma-mapping map_sg':
      return rungOf(
        'down',
        'dma map',
        e.error === null
          ? `for ${e.device} by ${e.ops}: ${many(e.nents, 'segment')} → ${e.mapped}`
          : `for ${e.device} by ${e.ops}: refused, ${e.error}`,
      );
    case 'nvme-pci map_data':
      return rungOf(
        'down',
        String(e.form).toUpperCase(),
        `${segments(e.dma, e.entries, ({ address, length, bus }) => {
          return `${hex(address)} + ${bytes(length)}${bus ? ' (bus address, marked P2P)' : ''}`;
        })}${Number(e.lists) > 0 ? `, by ${many(e.lists, 'list')}` : ''}`,
      );
    case 'nvme-pci queue_rq':
      return rungOf(
        'down',
        'command',
        `${e.controller}, queue ${e.qid}, command ${e.cid}: ${OPCODES[Number(e.opcode)] ?? `opcode ${e.opcode}`}, namespace ${e.nsid}`,
      );
    case 'nvme-pci sq_doorbell':
      return rungOf('down', 'doorbell', `queue ${e.qid}, tail ${e.tail}`);
    case 'fabric route': {
      const whose =
        e.target === null
          ? ''
          : e.target === e.requester
            ? ' of its own memory'
            : ` of the memory of ${e.target}`;
      return rungOf(
        'device',
        'PCIe',
        `${e.requester} ${e.direction}s ${size()}${whose} at ${hex(e.address)}: ${PATHS[String(e.path)] ?? e.path}`,
      );
    }
    case 'nvme-controller execute':
      return rungOf('device', 'drive', `${e.controller} begins command ${e.cid} of queue ${e.qid}`);
    case 'nvme-controller complete':
      return rungOf(
        'up',
        'completion',
        `${e.controller}, queue ${e.qid}, command ${e.cid}: ${e.status === 0 ? 'success' : `status 0x${Number(e.status).toString(16)}`}`,
      );
    case 'dma-mapping unmap_sg':
      return rungOf('up', 'dma unmap', many(e.nents, 'segment'));
    case 'nvme-core error':
    case 'nvme-core end_bio':
      return rungOf('up', 'nvme', `${e.errno ?? ''}${e.status === undefined ? '' : ` (status ${e.status})`}`);
    case 'bio endio': {
      const ways = Object.entries((e.path ?? {}) as Record<string, number>)
        .filter(([, moved]) => moved > 0)
        .map(([way, moved]) => `${bytes(moved)} ${PATHS[way] ?? way}`);
      const how = ways.length > 0 ? `: ${ways.join(', ')}` : '';
      return rungOf('up', 'bio', e.status === 0 ? `done${how}` : `failed, errno ${-Number(e.status)}${how}`);
    }
    case 'native-target submit':
      return rungOf('down', 'submit', `${e.op}, byte ${e.offset}, ${size()}, ${e.target} by ${e.engine}`);
    case 'native-target complete':
      return rungOf(
        'up',
        'completion',
        Number(e.result) < 0 ? `errno ${-Number(e.result)}` : bytes(Number(e.result)),
      );
    default: {
      const { layer: _layer, event: _event, time: _time, ...fields } = event;
      const text = Object.entries(fields).map(
        ([key, value]) => `${key} ${typeof value === 'object' ? JSON.stringify(value) : value}`,
      );
      const side: Side = /fault|timeout|error|fail/.test(name) ? 'device' : 'down';
      return rungOf(side, layer, [name, ...text].join(', '));
    }
  }
}
