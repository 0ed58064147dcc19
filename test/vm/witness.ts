import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';

/**
 * The independent witness: where each drive's DMA really went, from QEMU's own trace. Neither the kernel nor
 * this library has a hand in it.
 *
 * QEMU 7.2 logs every address that a drive maps, but not which drive. What follows in the log says it: a
 * command is decoded, mapped and handed to the block layer in one go, without another drive's lines between,
 * and the block layer logs the pointer of the drive's backend. Completions log the backend's name and the
 * command id, which gives the names to the pointers.
 *
 *   pci_nvme_io_cmd cid 576 nsid 0x1 sqid 1 opc 0x1 …     a write begins
 *   pci_nvme_write cid 576 … count 65536 lba 0x0
 *   pci_nvme_map_addr addr 0xfd020000 len 65536           ← where its data is: a CMB's window, or not
 *   dma_blk_io dbs=… bs=0x55d4257fb270 offset=0 to_dev=1  ← whose it is (blk_co_* if it is its own CMB)
 *   …
 *   pci_nvme_rw_cb cid 576 blk 'nvme1n1'                  ← what 0x55d4257fb270 is called
 *
 * A command that was mapped and then refused (pci_nvme_err_req_status) never reaches the block layer, and counts
 * nothing.
 * Under an IOMMU the addresses are IOVAs, and this witness says nothing.
 */
export const TRACE_EVENTS = [
  'pci_nvme_io_cmd',
  'pci_nvme_admin_cmd',
  'pci_nvme_read',
  'pci_nvme_write',
  'pci_nvme_map_addr',
  'pci_nvme_rw_cb',
  'pci_nvme_dif_rw_cb',
  'pci_nvme_err_req_status',
  'dma_blk_io',
  'blk_co_preadv',
  'blk_co_pwritev',
];

/** This many blocks at the end of the first drive are for marks: reading the nth is mark n. */
export const MARK_BLOCKS = 512;

/** A line of the guest's marks.jsonl: a place in the trace, and what must happen from it to the next mark. */
export interface Mark {
  readonly n: number;
  readonly name: string;
  readonly lba: number;
  readonly expect?: Expectation;
}

export interface Expectation {
  /** Data bytes that each destination writes (and the source reads). */
  readonly bytes: number;
  /** Drives by the machine's names; null: not a drive (so nothing is asked of it). */
  readonly source?: string | null;
  readonly destination?: string | readonly string[] | null;
  /** Whose CMB the data must be in, all of it; null: host memory. */
  readonly provider: string | null;
  /** How many of them each destination gets through the page cache, which is host memory, with what is around them. Default 0. */
  readonly cached?: number;
  /** Host-memory DMA that is allowed beside it, for a filesystem's metadata. Default 0. */
  readonly besides?: number;
  /** How many commands certain drives got. */
  readonly commands?: Readonly<Record<string, { readonly read?: number; readonly write?: number }>>;
  /** A receipt's `path`, which must say the same. */
  readonly path?: Readonly<Record<'internal' | 'peerBus' | 'hostBridge' | 'hostDram', number>>;
}

/** The data of one command. */
export interface Transfer {
  /** QEMU's name of the namespace's backend: `'nvme0n1'`; null: its completions fit other drives as well. */
  readonly blk: string | null;
  readonly op: 'read' | 'write';
  readonly lba: number;
  readonly bytes: number;
  readonly pieces: readonly { readonly address: number; readonly length: number }[];
}

interface Command {
  op: 'read' | 'write' | null;
  cid: number;
  lba: number;
  /** Where on the drive, in bytes. */
  offset: number;
  bytes: number;
  pieces: { address: number; length: number }[];
}

/** Reads a trace line by line; `transfers()` when it is at its end. */
export class TraceReader {
  readonly #done: { command: Command; pointer: string }[] = [];
  /** By command id: the drives that use it, and how many of them ended it without saying which they are. */
  readonly #inFlight = new Map<number, { pointers: string[]; ended: number }>();
  /** Pointer → name, name → pointer, and for names that are not settled: the pointers that may be theirs. */
  readonly #names = new Map<string, string>();
  readonly #pointers = new Map<string, string>();
  readonly #possible = new Map<string, Set<string>>();
  #current: Command | null = null;

