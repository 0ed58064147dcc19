/**
 * What an archive holds of a machine: files of /sys and /proc, and the texts of programs.
 *
 *     sys/devices/pci0000:00/…                           tar of /sys
 *     box/sys/… box/proc/cpuinfo                         hwloc-gather-topology --io
 *     sosreport-box-2026/sos_commands/pci/lspci_-nnvv    sosreport: texts, with a part of sys/ and proc/
 *
 * tar copies what stat says. In /sys that is a page for each attribute, which is padded with zeros, and zeros alone where
 * reading was refused. In /proc it is nothing: its files are empty in an archive of tar itself.
 */
import { isBdf } from '../backend/names.js';
import { list } from '../base/words.js';
import { type Bounds, notRead } from './bounds.js';
import type { Gathered, Sent } from './sent.js';
import type { TarEntry } from './tar.js';

/** Top folders above sys/ and proc/, at most. */
const MOST_ABOVE = 4;
const ROOTS: ReadonlySet<string> = new Set(['sys', 'proc', 'sos_commands']);
/** Made with `tar -C /sys`. */
const INSIDE_SYS =
  /^(bus\/pci|devices\/(pci|platform|virtual|system)|class\/(nvme|block|iommu)|kernel)(\/|$)/;

/** What the reader of sysfs looks at. */
const KEPT = [
  /^sys\/(bus\/pci\/devices|class\/(nvme|nvme-subsystem|block|iommu)|block|dev\/block)(\/|$)/,
  /^sys\/(devices|kernel\/iommu_groups|fs\/btrfs|hypervisor|module\/nvme(_core)?\/parameters)(\/|$)/,
  /^proc\/(cpuinfo|cmdline|version|swaps|config\.gz|hwloc-nofile-info)$/,
  /^proc\/((self|1)\/mountinfo|sys\/kernel\/osrelease)$/,
  /^boot\/config-[^/]+$/,
];
/** Below sys/devices: what is large, or belongs to other devices. A BAR (resource0) can have many GiB of zeros. */
const PASSED_OVER =
  /^sys\/devices\/(system|virtual\/(?!block|nvme))|\/(resource\d\w*|rom|vpd|power|msi_irqs|mq|net|hwmon|usb\d+|ata\d+|host\d+)(\/|$)/;

/** The name of a text that may tell something. */
const TELLING = /lspci|nvme|lsblk|dmesg|uname|cpuinfo|version/i;
const MOST_OF_ANY_TEXT = 2 ** 20;

/** A function's own directory has these, whatever the kernel; a copy of a few files has not. */
const EVERY_FUNCTION_HAS = ['vendor', 'device', 'class', 'resource', 'config'];

type Node = { readonly link: string } | Buffer | null;

export class Captured {
  readonly #name: string;
  readonly #bounds: Bounds;
  /** By the folders above sys/, then by path; null: a directory. */
  readonly #trees = new Map<string, Map<string, Node>>();
  readonly #texts: { readonly path: string; readonly bytes: Buffer }[] = [];
  readonly #empty = new Set<string>();
  #sos = false;

  /** @param name for messages */
  constructor(name: string, bounds: Bounds) {
    this.#name = name;
    this.#bounds = bounds;
  }

  take(entry: TarEntry): ((content: Buffer) => void) | null {
    const place = placeOf(entry.path);
    if (place === null || place.path.startsWith('sos_commands')) return this.#takeText(entry, place !== null);
    const { above, path } = place;
    if (!KEPT.some((kept) => kept.test(path)) || PASSED_OVER.test(path)) return null;
    const keep = (node: Node, bytes = 0): void => {
      this.#bounds.kept(bytes);
      const tree = this.#trees.get(above) ?? new Map<string, Node>();
      this.#trees.set(above, tree.set(path, node));
    };
    if (entry.kind === 'directory') keep(null);
    else if (entry.kind === 'link') keep({ link: entry.target! });
    if (entry.kind !== 'file') return null;
    this.#bounds.file(path, entry.size);
    return (content) => {
      const bytes = readTruly(path, content);
      if (bytes !== null) keep(bytes, bytes.length);
      else if (path.startsWith('proc/')) this.#empty.add(`/${path}`);
    };
  }

