/**
 * What the words of `lspci -v` and `-vv` say of one function. What they do not say is not known, never absent:
 *
 *     not root    Capabilities: <access denied>                     neither the port's type nor ACS
 *     -v          Capabilities: [148] Access Control Services       the port's type, of ACS only that there is some
 *     -vv         ACSCtl: SrcValid+ TransBlk- ReqRedir+ …           all of it; no ACS only if nothing hints at a missing line
 *
 * The lines of a function come in a fixed order. A text in which they do not has lost the lines in between, and with them perhaps
 * the heading of another function.
 */
import { parseBdf } from '../backend/names.js';
import type { AcsControl } from '../backend/topology.js';
import type { LspciFunction } from './lspci.js';
import { readHeading } from './lspci-heading.js';
import type { Bar, FunctionFacts } from './sent.js';

/** What the text as a whole shows, by which the silence of one function is judged. */
export interface TextFacts {
  /** Some function shows capabilities beyond byte 256, so they were readable. */
  readonly extended: boolean;
  /** Some function shows its driver, so a drive or a bridge that shows none has lost its last lines. */
  readonly drivers: boolean;
}

export function textFacts(functions: readonly LspciFunction[]): TextFacts {
  const words = functions.flatMap((fn) => fn.words);
  return {
    extended: words.some((line) => (capabilityOf(line)?.offset ?? 0) >= 0x100),
    drivers: words.some((line) => DRIVER.test(line)),
  };
}

const DRIVER = /^Kernel (?:driver in use|modules):/;

/** By what it shows beside the heading. */
export type Depth = 'heading' | 'v' | 'vv';

export function depthOf({ words }: LspciFunction): Depth {
  if (words.some((line) => /^Control: I\/O[+-]|^Status: Cap[+-]/.test(line))) return 'vv';
  return words.some((line) => line.startsWith('Flags: ')) ? 'v' : 'heading';
}

export function deniedIn({ words }: LspciFunction): boolean {
  return words.some((line) => /^Capabilities: .*access denied/.test(line));
}

/** The facts in the words of one function. */
export function readWords(fn: LspciFunction, text: TextFacts): FunctionFacts {
  const { bdf, bytes } = fn;
  const words = withoutVirtual(fn.words);
  const heading = readHeading(fn.heading);
  const known: FunctionFacts = { bdf, config: bytes, ...heading };
  // Without a class it may be a remark that begins with an address, between the lines of another function.
  if (heading.class === undefined) return known;
  if (fn.elided || isMixed(words)) return { ...known, lacks: 'their text is cut' };
  const depth = depthOf(fn);
  const capabilities = words.flatMap((line) => capabilityOf(line) ?? []);
  const whole = isWhole(fn, text, heading.class);
  const express = expressOf(words, capabilities, depth === 'vv' && whole);
  const settled = depth === 'vv' && whole && typeof express === 'number' && text.extended;
  return {
    ...known,
    ...told('buses', busesOf(words, bdf)),
    ...told('express', express),
    ...told('acs', acsOf(words, capabilities, settled)),
    ...told('bars', barsOf(words)),
    ...told('numaNode', numberIn(words, /^NUMA node: (\d+)$/)),
    ...told('iommuGroup', numberIn(words, /^IOMMU group: (\d+)$/)),
    lacks: whyNot(fn, depth),
  };
}

function told<K extends keyof FunctionFacts>(
  key: K,
  value: FunctionFacts[K] | undefined,
): Partial<Pick<FunctionFacts, K>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Pick<FunctionFacts, K>>);
}

function whyNot(fn: LspciFunction, depth: Depth): string {
  if (deniedIn(fn)) return 'only root sees the capabilities: sudo lspci -vvv';
  if (depth === 'v') return 'lspci -v does not show how it is set: sudo lspci -vvv';
  if (depth === 'heading') return 'lspci without -v does not show it: sudo lspci -vvvnn';
  return 'the text may have lost a line: sudo lspci -xxxx';
}

// --- is it all there? ---

