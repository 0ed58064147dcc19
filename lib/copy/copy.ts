/**
 * One copy of a source to destinations. All errors that can be detected in advance are found before a destination is
 * opened.
 */

import { isPath, type OpenContext } from '../streams/paths.js';
import { type Receipt, withReceipt } from '../streams/receipt.js';
import { Target } from '../streams/target.js';
import { copyAtOnce } from './at-once.js';
import { abandon, isForeignDestination, isStream } from './foreign.js';
import { OpenEnds } from './open-ends.js';
import { assertApart, assertNotEmptied } from './overlap.js';
import { type Report, reportTo } from './progress.js';
import { type CopyOptions, makeRequest, type PipelineDestination, type PipelineSource } from './request.js';
import { run } from './run.js';

export async function copy(
  open: OpenContext,
  source: PipelineSource,
  to: readonly PipelineDestination[],
  options: CopyOptions,
): Promise<Receipt> {
  const given = [source, ...to].filter((end) => !isPath(end) && !(end instanceof Target));
  // A stream may fail before run() listens to it, while another end is still being opened. run() finds that it failed.
  for (const stream of given) if (isStream(stream)) stream.on('error', () => {});
  let ends: OpenEnds | null = null;
  let receipt: Receipt;
  try {
    assertNotEmptied(source, to);
    const request = await makeRequest(open, source, to, options);
    ends = new OpenEnds(request);
    const opened = await ends.source();
    assertApart(request, opened);
    const report = reportTo(options, to.some(isForeignDestination));
    receipt = (await copyAtOnce(ends, opened, options, report)) ?? (await copyOver(ends, options, report));
  } catch (error) {
    for (const end of given) abandon(end, error as Error);
    await ends?.close().catch(() => {});
    throw error;
  }
  try {
    await ends.close();
  } catch (error) {
    throw withReceipt(error as Error, receipt);
  }
  return receipt;
}

/** Copy between ends that stay open afterwards. */
export async function copyOver(
  ends: OpenEnds,
  options: CopyOptions,
  report: Report | undefined,
): Promise<Receipt> {
  const { reader, writers } = await ends.streams(options);
  const { verify, signal, stop } = options;
  return run(reader, writers, { verify, signal, stop, report, readBack: ends.readBack });
}
