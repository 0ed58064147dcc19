interface Drives {
  functions: { nvme?: { namespaces: object[] } | null }[];
}

/** A machine's description, in which the first namespaces of its drives, in order, are kept in these files; null: not. */
export function keptInFiles(machine: object, paths: readonly (string | null)[]): object {
  const kept = structuredClone(machine) as Drives;
  const drives = kept.functions.flatMap(({ nvme }) => nvme ?? []);
  for (const [i, path] of paths.entries()) {
    if (path !== null) Object.assign(drives[i]!.namespaces[0]!, { store: 'file', file: path });
  }
  return kept;
}