  line(line: string): void {
    const space = line.indexOf(' ');
    const event = line.slice(line.lastIndexOf(':', space) + 1, space);
    switch (event) {
      case 'pci_nvme_io_cmd':
        this.#current = { op: null, cid: field(line, 'cid '), lba: 0, offset: 0, bytes: 0, pieces: [] };
        return;
      case 'pci_nvme_admin_cmd':
        this.#current = null;
        return;
      case 'pci_nvme_err_req_status':
        if (this.#current?.cid === field(line, 'cid ')) this.#current = null;
        return;
      case 'pci_nvme_read':
      case 'pci_nvme_write': {
        const command = this.#current;
        if (command === null) return;
        command.op = event === 'pci_nvme_read' ? 'read' : 'write';
        command.lba = field(line, 'lba ');
        command.bytes = field(line, 'count ');
        command.offset = (command.lba * command.bytes) / field(line, 'nlb ');
        return;
      }
      case 'pci_nvme_map_addr':
        this.#current?.pieces.push({ address: field(line, 'addr '), length: field(line, 'len ') });
        return;
      case 'dma_blk_io':
        this.#handedOver(
          word(line, ' bs='),
          field(line, 'offset='),
          line.endsWith('to_dev=1') ? 'write' : 'read',
        );
        return;
      case 'blk_co_preadv':
      case 'blk_co_pwritev':
        this.#handedOver(
          word(line, 'blk '),
          field(line, 'offset '),
          event === 'blk_co_preadv' ? 'read' : 'write',
        );
        return;
      case 'pci_nvme_rw_cb':
      case 'pci_nvme_dif_rw_cb': // of a namespace with metadata
        this.#completed(field(line, 'cid '), /blk '([^']*)'/.exec(line)?.[1] ?? '');
        return;
    }
  }

  #handedOver(pointer: string, offset: number, op: 'read' | 'write'): void {
    const command = this.#current;
    if (command === null || command.op !== op || command.offset !== offset) return; // a step of an earlier one
    this.#current = null;
    this.#done.push({ command, pointer });
    const waiting = this.#inFlight.get(command.cid);
    if (waiting === undefined) this.#inFlight.set(command.cid, { pointers: [pointer], ended: 0 });
    else waiting.pointers.push(pointer);
  }

  #completed(cid: number, name: string): void {
    const waiting = this.#inFlight.get(cid);
    if (waiting === undefined) return; // a command from before the trace
    if (!this.#pointers.has(name)) this.#narrow(name, waiting.pointers);
    const at = waiting.pointers.indexOf(this.#pointers.get(name) ?? '');
    if (at >= 0) waiting.pointers.splice(at, 1);
    else if (!this.#pointers.has(name)) waiting.ended++;
    if (waiting.ended >= waiting.pointers.length) this.#inFlight.delete(cid);
  }

  /** The drive behind `name` is one of `waiting`. Two drives may use an id at the same time; then it stays open. */
  #narrow(name: string, waiting: readonly string[]): void {
    const before = this.#possible.get(name);
    const possible = waiting.filter((p) => !this.#names.has(p) && (before?.has(p) ?? true));
    if (possible.length === 0) return; // a command from before the trace, with an id that others use
    this.#possible.set(name, new Set(possible));
    this.#settle();
  }

  /** A name for which only one pointer is left has that pointer, and no other name has it. */
  #settle(): void {
    for (;;) {
      const settled = [...this.#possible].find(([, pointers]) => pointers.size === 1);
      if (settled === undefined) return;
      const [name, [pointer]] = settled;
      this.#names.set(pointer!, name);
      this.#pointers.set(name, pointer!);
      this.#possible.delete(name);
      for (const pointers of this.#possible.values()) pointers.delete(pointer!);
    }
  }

  transfers(): Transfer[] {
    return this.#done.map(({ command, pointer }) => ({
      blk: this.#names.get(pointer) ?? null,
      op: command.op!,
      lba: command.lba,
      bytes: command.bytes,
      pieces: command.pieces,
    }));
  }
}

function word(line: string, key: string): string {
  const at = line.indexOf(key);
  if (at < 0) throw new Error(`witness: no '${key.trim()}' in: ${line}`);
  const end = line.indexOf(' ', at + key.length);
  return line.slice(at + key.length, end < 0 ? undefined : end);
}

function field(line: string, key: string): number {
  const n = Number(word(line, ` ${key}`));
  if (!Number.isSafeInteger(n)) throw new Error(`witness: no number after '${key.trim()}' in: ${line}`);
  return n;
}

export async function readTrace(file: string): Promise<Transfer[]> {
  const reader = new TraceReader();
  for await (const line of createInterface({ input: createReadStream(file) })) reader.line(line);
  return reader.transfers();
}

export interface Window {
  /** The drive whose CMB it is. */
  readonly provider: string;
  readonly start: number;
  readonly size: number;
}

/** Bytes that one drive moved. */
export interface DriveDma {
  /** By provider: into or out of that drive's CMB. */
  readonly cmb: Record<string, number>;
  host: number;
  commands: number;
}

/** What happened from one mark to the next: per drive, reads (drive → memory) and writes (memory → drive). */
export interface Section {
  readonly mark: Mark;
  readonly drives: Record<string, { readonly read: DriveDma; readonly write: DriveDma }>;
}

