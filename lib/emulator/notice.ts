import { type Machine, namespaceName } from '../machine/machine.js';

/** So many names are said; of more, how many. */
const MOST = 4;

/** What every text of an emulated machine begins with: that it is one, and how long its drives last. */
export function noticeOf({ name, functions }: Machine): string {
  const all = functions.flatMap(({ nvme }) =>
    (nvme?.namespaces ?? []).map(({ nsid, file }) => ({ name: namespaceName(nvme!.name, nsid), file })),
  );
  const kept = all.filter(({ file }) => file !== null);
  return `emulated machine '${name}': ${lifetime(kept, kept.length === all.length)}`;
}

function lifetime(kept: readonly { name: string; file: string | null }[], all: boolean): string {
  if (kept.length === 0) return 'its drives end with this process';
  const named = kept.slice(0, MOST).map(({ name, file }) => `${name} in '${file}'`);
  if (kept.length > MOST) named.push(`${kept.length - MOST} more`);
  return all
    ? `its drives are kept in files: ${named.join(', ')}`
    : `its drives end with this process, but for those kept in files: ${named.join(', ')}`;
}
