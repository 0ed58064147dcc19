/** The tree that every picture of a machine shows (`p2pdma topo`, the page): plain data, created once from a machine. */
import type { Controller } from '../backend/backend.js';
import { deviceId, rootBusName } from '../backend/names.js';
import type { HostBridge, PciDev, Topology } from '../backend/topology.js';
import { classWords } from '../base/pci-class.js';
import { size as bytes, hexNumber } from '../base/words.js';
import type { Stacked } from '../explain/stacked.js';
import { hostBridgeVerdict, pciBridgeHasAcsRedir } from '../kernel/pci-p2pdma-distance.js';
import { HOST_ID, type RouteKind, type RouteView } from './way.js';

/** The machine that is drawn; a System is one. */
export interface Seen {
  readonly topology: Topology;
  readonly controllers: readonly Controller[];
  readonly notice: string | null;
  /** See System. */
  stacked(): readonly Stacked[];
}

/** A property of a node that is shown as a mark. */
export interface Mark {
  readonly kind: 'acs' | 'acs-unknown' | 'cmb' | 'cmb-off' | 'passes' | 'passes-not' | 'passes-unknown';
  readonly text: string;
}

export interface TopoNode {
  readonly id: string;
  readonly kind: 'host' | 'host-bridge' | 'drive' | 'port' | 'function' | 'others';
  /** The title: `nvme0`, or an address. */
  readonly title: string;
  /** The address of a drive, or what the node is. */
  readonly subtitle: string;
  /** Vendor and device id by which the kernel recognises a host bridge; null: it is none, or has no such device. */
  readonly ids: string | null;
  readonly marks: readonly Mark[];
  /** Namespaces, one per line. */
  readonly lines: readonly string[];
  /** All that is known about the node. */
  readonly details: readonly string[];
  readonly dev: PciDev | null;
  readonly roles: readonly string[];
  /** Null: not on the route. */
  readonly route: RouteKind | null;
  /** The link from this node upwards. */
  readonly link: RouteKind | null;
  readonly children: readonly TopoNode[];
}

export interface TopoModel {
  readonly name: string;
  /** Shown at the top of every picture of an emulated machine. */
  readonly notice: string | null;
  /** The CPU; its children are the host bridges. */
  readonly host: TopoNode;
  readonly iommu: Topology['iommu'];
  readonly route: RouteView | null;
  /** The block devices over several drives: `'md0  raid1 1 GiB over nvme1, nvme2'`. */
  readonly overSeveral: readonly string[];
  readonly counts: { readonly functions: number; readonly drives: number; readonly cmbs: number };
}

export interface ModelOptions {
  readonly name: string;
  readonly route: RouteView | null;
  /** Also show functions that have nothing to do with any drive, even if there are many. */
  readonly all: boolean;
}

const PASSES = {
  everywhere: 'passes',
  'same-host-bridge': 'passes',
  no: 'passes-not',
  unknown: 'passes-unknown',
} as const;

/** Up to this many functions on one level that lead to no drive are shown individually. */
const FEW = 4;
const NAMESPACES_SHOWN = 4;

export function modelOf(system: Seen, options: ModelOptions): TopoModel {
  const { topology, controllers } = system;
  const build = new Builder(system, options);
  const { cpu, iommu } = topology;
  const family = cpu.family === null ? '' : `, family ${cpu.family}`;
  const host: TopoNode = {
    ...build.place(HOST_ID),
    kind: 'host',
    title: 'CPU and memory',
    subtitle: cpu.vendor === null ? 'unknown CPU' : `${cpu.vendor}${family}`,
    marks: [],
    lines: [`IOMMU: ${iommu}`, ...system.stacked().map(overSeveral)],
    details: [],
    dev: null,
    children: topology.hostBridges.map((bridge) => build.bridge(bridge)),
  };
  return {
    name: options.name,
    notice: system.notice,
    host,
    iommu,
    route: options.route,
    overSeveral: system.stacked().map(overSeveral),
    counts: {
      functions: topology.functions.length,
      drives: controllers.filter((c) => c.pdev !== null).length,
      cmbs: topology.functions.filter((f) => f.p2pmem !== null).length,
    },
  };
}

function overSeveral({ name, kind, level, size, controllers }: Stacked): string {
  const what = kind === 'md' ? `md ${level ?? ''}`.trim() : 'multipath head';
  const large = size === null ? '' : ` ${bytes(size)}`;
  return `${name}  ${what}${large} over ${controllers.join(', ')}`;
}

class Builder {
  readonly #system: Seen;
  readonly #options: ModelOptions;
  readonly #below = new Map<PciDev | HostBridge, PciDev[]>();
  readonly #controllers = new Map<string, Controller>();

  constructor(system: Seen, options: ModelOptions) {
    this.#system = system;
    this.#options = options;
    for (const controller of system.controllers) {
      if (controller.pdev !== null) this.#controllers.set(controller.pdev.bdf, controller);
    }
    for (const dev of system.topology.functions) {
      const above = dev.upstream ?? dev.hostBridge;
      const level = this.#below.get(above);
      if (level === undefined) this.#below.set(above, [dev]);
      else level.push(dev);
    }
  }

  place(id: string) {
    const { route } = this.#options;
    return {
      id,
      roles: route?.roles.get(id) ?? [],
      route: route?.nodes.get(id) ?? null,
      link: route?.links.get(id) ?? null,
      ids: null,
    };
  }

