/**
 * What is said of namespaces that are unlike an ordinary disk. Both backends say it in these words:
 *
 *     zoned    can be read like any disk, and takes writes only in order
 *     empty    has size 0 because the kernel cannot carry the metadata of its format; it can neither be read nor written
 */

/** How a host-managed zoned device must be written, as a clause. `zoneSize`: in bytes; null: not known. */
export function hostManagedZones(zoneSize: number | null): string {
  const size = zoneSize === null ? '' : ` of ${zoneSize} bytes`;
  return `its zones${size} are host-managed: each takes writes only in order, from its write pointer on`;
}

/** The reason why a namespace has size 0. `metadataBytes`: null if not reported. */
function whyEmpty(metadataBytes: number | null): string {
  if (metadataBytes === 0) return '';
  return metadataBytes === null
    ? ': it has no medium, or its format has metadata that the kernel cannot carry'
    : `: each of its blocks has ${metadataBytes} bytes of metadata, in a format that the kernel cannot carry`;
}

/** Why a namespace of size 0 takes part in nothing. */
export function emptyNamespace(name: string, metadataBytes: number | null): string {
  return `${name} has size 0${whyEmpty(metadataBytes)}`;
}

/** The hint of the error with which such a namespace is not opened. */
export function emptyNamespaceHint(metadataBytes: number | null): string {
  const cure = metadataBytes === 0 ? '' : ' `nvme format --lbaf=…` gives it another format, and erases it.';
  return `It reports size 0${whyEmpty(metadataBytes)}.${cure}`;
}
