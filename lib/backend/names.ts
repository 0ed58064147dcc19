/** Names of devices: PCI addresses, root buses, names below /dev. */
import { classWords } from '../base/pci-class.js';
import { hex } from '../base/words.js';
import type { Bdf, HostBridge, PciDev } from './topology.js';

/** `'03:00.0'` → `'0000:03:00.0'`, in lower case; a string that is not an address is only lower-cased. */
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

/** The vendor and device ID as lspci -n shows them: `'8086:0a54'`. */
export function deviceId({ vendor, device }: { readonly vendor: number; readonly device: number }): string {
  return `${hex(vendor, 4)}:${hex(device, 4)}`;
}

const PCI_CLASS_STORAGE_NVM = 0x0108;

export function isNvme({ class: code }: Pick<PciDev, 'class'>): boolean {
  return code >>> 8 === PCI_CLASS_STORAGE_NVM;
}

/** The reason, as a clause, why memory of a function that has some but does not publish it should not be used. */
export function whyNotPublished(dev: Pick<PciDev, 'class'>): string {
  return isNvme(dev)
    ? 'its CMB is not published (it is not both readable and writable)'
    : `its memory is not published: the driver of this function (${classWords(dev.class)}) keeps it to itself`;
}
