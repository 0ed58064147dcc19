/** An identity that a device keeps when its name changes. */
import type { BlockDevices } from './devices.js';
import type { SysfsDir } from './tree.js';

/** The attributes that may contain a device's identity; the first that exists is used. */
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

/** `'eui.0025385b71b0f3a2'`, `'eui.0025385b71b0f3a2 partition 2'`; null: the device has only its name. */
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
