import { hex } from './words.js';

/** COMMAND_LINE_SIZE of Linux 6.12 on x86 and arm64, less the byte that ends it; on other processors it is not known here. */
export const BOOT_LINE_LIMIT = 2047;

/** A PCI function, as far as it is named here. */
interface Named {
  readonly bdf: string;
  /** 0xffff: not known. */
  readonly vendor: number;
  readonly device: number;
}

/** The kernel parameter that disables ACS redirection in what is named by address or as `pci:vendor:device`. */
export function disableAcsRedirIn(names: readonly string[]): string {
  return `pci=disable_acs_redir=${names.join(';')}`;
}

export interface BootParameter {
  readonly parameter: string;
  /** It names functions by vendor and device, so that it is valid for every such function. */
  readonly byId: boolean;
}

/**
 * The kernel parameter that disables ACS redirection in `functions` and in no other function of the machine, in the first of
 * these forms that fits on a boot line that has `taken` characters already; null: none fits.
 *
 *     pci=disable_acs_redir=0000:02:00.0;0000:02:01.0    by address
 *     pci=disable_acs_redir=02:00.0;02:01.0              the same: without a domain, 0 is meant
 *     pci=disable_acs_redir=pci:104c:8233                by vendor and device, where all of a kind are meant
 */
export function bootParameter(
  functions: readonly Named[],
  { all, taken = 0 }: { readonly all: readonly Named[]; readonly taken?: number },
): BootParameter | null {
  const addresses = functions.map(({ bdf }) => bdf);
  const short = addresses.map((bdf) => bdf.replace(/^0000:/, ''));
  const forms = [
    { parameter: disableAcsRedirIn(addresses), byId: false },
    { parameter: disableAcsRedirIn(short), byId: false },
    { parameter: disableAcsRedirIn(byKind(functions, all)), byId: true },
  ];
  return forms.find(({ parameter }) => fits(parameter, taken)) ?? null;
}

/** Is there room for the parameter, its two quotes and the space before it? */
function fits(parameter: string, taken: number): boolean {
  return taken + parameter.length + 3 <= BOOT_LINE_LIMIT;
}

/** What is said where no form fits. */
export function tooLong(functions: number): string {
  return (
    `A boot parameter for all ${functions} functions does not fit: the kernel takes a boot line of at most ` +
    `${BOOT_LINE_LIMIT} characters on x86 and arm64 (other processors: not known). Disable ACS redirection in the firmware, ` +
    'if it has a setting for this; or name only the functions between the drives that you use: ' +
    '`p2pdma explain <provider> <client>` shows the parameter for one pair.'
  );
}

/** Kinds of which each function of the machine is in the list are named by vendor and device; the rest by address. */
function byKind(functions: readonly Named[], all: readonly Named[]): string[] {
  const asked = new Set(functions);
  const others = new Set(all.filter((dev) => !asked.has(dev)).map(kindOf));
  const names = functions.map((dev) => {
    const kind = kindOf(dev);
    return others.has(kind) || dev.vendor === 0xffff ? dev.bdf.replace(/^0000:/, '') : kind;
  });
  return [...new Set(names)];
}

function kindOf({ vendor, device }: Named): string {
  return `pci:${hex(vendor, 4)}:${hex(device, 4)}`;
}
