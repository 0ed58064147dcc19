/**
 * Parses a function's configuration space, the bytes of `config` in sysfs:
 *
 *     0x00  vendor, device, command, status (bit 4: there is a capability list)
 *     0x10  BARs: bus addresses                    0x18  of a bridge: primary, secondary, subordinate bus
 *     0x34  first capability ──▶ id, next ──▶ …    id 0x10: PCI Express, bits 7:4 of its flags: the port type
 *     0x100 first extended capability ──▶ …        id 0x000d: ACS, its control register at +6
 *
 * A reader without CAP_SYS_ADMIN gets only the first 64 bytes (128 for a CardBus bridge).
 */
import type { AcsControl, PciePortType } from '../../backend/topology.js';

const PCI_STD_HEADER_SIZEOF = 0x40;
const PCI_STATUS = 0x06;
const PCI_STATUS_CAP_LIST = 0x10;
const PCI_HEADER_TYPE = 0x0e;
const PCI_BASE_ADDRESS_0 = 0x10;
const PCI_SECONDARY_BUS = 0x19;
const PCI_SUBORDINATE_BUS = 0x1a;
const PCI_CAPABILITY_LIST = 0x34;
const PCI_CAP_ID_EXP = 0x10;
const PCI_EXP_FLAGS = 2;
const PCI_EXT_CAP_START = 0x100;
const PCI_EXT_CAP_ID_ACS = 0x0d;
const PCI_ACS_CTRL = 6;
const PCI_CFG_SPACE_SIZE = 256;
const PCI_CFG_SPACE_EXP_SIZE = 4096;

export interface PciConfig {
  /** The number of bytes that could be read. */
  readonly length: number;
  /** Null: a virtual function, which has no IDs of its own. */
  readonly vendor: number | null;
  readonly device: number | null;
  readonly class: number;
  /** 0: an ordinary function, 1: a PCI-to-PCI bridge, 2: CardBus. */
  readonly headerType: number;
  /** Null: the capability list was not (fully) readable. */
  readonly portType: PciePortType | null;
  readonly acs: AcsControl;
  /** For a bridge with plausible bus numbers: the buses below it. */
  readonly buses: { readonly secondary: number; readonly subordinate: number } | null;
  /** Bus addresses in the BARs, by BAR number; null: none, or unreadable. */
  readonly barAddresses: readonly (number | null)[];
}

/** PCI_EXP_FLAGS_TYPE → port type; a value that is not listed is 'unknown'. */
const portTypes: Readonly<Record<number, PciePortType>> = {
  0: 'endpoint',
  1: 'endpoint', // legacy endpoint: differs in interrupts and I/O BARs only
  4: 'root-port',
  5: 'upstream-port',
  6: 'downstream-port',
  7: 'pcie-to-pci-bridge',
  9: 'root-complex-endpoint',
  10: 'root-complex-endpoint', // event collector
};

/**
 * Null: too short to contain anything, or all ones (powered down or removed). A virtual function (SR-IOV) returns all ones only
 * for its IDs, which are those of its physical function; the rest is its own.
 * @param wholeSize the size of the function's configuration space, if known for sure: 256 means that the kernel itself reaches
 *   no extended space and therefore sees no ACS.
 */
export function parsePciConfig(whole: Buffer, wholeSize: number | null = null): PciConfig | null {
  if (whole.length < PCI_STD_HEADER_SIZEOF || isAllOnes(whole)) return null;
  const config = withoutPadding(whole);
  const express = findCapability(config, PCI_CAP_ID_EXP);
  const headerType = config[PCI_HEADER_TYPE]! & 0x7f;
  return {
    length: config.length,
    vendor: idAt(config, 0),
    device: idAt(config, 2),
    class: config.readUIntLE(9, 3),
    headerType,
    portType: express === 'unknown' ? null : express === null ? 'conventional' : portTypeAt(config, express),
    acs: express === null || wholeSize === PCI_CFG_SPACE_SIZE ? 'none' : acsControl(config),
    buses: headerType === 1 ? bridgeBuses(config) : null,
    barAddresses: barAddresses(config, headerType),
  };
}

