/**
 * /proc/<pid>/mountinfo: which filesystem contains a path, and which device is under it.
 *
 *     36 35 259:1 /sub /mnt/data rw,noatime shared:1 - ext4 /dev/nvme0n1p1 rw,data=ordered
 *     id parent dev root mount-point options  tags…   - type  source        super options
 */
export interface Mount {
  /** `'259:1'`; for btrfs, overlay, tmpfs and similar filesystems an anonymous number, `'0:42'`. */
  readonly device: string;
  /** The part of the filesystem that is mounted: `'/'`, or the directory of a subvolume or bind mount. */
  readonly root: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
  readonly type: string;
  /** `'/dev/nvme0n1p1'`, or any other source that was passed to mount. */
  readonly source: string;
  readonly superOptions: readonly string[];
}

/** Gives the mounts faster than the tree does. */
export interface MountSource {
  /**
   * The mounts as of now; as long as nothing was mounted, unmounted or mounted with other options, the same objects. Null: they
   * must be read from the tree.
   */
  mounts(): Mount[] | null;
  /** The same as it was in this turn of the event loop, for which the kernel is asked once. */
  mountsThisTurn(): Mount[] | null;
}

/** Lines that are not valid mountinfo are skipped. */
export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const fields = line.trim().split(' ');
    const dash = fields.indexOf('-', 6);
    const [, , device, root, mountPoint, options] = fields;
    const type = fields[dash + 1];
    if (dash < 0 || !device || !/^\d+:\d+$/.test(device) || !root || !mountPoint?.startsWith('/') || !type) {
      continue;
    }
    mounts.push({
      device,
      root: unescapeOctal(root),
      mountPoint: unescapeOctal(mountPoint),
      options: options?.split(',') ?? [],
      type,
      source: unescapeOctal(fields[dash + 2] ?? ''),
      superOptions: fields[dash + 3]?.split(',') ?? [],
    });
  }
  return mounts;
}

/**
 * The mount of the filesystem with this device number, where it alone says which it is: on overlayfs the path says which layer a
 * file is in, and of several mounts of a filesystem, which one. Null: it does not, or there is none.
 */
export function clearMount(mounts: readonly Mount[], number: string): Mount | null {
  let only: Mount | null = null;
  for (const mount of mounts) {
    if (mount.device !== number) continue;
    if (only !== null) return null;
    only = mount;
  }
  return only?.type === 'overlay' ? null : only;
}

/**
 * The mount that contains a normalized absolute path: the deepest one, and if there are several at that place, the last one,
 * which is on top.
 */
export function findMount(mounts: readonly Mount[], path: string): Mount | null {
  let best: Mount | null = null;
  for (const mount of mounts) {
    if (!isBelow(path, mount.mountPoint)) continue;
    if (best === null || mount.mountPoint.length >= best.mountPoint.length) best = mount;
  }
  return best;
}

function isBelow(path: string, directory: string): boolean {
  return directory === '/' || path === directory || path.startsWith(`${directory}/`);
}

/** Blank, tab, newline and backslash are escaped as `\040` and so on. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
