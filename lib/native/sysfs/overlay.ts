/**
 * The layers of overlayfs, according to its mount options: directories, one of which contains the file.
 *
 *     overlay on /merged     upperdir=/nvme/up        files that were written, and new files
 *                            lowerdir=/a:/b           other files: in the first of these that has the file
 *
 * The kernel passes direct I/O on to the file in its layer, including peer memory. It does not report which layer that is.
 */
import { posix } from 'node:path';
import type { Mount } from './mountinfo.js';

export interface OverlayLayers {
  readonly upper: string | null;
  readonly lower: readonly string[];
  /** A file may have its name in the upper layer and its data in another. */
  readonly split: boolean;
}

export function overlayLayers({ superOptions }: Mount): OverlayLayers {
  const values = (name: string) =>
    superOptions
      .filter((option) => option.startsWith(`${name}=`))
      .map((option) => option.slice(name.length + 1));
  const lower = [
    ...values('lowerdir').flatMap((list) => list.split(/(?<!\\):+/)),
    ...values('lowerdir+'),
    ...values('datadir+'),
  ].map((path) => path.replaceAll(/\\(.)/g, '$1'));
  return {
    upper: values('upperdir')[0] ?? null,
    lower: lower.filter((path) => path !== ''),
    split: superOptions.some((option) => /^(metacopy|redirect_dir)=on$/.test(option)),
  };
}

/** A file's path below a layer. */
export function inLayer(layer: string, mount: Mount, path: string): string {
  return posix.join(layer, mount.root, posix.relative(mount.mountPoint, path));
}
