/**
 * What a name or path would be, were it opened to be copied from or to: nothing is opened for it.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Foreseen } from '../backend.js';
import type { Sysfs } from './sysfs.js';

const UNKNOWN: Foreseen = {
  client: null,
  noP2pReason: 'nothing is known of its block device',
  unproven: null,
  inUse: null,
  readOnly: false,
  identity: null,
};

export function foresee(sysfs: Sysfs, nameOrPath: string): Foreseen {
  const info = sysfs.blockInfo(nameOrPath);
  if (info === null) return UNKNOWN;
  const { client, noP2pReason, unproven, readOnly, kind, name, inUse } = info;
  const identity = kind === 'file' || name === null ? null : deviceIdentity(sysfs.root, name);
  return { client, noP2pReason, unproven, inUse: inUse.words, readOnly, identity };
}

/** Where a device says who it is; the first there is. */
const NAMES = [
  'wwid', // NVMe
  'uuid',
  'dm/uuid',
  'md/uuid',
  'device/wwid', // SCSI
  'serial', // virtio
  'device/cid', // MMC
  'device/serial',
  'loop/backing_file',
];

/** `'eui.0025385b71b0f3a2'`, `'eui.0025385b71b0f3a2 partition 2'`; null: the device has but its name. */
export function deviceIdentity(root: string, name: string): string | null {
  try {
    const dir = realpathSync(join(root, 'sys/class/block', name.replaceAll('/', '!')));
    if (!existsSync(join(dir, 'partition'))) return ownName(dir);
    const disk = ownName(dirname(dir));
    return disk === null ? null : `${disk} partition ${readFileSync(join(dir, 'partition'), 'utf8').trim()}`;
  } catch {
    return null;
  }
}

function ownName(dir: string): string | null {
  for (const name of NAMES) {
    try {
      const value = readFileSync(join(dir, name), 'utf8').trim();
      if (/[^0\s.-]/.test(value)) return value;
    } catch {
      // It has no such attribute.
    }
  }
  return null;
}
