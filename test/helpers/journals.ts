/** A journal of a copy that nobody makes. */
import { readFileSync } from 'node:fs';
import { Journal } from '../../lib/copy/journal.js';

export const about = {
  source: { path: '/a', kind: 'file' as const, device: null, file: { inode: '1' }, size: 100, modified: '5' },
  destinations: [{ path: '/b', kind: 'file' as const, device: null, file: null, length: 0 }],
  start: 0,
  bytes: 100,
  destinationStart: 0,
  sparse: false,
};

/** Its bytes, when it has these marks and is closed. */
export async function writtenJournal(path: string, ...marks: number[]): Promise<Buffer> {
  const journal = await Journal.create(path, about);
  await journal.begin();
  for (const mark of marks) await journal.mark(mark);
  await journal.close();
  return readFileSync(path);
}