function isAllOnes(config: Buffer): boolean {
  return config.subarray(0, PCI_STD_HEADER_SIZEOF).every((byte) => byte === 0xff);
}

/**
 * If the tree was copied without CAP_SYS_ADMIN, only the standard header was readable, and `tar` padded the rest with zeros.
 * Then the status register announces a capability list, but there are only zeros where it begins and after that.
 */
function withoutPadding(config: Buffer): Buffer {
  const hasList = (config[PCI_STATUS]! & PCI_STATUS_CAP_LIST) !== 0;
  const rest = config.subarray(PCI_STD_HEADER_SIZEOF);
  return hasList && rest.every((byte) => byte === 0) ? config.subarray(0, PCI_STD_HEADER_SIZEOF) : config;
}

function idAt(config: Buffer, at: number): number | null {
  const id = config.readUInt16LE(at);
  return id === 0xffff ? null : id;
}

function portTypeAt(config: Buffer, express: number): PciePortType | null {
  if (express + PCI_EXP_FLAGS + 2 > config.length) return null;
  return portTypes[(config[express + PCI_EXP_FLAGS]! >> 4) & 0xf] ?? 'unknown';
}

/** Offset of a capability; null if there is none, 'unknown' if the list leads beyond the readable part. */
function findCapability(config: Buffer, id: number): number | null | 'unknown' {
  if ((config[PCI_STATUS]! & PCI_STATUS_CAP_LIST) === 0) return null;
  let offset = config[PCI_CAPABILITY_LIST]! & 0xfc;
  for (let left = 48; left > 0 && offset >= 0x40; left--) {
    if (offset + 2 > config.length) return 'unknown';
    const found = config[offset]!;
    if (found === 0xff) return null;
    if (found === id) return offset;
    offset = config[offset + 1]! & 0xfc;
  }
  return null;
}

function acsControl(config: Buffer): AcsControl {
  let offset = PCI_EXT_CAP_START;
  const most = (PCI_CFG_SPACE_EXP_SIZE - PCI_EXT_CAP_START) / 8;
  for (let left = most; left > 0 && offset >= PCI_EXT_CAP_START; left--) {
    if (offset + 4 > config.length) return 'unknown';
    const header = config.readUInt32LE(offset);
    if (header === 0 || header === 0xffffffff) return 'none';
    if ((header & 0xffff) === PCI_EXT_CAP_ID_ACS) {
      return offset + PCI_ACS_CTRL + 2 > config.length
        ? 'unknown'
        : config.readUInt16LE(offset + PCI_ACS_CTRL);
    }
    offset = (header >>> 20) & 0xffc;
  }
  return 'none';
}

function bridgeBuses(config: Buffer): PciConfig['buses'] {
  const secondary = config[PCI_SECONDARY_BUS]!;
  const subordinate = config[PCI_SUBORDINATE_BUS]!;
  return secondary > 0 && subordinate >= secondary ? { secondary, subordinate } : null;
}

function barAddresses(config: Buffer, headerType: number): (number | null)[] {
  const count = headerType === 0 ? 6 : headerType === 1 ? 2 : 0;
  const addresses: (number | null)[] = [];
  for (let index = 0; index < count; index++) {
    const low = config.readUInt32LE(PCI_BASE_ADDRESS_0 + 4 * index);
    if ((low & 1) === 1) {
      addresses[index] = low - (low % 4) || null;
    } else if ((low & 6) === 4 && index + 1 < count) {
      const high = config.readUInt32LE(PCI_BASE_ADDRESS_0 + 4 * index + 4);
      const address = high * 2 ** 32 + (low - (low % 16));
      addresses[index] = Number.isSafeInteger(address) ? address || null : null;
      addresses[++index] = null;
    } else {
      addresses[index] = low - (low % 16) || null;
    }
  }
  return addresses;
}
