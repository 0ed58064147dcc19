import type { CopyPlan, PlannedDestination, PlannedEnd } from '../../index.js';
import type { Said } from '../errors.js';
import { bytes, type Colours, printable, wrap } from '../format.js';
import { diskText, holdings, recognised } from '../recognise.js';

/** Prints the plan for a person: what would be copied where, over which route, and what it would overwrite. */
export function printPlan(
  plan: Omit<CopyPlan, 'problems'> & { needsForce: boolean; problems: readonly Said[] },
  colour: Colours,
  columns: number,
): string {
  const { source, destinations, bytes: count } = plan;
  const p2p = plan.transport !== 'host-memory';
  const lines: (readonly [label: string, text: string])[] = [['would copy', amount(plan)]];
  if (plan.dataBytes !== null && count !== null) {
    lines.push([
      'of that',
      `${bytes(plan.dataBytes)} of data, ${bytes(count - plan.dataBytes)} of holes that are skipped`,
    ]);
  }
  for (const disk of source.disks) lines.push(['disk', diskText(disk)]);
  for (const end of destinations) {
    lines.push(['to', `${printable(end.path)}: ${effect(end, colour)}`]);
    if (end.holds.length > 0) lines.push(['it holds', colour.red(printable(holdings(end.holds)))]);
    if (end.holds.length > 0 && plan.needsForce) {
      lines.push([
        '',
        colour.yellow(
          source.kind === 'stream'
            ? 'it is refused without --force: stdin is the data, so you cannot be asked'
            : 'on a terminal you will be asked first; elsewhere it is refused without --force',
        ),
      ]);
    }
    lines.push(...recognised(end));
    if (end.inUse !== null) lines.push(['in use', colour.red(printable(end.inUse))]);
  }
  lines.push(
    ['transport', p2p ? colour.green(plan.transport) : colour.yellow(plan.transport)],
    ['provider', plan.provider ?? 'none'],
    ['because', printable(plan.reason)],
  );
  if (plan.unproven !== null) lines.push(['unproven', colour.yellow(printable(plan.unproven))]);
  lines.push(['chunks', `${bytes(plan.highWaterMark)}, ${plan.queueDepth} in flight`]);
  lines.push(['verify', plan.verify ? 'read back through host memory and compared' : 'no']);
  if (plan.resume !== null) {
    lines.push(['resumes', `at byte ${plan.resume.done} of ${count} (${printable(plan.resume.journal)})`]);
  }
  for (const { code, message, hint } of plan.problems) {
    lines.push(['problem', colour.red(`${code}: ${printable(message)}`)], ['', printable(hint)]);
  }
  lines.push(['', colour.dim('dry run: nothing was written')]);
  return lines
    .flatMap(([label, text]) => wrap(text, columns, `${colour.dim(label.padEnd(10))}  `))
    .join('\n');
}

/** How much would be copied of what. */
function amount({ source, start, bytes: count }: Pick<CopyPlan, 'source' | 'start' | 'bytes'>): string {
  if (count === null) return `everything that ${printable(source.path)} delivers`;
  const much = `${bytes(count)} (${count} bytes)`;
  if (source.kind === 'stream') return `the first ${much} that ${printable(source.path)} delivers`;
  const range = count === 0 ? 'nothing' : `bytes ${start} to ${start + count - 1}`;
  return `${much}: ${range} of ${printable(source.path)}, ${bytes(source.size)}`;
}

const KINDS: Readonly<Record<PlannedEnd['kind'], string>> = {
  namespace: 'namespace',
  block: 'block device',
  file: 'file',
  stream: 'stream',
};

function effect({ effect: what, kind, size, from, to }: PlannedDestination, colour: Colours): string {
  switch (what) {
    case 'create':
      return 'a new file';
    case 'truncate':
      return size === 0 ? 'an empty file' : colour.yellow(`a file of ${bytes(size)}, which is replaced`);
    case 'overwrite':
      if (to === null) {
        return colour.yellow(`this ${KINDS[kind]} of ${bytes(size)} is overwritten from byte ${from} on`);
      }
      if (to < from) return 'nothing of it is overwritten';
      return colour.yellow(
        `bytes ${from} to ${to} of this ${KINDS[kind]}${size === 0 && kind !== 'file' ? '' : ` of ${bytes(size)}`} are overwritten`,
      );
    case 'pass':
      return 'a stream';
    default:
      return what satisfies never;
  }
}
