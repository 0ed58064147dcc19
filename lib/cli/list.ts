import type { Command } from 'commander';
import { classWords } from '../base/pci-class.js';
import type { Controller, Disk, Place, Stacked, System } from '../index.js';
import { bytes, type Colours, colours, columns, printable, wrap } from './format.js';
import { LOOKS, manual } from './help.js';
import { inspectMachine, type MachineOptions, withKernel, withMachine, withSent } from './options.js';
import { diskText, idsText } from './recognise.js';
import { type RemarkedRow, remarkedTable, type View } from './table.js';
import { ownJson, tell } from './whose.js';

export function addList(command: Command): void {
  manual(command, {
    about: [
      'Lists the NVMe controllers with their PCI addresses, namespaces and CMBs (size, what is free of it, or why it ' +
        'cannot be used), and below a namespace what somebody who is about to copy should know: partitions, who mounts ' +
        'or holds it, multipath, fabrics. It only looks: nothing is opened.',
      'Model and serial number are those that the drive reports. Partition tables, filesystems and labels are those that ' +
        'udev wrote down when it last looked at the disk; without its records they are not shown. Since when a filesystem ' +
        'has been in use stands on the disk itself, which `p2pdma copy --dry-run` reads.',
    ],
    environment: LOOKS,
    examples: [
      ['This machine.', 'p2pdma list'],
      ['An emulated one, for a program.', 'p2pdma list --machine four-drives --json'],
      ['Another machine, by what was captured of it.', 'p2pdma list --root ./captured'],
    ],
  });
  withKernel(withSent(withMachine(command))).action(async (options: MachineOptions) => {
    const system = await inspectMachine(options);
    try {
      const disks = system.disks();
      const diskOf = (name: string) => disks.find((disk) => disk.name === name) ?? null;
      const controllers = system.controllers.map((controller) => describe(system, controller, diskOf));
      const overSeveral = system.stacked().map((device) => describeStacked(device, diskOf));
      const otherProviders = otherMemory(system);
      const view = { colour: colours(process.stdout), width: columns(process.stdout) };
      const text = options.json
        ? ownJson({ controllers, overSeveral, otherProviders })
        : [
            ...draw(controllers, view),
            ...drawStacked(overSeveral, view),
            ...drawOthers(otherProviders, view),
          ].join('\n');
      tell(text);
    } finally {
      await system.close();
    }
  });
}

interface Namespace {
  name: string;
  nsid: number;
  size: number;
  logicalBlockSize: number;
  /** It is a multipath head. */
  multipath: boolean;
  /** Why CMB memory cannot be given to it, or null. */
  noP2pReason: string | null;
  /** PCI addresses of the functions that do its DMA. */
  clients: string[];
  /** Of a zoned namespace: how it must be written. */
  zones: string | null;
  /** Who mounts or holds it or its partitions, or null. */
  inUse: string | null;
  partitions: Place['partitions'];
  /** What a person recognises it by; null: not known. */
  disk: Disk | null;
}

type Cmb = NonNullable<Controller['cmb']>;

interface Described {
  name: string;
  bdf: string | null;
  transport: string;
  model: string | null;
  namespaces: Namespace[];
  /** Null: it has none, or `cmbKnown` is false. */
  cmb: (Cmb & { available: number }) | null;
  /** False: the captured data does not show CMBs. */
  cmbKnown: boolean;
}

type DiskOf = (name: string) => Disk | null;

