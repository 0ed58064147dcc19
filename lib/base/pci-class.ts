/** The kind of a PCI function, by base class and subclass (PCI Code and ID Assignment Specification). */
import { hexNumber } from './words.js';

const CLASSES: Readonly<Record<number, string>> = {
  260: 'RAID controller',
  262: 'SATA controller',
  263: 'SAS controller',
  264: 'NVMe controller',
  512: 'Ethernet',
  519: 'InfiniBand',
  768: 'GPU',
  770: 'GPU',
  896: 'GPU',
  1027: 'audio',
  1280: 'memory device',
  1408: 'memory device',
  1536: 'host bridge device',
  1537: 'ISA bridge',
  1540: 'PCI bridge',
  2054: 'IOMMU',
  2176: 'system peripheral',
  2880: 'co-processor',
  3075: 'USB controller',
  3077: 'SMBus',
  4608: 'accelerator',
};

/** `'GPU'`; `'class 0xff0000'` for a class that is not in the table. */
export function classWords(code: number): string {
  return CLASSES[code >>> 8] ?? `class ${hexNumber(code, 6)}`;
}
