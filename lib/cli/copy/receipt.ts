import type { Receipt } from '../../index.js';
import { bytes, printable, wrap } from '../format.js';
import type { View } from '../table.js';

/** Prints the receipt for a person, aligned, with the unfavourable parts in colour. */
export function printReceipt(receipt: Receipt, verifyAsked: boolean, { colour, width }: View): string {
  const { path } = receipt;
  const p2p = receipt.transport !== 'host-memory';
  const rate = receipt.seconds > 0 ? `, ${bytes(Math.round(receipt.bytes / receipt.seconds))}/s` : '';
  const lines: [string, string][] = [
    ['copied', `${bytes(receipt.bytes)} (${receipt.bytes} bytes) in ${receipt.seconds.toFixed(3)} s${rate}`],
    ['transport', p2p ? colour.green(receipt.transport) : colour.yellow(receipt.transport)],
    ['provider', receipt.provider ?? 'none'],
    ['because', printable(receipt.reason)],
    [
      'bytes by path',
      `inside a drive ${bytes(path.internal)} · across the bus ${bytes(path.peerBus)} · ` +
        `host bridge ${bytes(path.hostBridge)} · host DRAM ${bytes(path.hostDram)}` +
        (path.unproven ? ` · not proven ${bytes(path.unproven)}` : ''),
    ],
  ];
  if (receipt.resumedFrom)
    lines.splice(1, 0, ['before that', `${bytes(receipt.resumedFrom)}, by the journal`]);
  if (receipt.unproven !== null) lines.push(['unproven', colour.yellow(printable(receipt.unproven))]);
  if (verifyAsked && receipt.verified) lines.push(['verified', colour.green(`identical, ${receipt.digest}`)]);
  const labels = Math.max(...lines.map(([label]) => label.length));
  return lines
    .flatMap(([label, text]) => wrap(text, width, `${colour.dim(label.padEnd(labels))}  `))
    .join('\n');
}
