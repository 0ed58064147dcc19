/** A copy, or the plan of one, between ends as callers give them: with a journal or without, and each end of its kind. */
import { wrongArgument, wrongOption } from '../base/arguments.js';
import { atNeed } from '../base/at-need.js';
import { isPath, type OpenContext, textOf, toPath } from '../streams/paths.js';
import type { Receipt } from '../streams/receipt.js';
import { copy } from './copy.js';
import { isForeignDestination, isForeignSource } from './foreign.js';
import type { CopyPlan } from './plan.js';
import type { CopyOptions, PipelineDestination, PipelineSource } from './request.js';

const planning = atNeed(() => import('./plan.js'));
const resuming = atNeed(() => import('./resume.js'));

/** See `PipelineOptions.journal`. */
export type BetweenOptions = CopyOptions & { readonly journal?: string | URL | undefined };

export async function copyBetween(
  context: OpenContext,
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
  { journal, ...rest }: BetweenOptions,
): Promise<Receipt> {
  const ends = inText(source, destinations);
  if (journal === undefined) return copy(context, ends.source, ends.destinations, rest);
  const { from, to } = paths(ends, 'journal');
  const path = journalPath(journal);
  const { resumableCopy } = await resuming();
  return resumableCopy(context, from, to, rest, path);
}

export async function planBetween(
  context: OpenContext,
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
  { journal, ...rest }: BetweenOptions,
): Promise<CopyPlan> {
  const ends = inText(source, destinations);
  const foreign = isForeignSource(ends.source) || ends.destinations.some(isForeignDestination);
  if (journal === undefined && foreign) {
    const from = isForeignSource(ends.source) ? ends.source : pathOnly('planCopy', 'source', ends.source);
    const to = ends.destinations.map((end) =>
      isForeignDestination(end) ? end : pathOnly('planCopy', 'each of destinations', end),
    );
    const { planStream } = await planning();
    return planStream(context, from, to, rest);
  }
  const { from, to } = paths(ends, 'planCopy');
  if (journal === undefined) {
    const { planCopy } = await planning();
    return planCopy(context, from, to, rest);
  }
  const path = journalPath(journal);
  const { planResumable } = await resuming();
  return planResumable(context, from, to, rest, path);
}

interface Ends {
  readonly source: Exclude<PipelineSource, Buffer>;
  readonly destinations: readonly Exclude<PipelineDestination, Buffer>[];
}

/** The ends of a copy, with paths that are Buffers as text. @throws P2pdmaError ERR_INVALID_ARG_VALUE: one is not UTF-8 */
function inText(
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
): Ends {
  const to = Array.isArray(destinations) ? destinations : [destinations];
  const [from, ...others] = [source, ...to].map((end) => (end instanceof Uint8Array ? textOf(end) : end));
  return { source: from, destinations: others };
}

/** Only paths are accepted here, because another process cannot find a stream or a Target again. */
function paths({ source, destinations }: Ends, who: string): { from: string | URL; to: (string | URL)[] } {
  const from = pathOnly(who, 'source', source);
  return { from, to: destinations.map((end) => pathOnly(who, 'each of destinations', end)) };
}

function pathOnly(who: string, which: string, end: unknown): string | URL {
  if (!isPath(end)) throw wrongArgument(who, which, PLACE, end);
  return end;
}

const PLACE = 'a path or a file URL';

function journalPath(journal: unknown): string {
  if (!isPath(journal))
    throw wrongOption('journal', { code: 'ERR_INVALID_ARG_TYPE', demand: PLACE, received: journal });
  return toPath(journal, 'journal');
}