/**
 * The parts of a function's text, in their order; lines that are not listed may be anywhere. Capabilities have a `Status:` and a
 * `Control:` of their own.
 */
const ORDER: readonly RegExp[] = [
  /^(?:Subsystem:|DeviceName:|Physical Slot:|Control: I|Status: Cap|Latency:|Interrupt: p|NUMA node:|IOMMU group:)/,
  /^(?:Region \d:|Bus: p|(?:I\/O|Memory|Prefetchable memory) behind bridge:|Secondary status:|BridgeCtl:)/,
  /^Capabilities:/,
  DRIVER,
];
const ONCE =
  /^(?:Subsystem:|Control: I|Status: Cap|Interrupt: p|NUMA node:|IOMMU group:|Bus: p|BridgeCtl:|Region \d:|ACSCap:|ACSCtl:|Kernel driver in use:|Capabilities: \[[0-9a-f]+)/;

/** Without the regions that the virtual functions of this one would have. */
function withoutVirtual(words: readonly string[]): readonly string[] {
  const capabilities = words.findIndex((line) => line.startsWith('Capabilities:'));
  return words.filter((line, at) => {
    if (capabilities < 0 || at < capabilities || !line.startsWith('Region ')) return true;
    const own = words.slice(capabilities, at).findLast((one) => one.startsWith('Capabilities:'));
    return own?.includes('(SR-IOV)') !== true;
  });
}

/** It has lines of two functions: one of them lost its heading. */
function isMixed(words: readonly string[]): boolean {
  let reached = 0;
  const seen = new Set<string>();
  for (const line of words) {
    const rank = ORDER.findIndex((part) => part.test(line));
    if (rank >= 0 && rank < reached) return true;
    reached = Math.max(reached, rank);
    const once = ONCE.exec(line)?.[0];
    if (once !== undefined && seen.has(once)) return true;
    if (once !== undefined) seen.add(once);
  }
  return false;
}

/** Capabilities of which -vv always shows some lines, the last of them named here. */
const LAST_LINES: readonly (readonly [capability: RegExp, line: RegExp])[] = [
  [/\] Express /, /^DevSta:/],
  [/\] Advanced Error Reporting$/, /^AERCap:/],
];

const DRIVE_OR_BRIDGE: ReadonlySet<number> = new Set([0x0108, 0x0604]);

function isWhole({ words, ended }: LspciFunction, text: TextFacts, kind: number | undefined): boolean {
  const complete = LAST_LINES.every(
    ([capability, last]) =>
      !words.some((line) => line.startsWith('Capabilities:') && capability.test(line)) ||
      words.some((line) => last.test(line)),
  );
  if (!ended || !complete) return false;
  return !text.drivers || !DRIVE_OR_BRIDGE.has((kind ?? 0) >> 8) || words.some((line) => DRIVER.test(line));
}

// --- capabilities ---

interface Capability {
  readonly offset: number;
  readonly text: string;
}

function capabilityOf(line: string): Capability | null {
  const [, offset, text] = /^Capabilities: \[([0-9a-f]{2,3})(?: v\d+)?\] ?(.*)$/.exec(line) ?? [];
  return offset === undefined ? null : { offset: Number.parseInt(offset, 16), text: text ?? '' };
}

/** Device/Port Type of the PCI Express Capabilities register. */
const EXPRESS: readonly (readonly [type: number, name: string])[] = [
  [0, 'Endpoint'],
  [1, 'Legacy Endpoint'],
  [4, 'Root Port'],
  [5, 'Upstream Port'],
  [6, 'Downstream Port'],
  [7, 'PCI-Express to PCI/PCI-X Bridge'],
  [8, 'PCI/PCI-X to PCI-Express Bridge'],
  [9, 'Root Complex Integrated Endpoint'],
  [10, 'Root Complex Event Collector'],
];
/** Lines of this capability, and drivers that bind to nothing without it. */
const EXPRESS_LINES = /^(?:Dev|Lnk|Slt|Root)(?:Cap|Ctl|Sta)2?:|^Kernel driver in use: (?:pcieport|nvme)$/;
const ACS = 'Access Control Services';

