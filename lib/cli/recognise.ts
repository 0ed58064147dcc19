/** What a person recognises a disk by, in lines: before anything on it is destroyed, and in `list`. */
import type { Disk, PlannedDestination, Signature } from '../index.js';
import { bytes, printable } from './format.js';

/** The signatures in words: `ext4 'backup' (filesystem), GPT (partition table)`. */
export function holdings(holds: readonly Signature[]): string {
  return holds
    .map(({ name, kind, label }) => `${name}${label === null ? '' : ` '${label}'`} (${kind})`)
    .join(', ');
}

type Line = readonly [label: string, text: string];

/** `Samsung SSD 990 PRO 2TB, serial S6Z1NJ0W123456, 1.8 TiB`. */
export function diskText({ model, serial, size }: Pick<Disk, 'model' | 'serial' | 'size'>): string {
  const said = [
    model === null ? 'model not known' : printable(model),
    serial === null ? 'serial number not known' : `serial ${printable(serial)}`,
    ...(size === null ? [] : [bytes(size)]),
  ];
  return said.join(', ');
}

/** Names below /dev/disk/by-id that are shown of a disk; there may be five of one drive. */
const MOST_IDS = 2;

/** Null: it has none. */
export function idsText(ids: readonly string[]): string | null {
  if (ids.length === 0) return null;
  const more = ids.length - MOST_IDS;
  return `${ids.slice(0, MOST_IDS).map(printable).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** The lines about a destination; none for a file that holds nothing. */
export function recognised({ disks, holds, partitions, kind }: PlannedDestination): Line[] {
  return [
    ...disks.flatMap((disk): Line[] => {
      const ids = idsText(disk.ids);
      return [['disk', diskText(disk)], ...(ids === null ? [] : [['by-id', ids] as const])];
    }),
    ...sinceLines(holds),
    ...(kind === 'file' ? [] : partitions.map((part): Line => ['partition', partitionText(part)])),
  ];
}

function partitionText({ name, size, holds, inUse }: PlannedDestination['partitions'][number]): string {
  const said = [`${printable(name)} ${bytes(size)}`];
  if (holds === null) said.push('not looked at');
  else if (holds.length === 0) said.push('nothing recognised');
  else said.push(printable(holdings(holds)), ...holds.map(since).filter((text) => text !== null));
  if (inUse !== null) said.push(printable(inUse));
  return said.join(', ');
}

/** Since when it has been in use; most structures do not say. */
function sinceLines(holds: readonly Signature[]): Line[] {
  const silent = holds.filter((signature) => since(signature) === null);
  const known = holds.filter((signature) => !silent.includes(signature));
  return [
    ...known.map((one): Line => ['since', `${printable(one.name)}: ${since(one)}`]),
    ...(silent.length === 0
      ? []
      : [['since', `not known: ${printable(namesOf(silent))} does not say`] as const]),
  ];
}

function namesOf(signatures: readonly Signature[]): string {
  return signatures.map(({ name }) => name).join(', ');
}

/** Null: it does not say. */
function since({ times }: Signature): string | null {
  const day = (time: string) => time.slice(0, 10);
  const said = [
    times?.created == null ? null : `made on ${day(times.created)}`,
    times?.mounted == null ? null : `last mounted on ${day(times.mounted)}`,
    times?.written == null ? null : `last written on ${day(times.written)}`,
  ].filter((text) => text !== null);
  return said.length === 0 ? null : said.join(', ');
}
