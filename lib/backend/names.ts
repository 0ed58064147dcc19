/** Names of devices: PCI addresses, root buses, names below /dev. */
import { classWords } from '../base/pci-class.js';
import { hex } from '../base/words.js';
import type { Bdf, HostBridge, PciDev } from './topology.js';

/**
 * A PCI address as people write it, with or without its domain. A bus has 32 devices, and a device has 8 functions. Domains that
 * drivers create (VMD) have more than four digits.
 */
export const PCI_ADDRESS = /^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]$/;

/** `'03:00.0'` → `'0000:03:00.0'`, in lower case; a string that is not an address is only lower-cased. */
export function normalizeBdf(bdf: string): Bdf {
  const lower = bdf.toLowerCase();
  return PCI_ADDRESS.test(lower) && lower.split(':').length === 2 ? `0000:${lower}` : lower;
}

/** Is it an address as the kernel writes it: with its domain, in lower case? */
export function isBdf(name: string): name is Bdf {
  return PCI_ADDRESS.test(name) && normalizeBdf(name) === name;
}

/** An address as numbers. */
export interface PciAddress {
  readonly domain: number;
  readonly bus: number;
  /** Device * 8 + function, as the kernel encodes it. */
  readonly devfn: number;
}

/** Null: it is not a PCI address. */
export function parseBdf(bdf: string): PciAddress | null {
  if (!PCI_ADDRESS.test(bdf)) return null;
  const numbers = normalizeBdf(bdf).split(/[:.]/);
  const [domain, bus, device, fn] = numbers.map((digits) => Number.parseInt(digits, 16));
  return { domain: domain!, bus: bus!, devfn: device! * 8 + fn! };
}

/** One number for an address, in the order of the addresses. */
export function bdfId({ domain, bus, devfn }: PciAddress): number {
  return domain * 0x10000 + bus * 0x100 + devfn;
}

/** `'pci0000:00'`: the directory of a root bus in sysfs. Null: it is not one. */
export function parseRootBus(name: string): { domain: number; bus: number } | null {
  const [, domain, bus] = /^pci([0-9a-f]{4,8}):([0-9a-f]{2})$/.exec(name) ?? [];
  if (domain === undefined || bus === undefined) return null;
  return { domain: Number.parseInt(domain, 16), bus: Number.parseInt(bus, 16) };
}

/** `'/dev/nvme0n1'` → `'nvme0n1'`. */
export function bareName(nameOrPath: string): string {
  return nameOrPath.startsWith('/dev/') ? nameOrPath.slice('/dev/'.length) : nameOrPath;
}

/** Were its vendor and device ID read? No vendor has the ID ffff. */
export function idsKnown({ vendor }: Pick<PciDev, 'vendor'>): boolean {
  return vendor !== 0xffff;
}

/** The root bus of a host bridge: `'0000:00'`. */
export function rootBusName({ domain, bus }: Pick<HostBridge, 'domain' | 'bus'>): string {
  return `${hex(domain, 4)}:${hex(bus, 2)}`;
}

/** The vendor and device ID as lspci -n shows them: `'8086:0a54'`; or that they are not known. */
export function deviceId({ vendor, device }: { readonly vendor: number; readonly device: number }): string {
  if (!idsKnown({ vendor })) return 'IDs unknown';
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