function expressOf(
  words: readonly string[],
  capabilities: readonly Capability[],
  wholeList: boolean,
): FunctionFacts['express'] {
  for (const { text } of capabilities) {
    const kind = /^Express (?:\(v\d+\) )?(.*)$/.exec(text)?.[1];
    if (kind === undefined) continue;
    return EXPRESS.find(
      ([, name]) => kind === name || kind.startsWith(`${name},`) || kind.startsWith(`${name} (`),
    )?.[0];
  }
  if (!wholeList || words.some((line) => EXPRESS_LINES.test(line))) return undefined;
  const list = /^Status: Cap([+-])/.exec(words.find((line) => line.startsWith('Status: Cap')) ?? '')?.[1];
  const standard = capabilities.length > 0 && capabilities.every(({ offset }) => offset < 0x100);
  return (list === '-' && capabilities.length === 0) || (list === '+' && standard) ? 'none' : undefined;
}

/** Bits of the ACS Control register, in the order in which they are printed. */
const ACS_FLAGS: readonly string[] = [
  'SrcValid',
  'TransBlk',
  'ReqRedir',
  'CmpltRedir',
  'UpstreamFwd',
  'EgressCtrl',
  'DirectTrans',
];

/** @param settled If nothing is said of ACS, there is none. */
function acsOf(
  words: readonly string[],
  capabilities: readonly Capability[],
  settled: boolean,
): Exclude<AcsControl, 'unknown'> | undefined {
  const line = words.find((one) => one.startsWith('ACSCtl:'));
  if (line !== undefined) return acsControl(line);
  const extended = capabilities.filter(({ offset }) => offset >= 0x100);
  // A name that is cut off may have been this one; 0d is its ID.
  const hint = extended.some(({ text }) => text === '' || ACS.startsWith(text.slice(0, 3)) || text === '#0d');
  return settled && !hint && !words.some((one) => one.startsWith('ACSCap')) ? 'none' : undefined;
}

function acsControl(line: string): number | undefined {
  let control = 0;
  for (const [bit, name] of ACS_FLAGS.entries()) {
    const sign = new RegExp(`\\b${name}([+-])(?=\\s|$)`).exec(line)?.[1];
    if (sign === undefined) return undefined;
    if (sign === '+') control |= 1 << bit;
  }
  return control;
}

// --- the rest ---

function busesOf(words: readonly string[], bdf: string): FunctionFacts['buses'] {
  const line = words.find((one) => one.startsWith('Bus: '));
  const found = /^Bus: primary=([0-9a-f]{2}), secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2}),/.exec(
    line ?? '',
  );
  if (found === null) return undefined;
  const [primary, secondary, subordinate] = found.slice(1).map((digits) => Number.parseInt(digits, 16));
  // Another bus than its own: the line is another function's.
  return primary === parseBdf(bdf)?.bus ? { secondary: secondary!, subordinate: subordinate! } : undefined;
}

const REGION =
  /^Region ([0-5]): (?:\[[a-z]+\] )?Memory at ([0-9a-f]+) \((32|64)-bit, (non-)?prefetchable\).*\[size=(\d+)([KMGT]?)\]/;
const UNITS = ['', 'K', 'M', 'G', 'T'];

function barsOf(words: readonly string[]): readonly Bar[] | undefined {
  const bars = words.flatMap((line): Bar[] => {
    const [, index, address, width, no, count, unit] = REGION.exec(line) ?? [];
    if (index === undefined) return [];
    const size = Number(count) * 1024 ** UNITS.indexOf(unit!);
    const start = Number.parseInt(address!, 16);
    if (size === 0 || !Number.isSafeInteger(start + size)) return [];
    return [
      { index: Number(index), address: start, size, prefetchable: no === undefined, wide: width === '64' },
    ];
  });
  return bars.length === 0 ? undefined : bars;
}

function numberIn(words: readonly string[], pattern: RegExp): number | undefined {
  for (const line of words) {
    const digits = pattern.exec(line)?.[1];
    if (digits !== undefined && digits.length < 6) return Number(digits);
  }
  return undefined;
}
