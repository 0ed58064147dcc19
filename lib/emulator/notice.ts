import { type Machine, namespaceName } from '../machine/machine.js';

/** At most this many names are listed; of the others only the number is given. */
const MOST = 4;

/** The beginning of every text about an emulated machine: that it is emulated, and how long its drives exist. */
export function noticeOf({ name, functions }: Machine, notRegistered: readonly string[] = []): string {
  const all = functions.flatMap(({ nvme }) =>
    (nvme?.namespaces ?? []).map(({ nsid, file }) => ({ name: namespaceName(nvme!.name, nsid), file })),
  );
  const kept = all.filter(({ file }) => file !== null);
  const left =
    notRegistered.length === 0
      ? ''
      : `; left out, because it cannot be registered: the peer memory of ${notRegistered.join(', ')}`;
  return `emulated machine '${name}': ${lifetime(kept, kept.length === all.length)}${left}`;
}

function lifetime(kept: readonly { name: string; file: string | null }[], all: boolean): string {
  if (kept.length === 0) return 'its drives end with this process';
  const named = kept.slice(0, MOST).map(({ name, file }) => `${name} in '${file}'`);
  if (kept.length > MOST) named.push(`${kept.length - MOST} more`);
  return all
    ? `its drives are kept in files: ${named.join(', ')}`
    : `its drives end with this process, but for those kept in files: ${named.join(', ')}`;
}