function describe(system: System, controller: Controller, diskOf: DiskOf): Described {
  const { name, pdev, transport, model, namespaces, cmb } = controller;
  return {
    name,
    bdf: pdev?.bdf ?? null,
    transport,
    model,
    namespaces: namespaces.map((ns) => {
      const place = system.locate(ns.name);
      return {
        name: ns.name,
        nsid: ns.nsid,
        size: ns.size,
        logicalBlockSize: ns.logicalBlockSize,
        multipath: place?.layers[0]?.kind === 'multipath-head',
        noP2pReason: place?.noP2pReason ?? null,
        clients: place?.clients.map((client) => client.bdf) ?? [],
        zones: place?.zones ?? null,
        inUse: place?.inUse ?? null,
        partitions: place?.partitions ?? [],
        disk: diskOf(ns.name),
      };
    }),
    cmb: cmb === null ? null : { ...cmb, available: pdev?.p2pmem?.available ?? 0 },
    cmbKnown: cmb !== null || pdev === null || system.topology.peerMemory !== 'unknown',
  };
}

/** A block device over several drives, without its place, of which only what matters for a copy is shown. */
interface OverSeveral extends Pick<Stacked, 'name' | 'kind' | 'level' | 'size' | 'controllers'> {
  /** Why CMB memory cannot be given to it, or null. */
  noP2pReason: string | null;
  inUse: string | null;
  partitions: Place['partitions'];
  /** Of a multipath head; null: it is no disk. */
  disk: Disk | null;
}

function describeStacked({ place, ...stacked }: Stacked, diskOf: DiskOf): OverSeveral {
  const { noP2pReason, inUse, partitions } = place;
  return { ...stacked, noP2pReason, inUse, partitions, disk: diskOf(stacked.name) };
}

function drawStacked(devices: readonly OverSeveral[], view: View): string[] {
  if (devices.length === 0) return [];
  const rows = devices.map((device) => {
    const { name, kind, level, size, controllers, noP2pReason } = device;
    const what = kind === 'md' ? `md ${level ?? ''}`.trim() : 'multipath head';
    const reason =
      noP2pReason === null ? [] : [`${view.colour.yellow('no peer-to-peer:')} ${printable(noP2pReason)}`];
    return {
      cells: [printable(name), what, size === null ? '?' : bytes(size), printable(controllers.join(', '))],
      remarks: [...reason, ...uses(device)],
    };
  });
  return ['', ...remarkedTable(['device', 'what it is', 'size', 'over'], rows, view)];
}

interface OtherProvider {
  bdf: string;
  /** The kind of function, from its PCI class: `'GPU'`. */
  what: string;
  size: number;
  available: number;
  published: boolean;
}

/** Functions with peer memory that are not NVMe controllers. */
function otherMemory({ topology, controllers }: System): OtherProvider[] {
  const drives = new Set(controllers.map(({ pdev }) => pdev));
  return topology.functions.flatMap((dev) => {
    const { bdf, p2pmem, class: code } = dev;
    return p2pmem === null || drives.has(dev) ? [] : { bdf, what: classWords(code), ...p2pmem };
  });
}

function drawOthers(others: readonly OtherProvider[], { colour, width }: View): string[] {
  if (others.length === 0) return [];
  const lines = others.flatMap(({ bdf, what, size, available, published }) => {
    const use = published ? `${bytes(available)} free` : 'not published: only its own driver uses it';
    return wrap(`${bdf}  ${what}, ${bytes(size)}, ${use}`, width, '   ');
  });
  return ['', colour.dim('other functions with peer memory:'), ...lines];
}

function draw(controllers: readonly Described[], view: View): string[] {
  if (controllers.length === 0) {
    return wrap(
      'no NVMe controllers (`p2pdma doctor` says more; --machine switch shows an emulated one)',
      view.width,
    );
  }
  const rows = controllers.flatMap((controller) => rowsOf(controller, view.colour));
  return remarkedTable(['controller', 'address', 'namespace', 'size', 'block', 'CMB'], rows, view);
}

/** One row per namespace; the columns of the controller are filled in the first row only. */
function rowsOf(controller: Described, colour: Colours): RemarkedRow[] {
  const { cmb } = controller;
  const namespaces = controller.namespaces.length > 0 ? controller.namespaces : [null];
  return namespaces.map((ns, i) => {
    const [name, address, memory] = i === 0 ? controllerCells(controller) : ['', '', ''];
    const unusable = i === 0 && cmb !== null && !cmb.published ? [unpublished(cmb.unusable, colour)] : [];
    return {
      cells: [name, address, ...namespaceCells(ns), memory],
      remarks: [...unusable, ...(ns === null ? [] : remarks(controller, ns, colour))],
    };
  });
}