/** Sort transfers into the sections that the guest's marks make. `drives`: blk → drive; the first has the marks. */
export function sections(
  transfers: readonly Transfer[],
  marks: readonly Mark[],
  drives: ReadonlyMap<string, string>,
  windows: readonly Window[],
): Section[] {
  const found: Section[] = [];
  const [firstBlk] = drives.keys();
  let next = 0;
  for (const transfer of transfers) {
    const mark = marks[next];
    if (
      mark !== undefined &&
      transfer.blk === firstBlk &&
      transfer.op === 'read' &&
      transfer.lba === mark.lba
    ) {
      found.push({ mark, drives: {} });
      next++;
      continue;
    }
    const section = found.at(-1);
    if (section === undefined) continue;
    if (transfer.blk === null)
      throw new Error(`witness: after mark ${next - 1} (${section.mark.name}) no completion tells the drive`);
    const drive = drives.get(transfer.blk);
    if (drive === undefined)
      throw new Error(`witness: the trace has a drive ${transfer.blk} that the machine has not`);
    section.drives[drive] ??= { read: nothing(), write: nothing() };
    const dma = section.drives[drive][transfer.op];
    dma.commands++;
    for (const { address, length } of transfer.pieces) addPiece(dma, address, length, windows);
  }
  if (next < marks.length)
    throw new Error(`witness: mark ${next} (${marks[next]!.name}) is not in the trace`);
  return found;
}

const nothing = (): DriveDma => ({ cmb: {}, host: 0, commands: 0 });

function addPiece(dma: DriveDma, address: number, length: number, windows: readonly Window[]): void {
  let left = length;
  for (const { provider, start, size } of windows) {
    const inside = Math.min(address + length, start + size) - Math.max(address, start);
    if (inside <= 0) continue;
    dma.cmb[provider] = (dma.cmb[provider] ?? 0) + inside;
    left -= inside;
  }
  dma.host += left;
}

export interface Verdict {
  readonly name: string;
  /** Empty: the witness agrees. */
  readonly objections: readonly string[];
  /** One line of numbers. */
  readonly summary: string;
}

/** Compare what was expected of each section with what the drives did. */
export function verdicts(found: readonly Section[]): Verdict[] {
  return found.flatMap((section) => {
    const { expect, name } = section.mark;
    if (expect === undefined) return [];
    const objections: string[] = [];
    const ask = (drive: string, op: 'read' | 'write') => {
      const { cmb, host } = section.drives[drive]?.[op] ?? nothing();
      const where = `${drive} ${op}`;
      const bytes = expect.bytes - (op === 'write' ? (expect.cached ?? 0) : 0);
      const wanted: Record<string, number> = expect.provider === null ? {} : { [expect.provider]: bytes };
      for (const provider of new Set([...Object.keys(cmb), ...Object.keys(wanted)])) {
        const [is, should] = [cmb[provider] ?? 0, wanted[provider] ?? 0];
        if (is !== should) objections.push(`${where}: ${is} bytes in the CMB of ${provider}, not ${should}`);
      }
      const least = expect.provider === null ? bytes : 0;
      if (host < least || host > least + (expect.besides ?? 0)) {
        objections.push(`${where}: ${host} bytes in host memory, not ${least}`);
      }
    };
    if (expect.source) ask(expect.source, 'read');
    const destinations =
      typeof expect.destination === 'string' ? [expect.destination] : (expect.destination ?? []);
    for (const destination of destinations) ask(destination, 'write');
    for (const [drive, counts] of Object.entries(expect.commands ?? {})) {
      for (const op of ['read', 'write'] as const) {
        const count = section.drives[drive]?.[op].commands ?? 0;
        if (counts[op] !== undefined && count !== counts[op])
          objections.push(`${drive} ${op}: ${count} commands, not ${counts[op]}`);
      }
    }
    const is = pathOf(section);
    if (expect.path !== undefined) {
      const peer = expect.path.peerBus + expect.path.hostBridge;
      if (expect.path.internal !== is.internal)
        objections.push(`receipt: internal ${expect.path.internal}, witness ${is.internal}`);
      if (peer !== is.peer) objections.push(`receipt: peer to peer ${peer}, witness ${is.peer}`);
      const beside = is.host - expect.path.hostDram;
      if (beside < 0 || beside > (expect.besides ?? 0))
        objections.push(`receipt: host DRAM ${expect.path.hostDram}, witness ${is.host}`);
    }
    const summary = `${expect.bytes} bytes: ${is.internal} a drive’s own CMB, ${is.peer} peer to peer, ${is.host} host memory`;
    return [{ name, objections, summary }];
  });
}

function pathOf(section: Section): { internal: number; peer: number; host: number } {
  const path = { internal: 0, peer: 0, host: 0 };
  for (const [drive, { read, write }] of Object.entries(section.drives)) {
    for (const { cmb, host } of [read, write]) {
      path.host += host;
      for (const [provider, bytes] of Object.entries(cmb))
        path[provider === drive ? 'internal' : 'peer'] += bytes;
    }
  }
  return path;
}
