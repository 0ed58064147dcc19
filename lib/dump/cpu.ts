/** Turns a processor's name into the /proc/cpuinfo of its machine. */
import { optionError } from '../base/arguments.js';

const VENDORS: ReadonlyMap<string, string> = new Map([
  ['amd', 'AuthenticAMD'],
  ['authenticamd', 'AuthenticAMD'],
  ['intel', 'GenuineIntel'],
  ['genuineintel', 'GenuineIntel'],
  ['hygon', 'HygonGenuine'],
  ['hygongenuine', 'HygonGenuine'],
]);

const FORM = /^([a-z]+)(?:[:, ]+(0x[0-9a-f]{1,3}|\d{1,4}))?$/i;

/**
 * `'amd:0x19'`, `'AuthenticAMD:25'`, `'intel'`.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE
 */
export function processorOf(cpu: string): string {
  const [, vendor, family] = FORM.exec(cpu.trim()) ?? [];
  const known = VENDORS.get(vendor?.toLowerCase() ?? '');
  if (known === undefined) {
    throw optionError('ERR_INVALID_ARG_VALUE', 'cpu', `no processor is known by '${cpu}'`, {
      received: cpu,
      demand: 'a vendor and a family, such as amd:0x19 or intel:6',
    });
  }
  if (known === 'AuthenticAMD' && family === undefined) {
    throw optionError('ERR_INVALID_ARG_VALUE', 'cpu', `of an AMD the family decides (received '${cpu}')`, {
      received: cpu,
      demand: 'a vendor and a family, such as amd:0x19 or intel:6',
      hint: 'Zen 1 and 2 are family 0x17, Zen 3 and 4 are 0x19, Zen 5 is 0x1a.',
    });
  }
  return `vendor_id\t: ${known}\n${family === undefined ? '' : `cpu family\t: ${Number(family)}\n`}`;
}
