/**
 * The configuration space of a function of which words are known and not the bytes, as far as the words reach:
 *
 *     64 bytes     class, IDs, buses                          the capabilities are not known
 *     256 bytes    and the PCI Express capability, or none    ACS is not known
 *     4096 bytes   and ACS
 */
import { parseBdf } from '../backend/names.js';
import type { FunctionFacts } from './sent.js';

const STANDARD = 64;
const CONVENTIONAL = 256;
const WHOLE = 4096;
const PCI_STATUS = 0x06;
const PCI_STATUS_CAP_LIST = 0x10;
const PCI_HEADER_TYPE = 0x0e;
const PCI_PRIMARY_BUS = 0x18;
const PCI_CAPABILITY_LIST = 0x34;
const PCI_CAP_ID_EXP = 0x10;
const PCI_EXT_CAP_START = 0x100;
const PCI_EXT_CAP_ID_ACS = 0x0d;
const PCI_ACS_CTRL = 6;
const PCI_CLASS_BRIDGE_PCI = 0x060400;
/** A Device/Port Type that no specification has. */
const UNKNOWN_TYPE = 0xf;

/** The bytes that were sent, or those that say what was told, whichever reach further. */
export function configOf(facts: FunctionFacts): Buffer {
  const told = fromWords(facts);
  return facts.config.length >= told.length ? facts.config : told;
}

function fromWords(facts: FunctionFacts): Buffer {
  const { vendor, device, buses } = facts;
  const kind = facts.class ?? (buses == null ? null : PCI_CLASS_BRIDGE_PCI);
  if (kind === null && vendor == null) return Buffer.alloc(0);
  const config = Buffer.alloc(lengthOf(facts));
  config.writeUInt16LE(vendor ?? 0xffff, 0);
  config.writeUInt16LE(device ?? 0xffff, 2);
  config.writeUIntLE(kind ?? 0, 9, 3);
  if (kind !== null && kind >> 8 === PCI_CLASS_BRIDGE_PCI >> 8) {
    config[PCI_HEADER_TYPE] = 1;
    config.set(
      [parseBdf(facts.bdf)?.bus ?? 0, buses?.secondary ?? 0, buses?.subordinate ?? 0],
      PCI_PRIMARY_BUS,
    );
  }
  putCapabilities(config, facts);
  return config;
}

function lengthOf({ express, acs }: FunctionFacts): number {
  if (typeof acs === 'number' || (acs === 'none' && express != null)) return WHOLE;
  return express == null ? STANDARD : CONVENTIONAL;
}

function putCapabilities(config: Buffer, { express, acs }: FunctionFacts): void {
  if (express === 'none') return;
  config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
  config[PCI_CAPABILITY_LIST] = STANDARD;
  if (config.length > STANDARD) {
    config[STANDARD] = PCI_CAP_ID_EXP;
    config[STANDARD + 2] = ((express ?? UNKNOWN_TYPE) << 4) | 2;
  }
  if (typeof acs === 'number') {
    config.writeUInt32LE((1 << 16) | PCI_EXT_CAP_ID_ACS, PCI_EXT_CAP_START);
    config.writeUInt16LE(acs, PCI_EXT_CAP_START + PCI_ACS_CTRL);
  }
}
