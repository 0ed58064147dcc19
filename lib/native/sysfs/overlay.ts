/**
 * What lies under overlayfs, as its mount options say: directories, of which the file is in one.
 *
 *     overlay on /merged     upperdir=/nvme/up        a file that was written is here, and one yet to be made
 *                            lowerdir=/a:/b           the others in the first of these that has it
 *
 * The kernel hands direct I/O on to the file in its layer, peer memory included. Which layer that is, it does not tell.
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
