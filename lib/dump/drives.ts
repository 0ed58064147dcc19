/**
 * What other programs tell of NVMe drives, put where the kernel would show it. A drive has a place only if its PCI address is
 * known. A namespace nvme2n1 belongs to subsystem 2, whose controller may be nvme5: a number alone does not place it. No text
 * says whether nvme2n1 is a disk or a multipath head, so a namespace has a name and a size here, and no block device.
 */
import { classWords } from '../base/pci-class.js';
import { list } from '../base/words.js';
import { NVME_DISK } from '../native/sysfs/nvme.js';
import { type SysfsDir, SysfsTree } from '../native/sysfs/tree.js';
import { type ControllerFacts, type NamespaceFacts, sameSerial } from './drive-facts.js';
import { directoryOf } from './functions.js';
import type { Gathered } from './sent.js';

const BLOCK = ['sys', 'class', 'block'];
const PCI_CLASS_STORAGE_NVM = 0x0108;

export function putDrives(into: Gathered): void {
  new Placing(into).all();
}

class Placing {
  readonly #into: Gathered;
  readonly #tree: SysfsTree;
  readonly #controllers: Map<string, ControllerFacts>;
  /** The functions of the controllers that have a place. */
  readonly #placed = new Map<string, string>();
  /** Controllers that are not on PCIe, or are already said not to have a place. */
  readonly #elsewhere = new Set<string>();

  constructor(into: Gathered) {
    this.#into = into;
    this.#tree = new SysfsTree(into.files);
    this.#controllers = into.drives.controllers;
  }

  all(): void {
    const { drives } = this.#into;
    const owners = new Map<string, string | null>();
    for (const [name, facts] of drives.namespaces) {
      const owner = this.#ownerOf(name, facts);
      owners.set(name, owner);
      // A list of namespaces shows the model, the serial number and the firmware of the controller.
      const { model, serial, firmware } = facts;
      if (owner !== null)
        drives.controller(owner, { model, serial, firmware } as ControllerFacts, `what is told of ${name}`);
    }
    for (const [name, facts] of drives.controllers) this.#placeController(name, facts);
    for (const [name, facts] of drives.namespaces) this.#placeNamespace(name, owners.get(name)!, facts);
    this.#account(drives.namespaces, owners);
  }