  bridge(bridge: HostBridge): TopoNode {
    const id = rootBusName(bridge);
    const { passes, rule, why, device } = hostBridgeVerdict(this.#system.topology, bridge);
    const text = {
      'cpu-zen': 'passes peers: AMD Zen',
      'host-bridge-listed':
        passes === 'everywhere' ? 'on the allow-list' : 'on the allow-list, for this bridge only',
      'cpu-unknown': 'unknown whether it passes peers: CPU not known',
      'host-bridge-list-unknown': 'not known whether it is on the allow-list',
      'host-bridge-not-listed': 'not on the allow-list',
      'host-bridge-unidentified': 'cannot be identified',
    }[rule];
    return {
      ...this.place(id),
      kind: 'host-bridge',
      title: id,
      subtitle: device === null ? 'host bridge' : `host bridge ${idsOf(device)}`,
      ids: device === null ? null : idsOf(device),
      marks: [{ kind: PASSES[passes], text }],
      lines: [],
      details: [why],
      dev: null,
      children: this.#level(this.#below.get(bridge) ?? [], id),
    };
  }

  #level(level: readonly PciDev[], above: string): TopoNode[] {
    const dull = this.#options.all ? [] : level.filter((dev) => this.#isDull(dev));
    if (dull.length <= FEW) return level.map((dev) => this.#node(dev));
    const count = dull.reduce((sum, dev) => sum + this.#size(dev), 0);
    return [
      ...level.filter((dev) => !dull.includes(dev)).map((dev) => this.#node(dev)),
      {
        ...this.place(`others below ${above}`),
        kind: 'others',
        title: `${count} other functions`,
        subtitle: 'lead to no drive',
        marks: [],
        lines: [],
        details: ['`p2pdma topo --all` shows them'],
        dev: null,
        children: [],
      },
    ];
  }

  /** Neither the function nor anything below it is a drive, provides peer memory, or is on the route. */
  #isDull(dev: PciDev): boolean {
    return (
      !this.#controllers.has(dev.bdf) &&
      dev.p2pmem === null &&
      this.place(dev.bdf).route === null &&
      (this.#below.get(dev) ?? []).every((child) => this.#isDull(child))
    );
  }

  #size(dev: PciDev): number {
    return (this.#below.get(dev) ?? []).reduce((sum, child) => sum + this.#size(child), 1);
  }

  #node(dev: PciDev): TopoNode {
    const controller = this.#controllers.get(dev.bdf);
    const children = this.#level(this.#below.get(dev) ?? [], dev.bdf);
    const isPort = ['root-port', 'upstream-port', 'downstream-port'].includes(dev.portType);
    return {
      ...this.place(dev.bdf),
      kind: controller !== undefined ? 'drive' : isPort || children.length > 0 ? 'port' : 'function',
      title: controller?.name ?? dev.bdf,
      subtitle:
        controller !== undefined ? dev.bdf : isPort ? dev.portType.replace('-', ' ') : classWords(dev.class),
      marks: [...acsMarks(dev), ...cmbMarks(dev, controller)],
      lines: namespaces(controller),
      details: details(dev, controller),
      dev,
      children,
    };
  }
}

function acsMarks(dev: PciDev): Mark[] {
  const redirects = pciBridgeHasAcsRedir(dev);
  if (redirects === null) return [{ kind: 'acs-unknown', text: 'ACS unknown' }];
  return redirects ? [{ kind: 'acs', text: 'ACS redirects' }] : [];
}

function cmbMarks({ p2pmem }: PciDev, controller: Controller | undefined): Mark[] {
  if (p2pmem?.published) {
    return [{ kind: 'cmb', text: `${controller === undefined ? 'p2pmem' : 'CMB'} ${bytes(p2pmem.size)}` }];
  }
  if (p2pmem !== null) {
    const what = controller === undefined ? 'p2pmem' : 'CMB';
    return [{ kind: 'cmb-off', text: `${what} ${bytes(p2pmem.size)}, not published` }];
  }
  if (controller?.cmb == null) return [];
  return [{ kind: 'cmb-off', text: `CMB ${bytes(controller.cmb.size)}, unusable` }];
}

function namespaces(controller: Controller | undefined): string[] {
  const all = (controller?.namespaces ?? []).map((ns) => `${ns.name} ${bytes(ns.size)}`);
  if (all.length <= NAMESPACES_SHOWN) return all;
  return [...all.slice(0, NAMESPACES_SHOWN - 1), `and ${all.length - NAMESPACES_SHOWN + 1} more`];
}

function details(dev: PciDev, controller: Controller | undefined): string[] {
  const { acs, numaNode, iommuGroup, p2pmem } = dev;
  return [
    `${dev.bdf} ${idsOf(dev)} ${dev.portType}, ${classWords(dev.class)}`,
    typeof acs === 'number' ? `ACS control ${hexNumber(acs)}` : `ACS: ${acs}`,
    ...(numaNode === null ? [] : [`NUMA node ${numaNode}`]),
    ...(iommuGroup === null ? [] : [`IOMMU group ${iommuGroup}`]),
    ...(controller?.model == null ? [] : [controller.model]),
    ...(p2pmem === null ? [] : [`p2pmem: ${bytes(p2pmem.available)} of ${bytes(p2pmem.size)} free`]),
    ...(controller?.cmb?.unusable == null ? [] : [controller.cmb.unusable.text]),
  ];
}

function idsOf(dev: PciDev): string {
  return dev.vendor === 0xffff ? 'IDs unknown' : deviceId(dev);
}
