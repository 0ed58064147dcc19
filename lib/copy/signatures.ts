/**
 * What a disk or an image holds, recognised by signatures: is there something that a copy would destroy? The table is in
 * signature-table.ts. Both ends of the target are read, and a few blocks in between:
 *
 *     0      512    1 KiB   4 KiB      32 KiB   64 KiB   128 KiB …  1, 2, 4 MiB      end − 64 KiB …   end
 *     │ MBR   GPT    ext     md 1.2      ISO      btrfs    ZFS        VMFS, LUKS2       md 0.9/1.0    GPT copy
 */
import {
  type Look,
  type Row,
  SIGNATURES,
  type SignatureKind,
  type SignatureTimes,
  SPOT,
  SPOTS,
  same,
} from './signature-table.js';

export type { SignatureKind } from './signature-table.js';

/** Something that a disk or an image holds, recognised by its signature; a copy would destroy it. */
export interface Signature {
  /** `'ext4'`, `'GPT'`, `'LUKS2'`. */
  readonly name: string;
  /** Its kind. */
  readonly kind: SignatureKind;
  /** Byte offset of the magic in the target. */
  readonly offset: number;
  /** The volume's own name, if it has one. */
  readonly label: string | null;
  /** When it was used; absent: this structure has no times, or it is not read for them. */
  readonly times?: SignatureTimes;
}

/** The two ends of a target: `head` begins at byte 0, `tail` ends at its last byte; they may overlap. */
export interface Ends {
  readonly size: number;
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
  /** Further blocks that the table needs from between the ends, by offset: see `spotsOf`. */
  readonly spots?: ReadonlyMap<number, Uint8Array>;
}

/** How many bytes are read at each end. */
export const LOOK = 512 * 1024;

/** All signatures that can be found from the ends of a target, in the table's order. */
export function findSignatures({ size, head, tail, spots = new Map() }: Ends): Signature[] {
  const tailStart = size - tail.length;
  const look: Look = (offset, length) => {
    if (offset < 0 || offset + length > size) return null;
    if (offset + length <= head.length) return head.subarray(offset, offset + length);
    if (offset < tailStart) {
      const spot = offset - (offset % SPOT);
      return spots.get(spot)?.subarray(offset - spot, offset - spot + length) ?? null;
    }
    return tail.subarray(offset - tailStart, offset - tailStart + length);
  };
  const found: Signature[] = [];
  for (const row of SIGNATURES) {
    const signature = match(row, size, look);
    if (signature !== null) found.push(signature);
  }
  // The boot sectors of FAT and NTFS end like an MBR, and a GPT disk has a protective MBR for software that does not know GPT.
  const better = found.some(({ name }) => name === 'GPT' || /^(FAT|exFAT|NTFS|BitLocker)/.test(name));
  return better ? found.filter(({ name }) => name !== 'MBR') : found;
}

/** Offsets of the further blocks of `SPOT` bytes to read in a target of this size. */
export function spotsOf(size: number): number[] {
  const whole = size - (size % 512);
  const wanted = SPOTS.map((at) => (at < 0 ? whole + at : at)).map((at) => at - (at % SPOT));
  return [...new Set(wanted)].filter((at) => at >= LOOK && at < size - LOOK && at + SPOT <= size);
}

function match(row: Row, size: number, look: Look): Signature | null {
  for (const place of typeof row.at === 'function' ? row.at(size) : row.at) {
    const at = place < 0 ? size + place : place;
    for (const magic of row.magic) {
      if (same(look(at, magic.length), magic) && row.also?.(look, at) !== false) return told(row, look, at);
    }
  }
  return null;
}

function told(row: Row, look: Look, at: number): Signature {
  const label = row.label === undefined ? null : look(at + row.label[0], row.label[1]);
  return {
    name: typeof row.name === 'string' ? row.name : row.name(look, at),
    kind: row.kind,
    offset: at,
    label: label === null ? null : labelText(label),
    ...(row.times === undefined ? {} : { times: inIso(row.times(look, at)) }),
  };
}

function inIso(times: ReturnType<NonNullable<Row['times']>>): SignatureTimes {
  const iso = (seconds = 0): string | null =>
    seconds > 0 && seconds < LAST_YEAR ? new Date(seconds * 1000).toISOString() : null;
  return { created: iso(times.created), mounted: iso(times.mounted), written: iso(times.written) };
}

/** The beginning of the year 10000: what is later is no time. */
const LAST_YEAR = 253_402_300_800;

function labelText(bytes: Uint8Array): string | null {
  const end = bytes.indexOf(0);
  const label = Buffer.from(end < 0 ? bytes : bytes.subarray(0, end))
    .toString('utf8')
    .trim();
  return label === '' || label === 'NO NAME' ? null : label;
}
