/** Turns what lspci prints here into what it prints elsewhere: other versions, other machines' facts, other people's mail programs. */

/** The lines that come from /sys and not from configuration space: NUMA node, IOMMU group, drivers. */
export function withKernelLines(words: string): string {
  return words
    .split('\n\n')
    .map((part) => {
      const [driver, modules] = DRIVERS.find(([kind]) => part.split('\n')[0]!.includes(kind))?.[1] ?? [];
      if (driver === undefined) return part;
      const group = Number.parseInt(/^(?:[0-9a-f]{4}:)?([0-9a-f]{2})/.exec(part)![1]!, 16) + 12;
      const facts = `\tInterrupt: pin A routed to IRQ 24\n\tNUMA node: 0\n\tIOMMU group: ${group}\n`;
      const located = part.replace(/^(\tStatus: Cap.*\n)/m, `$1${facts}`);
      return `${located}\n\tKernel driver in use: ${driver}${modules === undefined ? '' : `\n\tKernel modules: ${modules}`}`;
    })
    .join('\n\n');
}

const DRIVERS: readonly (readonly [kind: string, names: readonly [driver: string, modules?: string]])[] = [
  ['Non-Volatile', ['nvme', 'nvme']],
  ['PCI bridge', ['pcieport']],
];

/** As pciutils 3.5 prints it: ranges without their sizes, no IOMMU groups, unknown capabilities by number. */
export function asIn35(words: string): string {
  return words
    .replaceAll(/( behind bridge: [0-9a-f]+-[0-9a-f]+).*$/gm, '$1')
    .replaceAll(/^\tIOMMU group: .*\n/gm, '')
    .replaceAll(/^(\tRegion \d: )(.*) \[virtual\]/gm, '$1[virtual] $2')
    .replaceAll(/^\t\t(?:10BitTag|Emergency|FRS|Retimer).*\n/gm, '')
    .replaceAll(/ <\?>$/gm, ' #19')
    .replaceAll('VGA16- ', '')
    .replaceAll(/ (?:GenCap|ECRCGenCap)/g, ' GenCap');
}

/** As pciutils 3.13 and 3.14 print it: one word for interrupt message numbers, flit mode, more flags in some lines. */
export function asIn314(words: string): string {
  return words
    .replaceAll(/(Capabilities: \[[0-9a-f]+\] Express .*), MSI 00$/gm, '$1, IntMsgNum 0, FlitMode-')
    .replaceAll(/IntMsg (\d)/g, 'IntMsgNum $1')
    .replaceAll(/(AdvNonFatalErr[+-])$/gm, '$1 CorrIntErr- HeaderOF-')
    .replaceAll(/(ACSViol-)$/gm, '$1 UncorrIntErr- BlockedTLP- AtomicOpBlocked- TLPBlockedErr-')
    .replaceAll(/ \[disabled\]$/gm, ' [disabled] [32-bit]');
}

/** Wrapped at blanks as mail programs do it; `indent`: what becomes of tabs. */
export function wrapped(text: string, width: number, indent = '        '): string {
  return text
    .split('\n')
    .flatMap((line) => {
      const lines: string[] = [];
      let rest = line.replaceAll('\t', indent);
      while (rest.length > width) {
        const at = rest.lastIndexOf(' ', width);
        if (at <= rest.search(/\S/)) break;
        lines.push(rest.slice(0, at));
        rest = rest.slice(at + 1);
      }
      return [...lines, rest];
    })
    .join('\n');
}

export function quoted(text: string, mark = '> '): string {
  return text.replaceAll(/^/gm, mark);
}