function controllerCells(controller: Described): readonly [name: string, address: string, cmb: string] {
  const { name, bdf, transport } = controller;
  return [printable(name), bdf ?? `(${printable(transport)})`, cmbText(controller)];
}

function namespaceCells(ns: Namespace | null): string[] {
  return ns === null ? ['-', '-', '-'] : [printable(ns.name), bytes(ns.size), String(ns.logicalBlockSize)];
}

function cmbText({ cmb, cmbKnown, bdf }: Described): string {
  if (!cmbKnown) return 'not known';
  if (cmb === null) return bdf === null ? '-' : 'none';
  return cmb.published
    ? `${bytes(cmb.size)}, ${bytes(cmb.available)} free`
    : `${bytes(cmb.size)}, not published`;
}

function unpublished(reason: Cmb['unusable'], colour: Colours): string {
  return `${colour.yellow('CMB not published:')} ${printable(reason?.text ?? 'no reason known')}`;
}

/** What a user should know before copying. */
function remarks({ bdf, transport }: Described, ns: Namespace, colour: Colours): string[] {
  const said: string[] = [];
  if (bdf === null && ns.noP2pReason === null && ns.clients.length > 0) {
    said.push(`over ${printable(transport)}: ${ns.clients.join(', ')} does its DMA`);
  } else if (bdf === null) {
    said.push(
      `${colour.yellow(`over ${printable(transport)}:`)} no PCI function here does its DMA, host memory only`,
    );
  } else if (ns.noP2pReason !== null && !ns.multipath) {
    said.push(`${colour.yellow('no peer-to-peer:')} ${printable(ns.noP2pReason)}`);
  }
  if (ns.zones !== null) said.push(`${colour.yellow('zoned:')} ${printable(ns.zones)}`);
  // What is said of a multipath head stands below, once: each of its paths has a row here.
  return ns.multipath ? said : [...said, ...uses(ns)];
}

/** What a person recognises a device by, and who mounts or holds it and its partitions. */
function uses({ inUse, partitions, disk }: Pick<Namespace, 'inUse' | 'partitions' | 'disk'>): string[] {
  const said = disk === null ? [] : portrait(disk);
  for (const { name, size, inUse: by } of partitions) {
    const record = disk?.partitions.find((part) => part.name === name)?.record ?? null;
    const facts = [
      `${printable(name)} ${bytes(size)}`,
      recordText(record),
      by === null ? null : printable(by),
    ];
    said.push(facts.filter((fact) => fact !== null).join(', '));
  }
  const held = partitions.some((part) => part.inUse !== null);
  if (inUse !== null && !held) said.push(printable(inUse));
  return said;
}

/** Its size has a column of its own. */
function portrait({ model, serial, ids, record }: Disk): string[] {
  const content = recordText(record);
  const names = idsText(ids);
  return [
    `${diskText({ model, serial, size: null })}${content === null ? '' : `, ${content}`}`,
    ...(names === null ? [] : [`by-id ${names}`]),
  ];
}

/** What udev found: `gpt`, `ext4 'home'`; null: nothing, or it has no record. */
function recordText(record: Disk['record']): string | null {
  if (record === null) return null;
  const { table, type, label, partitionLabel } = record;
  const quoted = (text: string | null) => (text === null ? [] : [`'${printable(text)}'`]);
  const words = [
    ...(partitionLabel === null ? [] : [`named ${quoted(partitionLabel).join('')}`]),
    ...(table === null ? [] : [`${printable(table)} partition table`]),
    ...(type === null ? [] : [[printable(type), ...quoted(label)].join(' ')]),
  ];
  return words.length === 0 ? null : words.join(', ');
}