  #takeText({ path, kind, size }: TarEntry, sos: boolean): ((content: Buffer) => void) | null {
    this.#sos ||= sos;
    const telling = TELLING.test(path.at(-1) ?? '');
    const any = !sos && path.length <= MOST_ABOVE && size <= MOST_OF_ANY_TEXT;
    if (kind !== 'file' || size === 0 || !(telling || any)) return null;
    this.#bounds.file(path.join('/'), size);
    return (bytes) => {
      this.#bounds.kept(bytes.length);
      this.#texts.push({ path: path.join('/'), bytes });
    };
  }

  /** The texts. Beside a captured tree, and in a sosreport, only some of them are expected to tell anything. */
  texts(): Sent[] {
    const optional = this.#sos || this.#trees.size > 0;
    return this.#texts
      .filter(({ path }) => !optional || TELLING.test(path))
      .map(({ path, bytes }) => ({ name: `${this.#name}: ${path}`, bytes, optional }));
  }

  /** @throws P2pdmaError ERR_INVALID_ARG_VALUE: there are several machines in it */
  putInto(into: Gathered, form: string): void {
    const tree = this.#tree();
    into.recognised(this.#kind(tree, form));
    const other: string[] = [];
    for (const [path, node] of tree ?? []) {
      const at = path.split('/');
      if (node === null) into.files.folder(at);
      else if (!Buffer.isBuffer(node)) into.files.link(at, node.link);
      else if (!into.files.put(at, node) && !into.files.holds(at, node)) other.push(`/${path}`);
    }
    if (other.length > 0) {
      into.contradiction(
        `'${this.#name}' has another ${list(other, 4)} than what was sent before it; the first counts`,
      );
    }
    for (const [bdf, { path, whole }] of functionsIn(tree)) {
      into.captured.set(bdf, whole);
      into.files.link(['sys', 'bus', 'pci', 'devices', bdf], `/${path}`);
    }
    if (this.#empty.size > 0) {
      const why = 'it is empty, as tar copies /proc; send a copy made with cp or cat';
      into.notKnown(`what ${list([...this.#empty])} said`, why);
    }
  }

  #tree(): Map<string, Node> | null {
    const byDepth = [...this.#trees].sort(([a], [b]) => depth(a) - depth(b));
    const [first, second] = byDepth;
    if (first === undefined) return null;
    if (second !== undefined && depth(second[0]) === depth(first[0])) {
      const what = `holds the trees of several machines: ${list(byDepth.map(([above]) => `'${above}'`))}`;
      throw notRead(this.#name, what, 'Send one of them.');
    }
    return first[1];
  }

  #kind(tree: Map<string, Node> | null, form: string): string {
    const parts = [...new Set([...(tree?.keys() ?? [])].map((path) => path.split('/', 1)[0]!))].sort();
    const whose = this.#sos
      ? 'a sosreport'
      : tree?.has('proc/hwloc-nofile-info')
        ? 'an archive of hwloc-gather-topology'
        : 'an archive';
    const what = [...parts.map((part) => `${part}/`), ...(this.#texts.length > 0 ? ['texts'] : [])];
    return `${whose} (${form}) with ${what.length === 0 ? 'nothing of a machine' : list(what)}`;
  }
}

function depth(above: string): number {
  return above === '' ? 0 : above.split('/').length;
}

/** Where an entry is in the machine's filesystem; null: it is not below a folder that every machine has. */
function placeOf(path: readonly string[]): { readonly above: string; readonly path: string } | null {
  if (INSIDE_SYS.test(path.join('/'))) return { above: '', path: ['sys', ...path].join('/') };
  const at = path.findIndex(
    (part, index) => ROOTS.has(part) || (part === 'boot' && path[index + 1]?.startsWith('config-')),
  );
  if (at < 0 || at > MOST_ABOVE) return null;
  return { above: path.slice(0, at).join('/'), path: path.slice(at).join('/') };
}

/** Null: nothing was read where the file was copied. */
function readTruly(path: string, content: Buffer): Buffer | null {
  if (!path.startsWith('sys/')) return content.length === 0 ? null : content;
  const end = content.findLastIndex((byte) => byte !== 0) + 1;
  if (end === 0) return null;
  return path.endsWith('/config') ? content : content.subarray(0, end);
}

/** The functions' own directories, and whether they were copied whole. */
function functionsIn(
  tree: Map<string, Node> | null,
): Map<string, { readonly path: string; readonly whole: boolean }> {
  const names = new Map<string, Set<string>>();
  for (const [path, node] of tree ?? []) {
    const parts = path.split('/');
    parts.forEach((part, index) => {
      if (!isBdf(part) || (index === parts.length - 1 && node !== null)) return;
      const directory = parts.slice(0, index + 1).join('/');
      const within = names.get(directory) ?? new Set();
      names.set(directory, within.add(parts[index + 1] ?? ''));
    });
  }
  const found = new Map<string, { readonly path: string; readonly whole: boolean }>();
  for (const [path, within] of names) {
    if (!/^sys\/(devices|bus\/pci\/devices)\//.test(path)) continue;
    found.set(path.split('/').at(-1)!, {
      path,
      whole: EVERY_FUNCTION_HAS.every((name) => within.has(name)),
    });
  }
  return found;
}