  /** Null: not known for sure. */
  #ownerOf(name: string, { controller, serial }: NamespaceFacts): string | null {
    if (controller !== undefined) return this.#controllers.has(controller) ? controller : null;
    const subsystem = `nvme-subsys${NVME_DISK.exec(name)?.[1]}`;
    const bySubsystem = this.#named((one) => one.subsystem === subsystem);
    if (bySubsystem.length > 0) return bySubsystem.length === 1 ? bySubsystem[0]! : null;
    if (serial === undefined) return null;
    const bySerial = this.#named((one) => one.serial !== undefined && sameSerial(one.serial, serial));
    return bySerial.length === 1 ? bySerial[0]! : null;
  }

  #named(which: (facts: ControllerFacts) => boolean): string[] {
    return [...this.#controllers].filter(([, facts]) => which(facts)).map(([name]) => name);
  }

  #placeController(name: string, facts: ControllerFacts): void {
    const { address, transport } = facts;
    if (transport !== undefined && transport !== 'pcie') {
      this.#elsewhere.add(name);
      this.#into.notKnown(
        `the way to ${name}`,
        `it is reached over ${transport}, of which only /sys tells more`,
      );
      return;
    }
    if (address === undefined) return;
    const dir = this.#tree.dir(directoryOf(address).join('/'), { optional: true });
    const whyNot = dir === null ? null : this.#contradicted(name, address, dir);
    if (dir === null)
      this.#into.notKnown(`what ${address} is, which is ${name}`, 'that function was not sent');
    if (whyNot !== null) this.#into.contradiction(whyNot);
    if (dir === null || whyNot !== null) this.#elsewhere.add(name);
    else {
      this.#placed.set(name, address);
      this.#putController(name, address, facts);
    }
  }

  /** Why what is told of this controller cannot be true beside the rest, in words. */
  #contradicted(name: string, address: string, dir: SysfsDir): string | null {
    const code = dir.number('class', { optional: true });
    if (code !== null && code !== 0 && code >> 8 !== PCI_CLASS_STORAGE_NVM)
      return `${name} is said to be ${address}, which is no NVMe controller but: ${classWords(code)}`;
    const shown = dir.dir('nvme', { optional: true })?.names() ?? [];
    if (shown.length > 0 && !shown.includes(name))
      return `${address} is said to be ${name}, and /sys shows ${list(shown)} there`;
    if (shown.length === 0 && this.#into.captured.get(address) === true)
      return `${address} is said to be ${name}, and /sys shows no NVMe controller there`;
    const others = [...this.#controllers].filter(
      ([other, facts]) => other !== name && facts.address === address,
    );
    if (others.length > 0)
      return `${address} is said to be ${list([name, ...others.map(([other]) => other)].sort())}`;
    return null;
  }

  #putController(name: string, address: string, facts: ControllerFacts): void {
    const { files } = this.#into;
    const at = [...directoryOf(address), 'nvme', name];
    const { model, serial, firmware, state, nqn } = facts;
    files.folder(at);
    const attributes = {
      address,
      model,
      serial,
      firmware_rev: firmware,
      state,
      subsysnqn: nqn,
      transport: 'pcie',
    };
    for (const [attribute, value] of Object.entries(attributes)) {
      if (value !== undefined) files.put([...at, attribute], `${value}\n`);
    }
    files.link(['sys', 'class', 'nvme', name], `/${at.join('/')}`);
  }

  #placeNamespace(
    name: string,
    owner: string | null,
    { bytes, nsid, readOnly, blockSize }: NamespaceFacts,
  ): void {
    const address = owner === null ? undefined : this.#placed.get(owner);
    if (address === undefined || bytes === undefined) return;
    const { files } = this.#into;
    const above = [...directoryOf(address), 'nvme', owner!];
    const shown = this.#tree
      .dir(above.join('/'))!
      .names()
      .filter((one) => NVME_DISK.test(one));
    if (this.#into.captured.has(address) && shown.length > 0) {
      if (!shown.includes(name))
        this.#into.contradiction(`${name} is said to be of ${owner}, where /sys shows ${list(shown)}`);
      return;
    }
    // No block device: whether it is a disk or the head of several paths is not known.
    files.folder(BLOCK);
    files.put([...above, name, 'size'], `${bytes / 512}\n`);
    if (nsid !== undefined) files.put([...above, name, 'nsid'], `${nsid}\n`);
    if (readOnly !== undefined) files.put([...above, name, 'ro'], `${Number(readOnly)}\n`);
    if (blockSize !== undefined) files.put([...above, name, 'queue', 'logical_block_size'], `${blockSize}\n`);
    this.#into.toldNamespaces.push(name);
  }

  #account(namespaces: Map<string, NamespaceFacts>, owners: ReadonlyMap<string, string | null>): void {
    const into = this.#into;
    const unplaced = (name: string) => !this.#placed.has(name) && !this.#elsewhere.has(name);
    const lost = [
      ...[...this.#controllers.keys()].filter(unplaced),
      ...[...owners].filter(([, owner]) => owner === null).map(([name]) => name),
    ];
    if (lost.length > 0)
      into.notKnown(`which function ${list(lost)} is`, '`nvme list-subsys -o json` shows addresses');
    const put = into.toldNamespaces;
    const lacking = (key: keyof NamespaceFacts, of: readonly string[]) =>
      of.filter((name) => namespaces.get(name)![key] === undefined);
    const here = [...owners].flatMap(([name, owner]) =>
      owner !== null && this.#placed.has(owner) ? name : [],
    );
    const note = (what: string, names: readonly string[], why: string) => {
      if (names.length > 0) into.notKnown(`${what} of ${list(names)}`, why);
    };
    note('the exact size', lacking('bytes', here), '`lsblk -b -J` and `nvme list -o json` show it');
    note(
      'the block size',
      lacking('blockSize', put),
      '512 stands in its place; `nvme list -o json` shows it',
    );
    note(
      'the namespace ID',
      lacking('nsid', put),
      'the number in the name stands in its place; `nvme list -o json` shows it',
    );
    if (put.length > 0) {
      into.notKnown(
        `the layers of ${list(put)}: disks or multipath heads, mounted or not`,
        '/sys and /proc show them',
      );
    }
  }
}
