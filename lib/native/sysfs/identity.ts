/**
 * What a name or path would be, were it opened to be copied from or to: nothing is opened for it.
 */
import type { Foreseen } from '../../backend/backend.js';
import type { BlockDevices } from './devices.js';
import type { Sysfs } from './machine.js';
import type { SysfsDir } from './tree.js';

const UNKNOWN: Foreseen = {
  client: null,
  noP2pReason: 'nothing is known of its block device',
  unproven: null,
  inUse: null,
  readOnly: false,
  identity: null,
  endsWithProcess: false,
};

export function foresee(sysfs: Sysfs, nameOrPath: string): Foreseen {
  const info = sysfs.blockInfo(nameOrPath);
  if (info === null) return UNKNOWN;
  const { client, noP2pReason, unproven, readOnly, kind, name, inUse } = info;
  const identity = kind === 'file' || name === null ? null : deviceIdentity(sysfs.devices, name);
  return { client, noP2pReason, unproven, inUse: inUse.words, readOnly, identity, endsWithProcess: false };
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
export function deviceIdentity(devices: BlockDevices, name: string): string | null {
  const device = devices.byName(name);
  if (device === null) return null;
  if (!device.dir.has('partition')) return ownName(device.dir);
  const disk = devices.diskOf(device);
  const own = disk === null ? null : ownName(disk.dir);
  return own === null ? null : `${own} partition ${device.dir.text('partition')}`;
}

function ownName(dir: SysfsDir): string | null {
  for (const name of NAMES) {
    const value = dir.text(name, { optional: true });
    if (value !== null && /[^0\s.-]/.test(value)) return value;
  }
  return null;
}
