/** Names of devices: PCI addresses, root buses, what stands below /dev. */
import { hex } from '../base/words.js';
import type { Bdf, HostBridge } from './topology.js';

/** `'03:00.0'` → `'0000:03:00.0'`, in lower case; what is no address stays, in lower case. */
export function normalizeBdf(bdf: string): Bdf {
  const lower = bdf.toLowerCase();
  return /^[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(lower) ? `0000:${lower}` : lower;
}

/** `'/dev/nvme0n1'` → `'nvme0n1'`. */
export function bareName(nameOrPath: string): string {
  return nameOrPath.startsWith('/dev/') ? nameOrPath.slice('/dev/'.length) : nameOrPath;
}

/** The root bus of a host bridge: `'0000:00'`. */
export function rootBusName({ domain, bus }: Pick<HostBridge, 'domain' | 'bus'>): string {
  return `${hex(domain, 4)}:${hex(bus, 2)}`;
}

/** What lspci -n says a device is: `'8086:0a54'`. */
export function deviceId({ vendor, device }: { readonly vendor: number; readonly device: number }): string {
  return `${hex(vendor, 4)}:${hex(device, 4)}`;
}
