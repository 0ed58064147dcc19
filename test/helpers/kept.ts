interface Drives {
  functions: { nvme?: { namespaces: object[] } | null }[];
}

/**
 * Returns a copy of a machine's description in which the first namespace of each drive, in order, is stored in one of
 * these files; null: it is not stored in a file.
 */
export function keptInFiles(machine: object, paths: readonly (string | null)[]): object {
  const kept = structuredClone(machine) as Drives;
  const drives = kept.functions.flatMap(({ nvme }) => nvme ?? []);
  for (const [i, path] of paths.entries()) {
    if (path !== null) Object.assign(drives[i]!.namespaces[0]!, { store: 'file', file: path });
  }
  return kept;
}
