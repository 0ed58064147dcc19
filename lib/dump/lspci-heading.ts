/**
 * What the first line of a function says:
 *
 *     -n     0108: 144d:a80a (rev 02)
 *     -nn    Non-Volatile memory controller [0108]: Samsung … [144d:a80a] (rev 02)
 *            Non-Volatile memory controller: Samsung … (rev 02)                      names alone: no IDs
 *     -v     … (prog-if 02 [NVM Express])                                            any of them, and the programming interface
 */
import { classOfName } from './class-names.js';

export interface HeadingFacts {
  /** 24 bits. Undefined here and below: the line does not say. */
  readonly class?: number;
  readonly vendor?: number;
  readonly device?: number;
}

const NUMBERS = /^([0-9a-f]{4}): ([0-9a-f]{4}):([0-9a-f]{4})(?=\s|$)/i;
const NAME_AND_NUMBER = /^[^:]*\[([0-9a-f]{4})\]: /i;
/** For a class without a name. */
const NUMBER_ALONE = /^Class ([0-9a-f]{4}): /i;
const NAME = /^([^:]+): /;
const IDS = /^.*\[([0-9a-f]{4}):([0-9a-f]{4})\]/i;
const PROGRAMMING_INTERFACE = /\(prog-if ([0-9a-f]{2})\b/i;

export function readHeading(heading: string): HeadingFacts {
  const [, number, vendor, device] = NUMBERS.exec(heading) ?? [];
  if (number !== undefined) return { ...classWith(heading, hexOf(number)), ...idsOf(vendor, device) };
  const [, byNumber] = NAME_AND_NUMBER.exec(heading) ?? NUMBER_ALONE.exec(heading) ?? [];
  const [, byName] = NAME.exec(heading) ?? [];
  const code = byNumber === undefined ? classOfName(byName?.trim() ?? '') : hexOf(byNumber);
  const [, ...ids] = IDS.exec(heading.replace(/^[^:]*: /, '')) ?? [];
  return { ...classWith(heading, code), ...idsOf(ids[0], ids[1]) };
}

function classWith(heading: string, code: number | undefined): HeadingFacts {
  const [, byte] = PROGRAMMING_INTERFACE.exec(heading) ?? [];
  // ff is what a function answers that is powered down.
  const interfaceByte = byte === undefined || byte.toLowerCase() === 'ff' ? 0 : hexOf(byte);
  return code === undefined ? {} : { class: (code << 8) | interfaceByte };
}

function idsOf(vendor: string | undefined, device: string | undefined): HeadingFacts {
  return vendor === undefined || device === undefined ? {} : { vendor: hexOf(vendor), device: hexOf(device) };
}

function hexOf(digits: string): number {
  return Number.parseInt(digits, 16);
}
