/** Turns PCI functions that are known without their directories in /sys into the directories that the kernel would show. */
import { hexNumber, list } from '../base/words.js';
import { parsePciConfig } from '../native/sysfs/pci-config.js';
import { configOf } from './config-space.js';
import type { Bar, FunctionFacts, Gathered } from './sent.js';

const FUNCTIONS = ['sys', 'bus', 'pci', 'devices'];
const GROUPS = ['sys', 'kernel', 'iommu_groups'];
const IORESOURCE_MEM = 0x200;
const IORESOURCE_PREFETCH = 0x2000;
const IORESOURCE_MEM_64 = 0x100000;

/** The directory of a function's attributes. */
export function directoryOf(bdf: string): string[] {
  return [...FUNCTIONS, bdf];
}

export function putFunctions(gathered: Gathered): void {
  const configs = new Map<FunctionFacts, Buffer>();
  for (const facts of gathered.functions.values()) {
    const config = configOf(facts);
    configs.set(facts, config);
    putFunction(gathered.files, facts, config);
  }
  account(configs, gathered);
}

function putFunction(files: Gathered['files'], facts: FunctionFacts, config: Buffer): void {
  const at = directoryOf(facts.bdf);
  const attribute = (name: string, value: string | Buffer): void => {
    files.put([...at, name], value);
  };
  files.folder(at);
  attribute('config', config);
  const ids = idsOf(facts, config);
  for (const [name, digits] of IDS)
    if (ids[name] !== null) attribute(name, `${hexNumber(ids[name], digits)}\n`);
  const { bars, numaNode, iommuGroup } = facts;
  if (bars != null) attribute('resource', resourceOf(bars));
  if (numaNode != null) attribute('numa_node', `${numaNode}\n`);
  if (iommuGroup != null) files.folder([...GROUPS, `${iommuGroup}`, 'devices', facts.bdf]);
}

const IDS = [
  ['vendor', 4],
  ['device', 4],
  ['class', 6],
] as const;

/** By its own bytes; a virtual function has no IDs in them, and one that is powered down nothing. Then lspci has them of the kernel. */
function idsOf(facts: FunctionFacts, config: Buffer): Record<(typeof IDS)[number][0], number | null> {
  const own = parsePciConfig(config);
  return {
    vendor: own?.vendor ?? facts.vendor ?? null,
    device: own?.device ?? facts.device ?? null,
    class: (own?.class || facts.class) ?? null,
  };
}

function resourceOf(bars: readonly Bar[]): string {
  const lines = Array.from({ length: 6 }, (_, index) => {
    const bar = bars.find((one) => one.index === index);
    if (bar === undefined) return [0, 0, 0];
    const kind = (bar.prefetchable ? IORESOURCE_PREFETCH : 0) | (bar.wide ? IORESOURCE_MEM_64 : 0);
    return [bar.address, bar.address + bar.size - 1, IORESOURCE_MEM | kind];
  });
  return lines.map((line) => `${line.map((value) => hexNumber(value, 16)).join(' ')}\n`).join('');
}

/** Record what is not known of which functions. */
function account(configs: ReadonlyMap<FunctionFacts, Buffer>, gathered: Gathered): void {
  const all = [...configs];
  const untold = all.filter((one) => !idsOf(...one).class);
  if (untold.length > 0) {
    const why = untold.every(([{ class: of }]) => of === undefined)
      ? 'neither its class nor its first 64 bytes were sent'
      : 'what was sent contradicts itself';
    gathered.notKnown(`the kind of ${named(untold)}`, `${why}: lspci -nn`);
  }
  const nameless = all.filter((one) => idsOf(...one).vendor === null);
  if (nameless.length > 0) {
    const whose = nameless.length === all.length ? '' : ` of ${named(nameless)}`;
    gathered.notKnown(
      `the IDs${whose}`,
      'the kernel knows a host bridge by its vendor and device ID, which lspci -nn shows',
    );
  }
  let conventional = 0;
  const reasons = new Map<string, [FunctionFacts, Buffer][]>();
  for (const one of all) {
    const [{ lacks }, config] = one;
    const known = parsePciConfig(config);
    if (known?.portType === 'conventional') conventional++;
    if (lacks === undefined || (known !== null && known.acs !== 'unknown')) continue;
    reasons.set(lacks, [...(reasons.get(lacks) ?? []), one]);
  }
  for (const [why, lacking] of reasons) {
    const portTypes = lacking.every(([, config]) => (parsePciConfig(config)?.portType ?? null) === null);
    const what = portTypes ? 'ACS and PCIe port types' : 'ACS';
    gathered.notKnown(
      lacking.length === all.length - conventional ? what : `${what} of ${named(lacking)}`,
      why,
    );
  }
}

function named(functions: readonly (readonly [FunctionFacts, Buffer])[]): string {
  return list(functions.map(([{ bdf }]) => bdf));
}
