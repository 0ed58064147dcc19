import type { Command } from 'commander';
import * as z from '../../base/zod.js';
import { hostBridgeVerdict, type System } from '../../index.js';
import { modelOf } from '../../page/tree.js';
import { bridgeId, type RouteView } from '../../page/way.js';
import { resolving } from '../errors.js';
import { colours, columns, uncoloured } from '../format.js';
import { LOOKS, type Manual, manual } from '../help.js';
import { flag, type OptionsOf, oneOf, row, withOptions } from '../option-table.js';
import {
  inspectMachine,
  type MachineOptions,
  machineName,
  withKernel,
  withMachine,
  withSent,
} from '../options.js';
import { ownJson, tell } from '../whose.js';
import { drawDot } from './dot.js';
import { findRoute } from './route.js';
import { drawSvg } from './svg.js';
import { drawText } from './text.js';

const DRAWN = {
  route: row(z.optional(z.array(z.string())), {
    takes: '<names...>',
    text: 'highlight the way between these, coloured by what it is',
    offers: ['functions', 'namespaces', 'files'],
  }),
  all: row(flag, { text: 'also every function that leads to no drive' }),
  format: row(oneOf(['text', 'svg', 'html', 'dot', 'json']), {
    takes: '<format>',
    text: 'text (the default), svg, html (a page to ask in: one file that fetches nothing), dot or json',
    conflicts: 'json',
  }),
};

interface TopoOptions extends MachineOptions, OptionsOf<typeof DRAWN> {}

const MANUAL: Manual = {
  about: [
    'Draws the PCI tree down to the NVMe drives: host bridges with the kernel’s opinion of them, ports, switches, CMBs, ' +
      'where ACS sends peer traffic up. --route draws the way between drives into it, coloured (and dashed) by what it is: ' +
      'on the bus, through the host bridge, through host memory, refused.',
  ],
  sections: [
    [
      'Routes',
      [
        ['nvme0 nvme1', 'a provider and its clients (controllers or addresses): the kernel’s verdict'],
        ['nvme0n1 nvme1n1', 'a source and its destinations (namespaces or files): a copy’s way'],
      ],
    ],
  ],
  environment: LOOKS,
  examples: [
    ['The tree.', 'p2pdma topo'],
    ['The way of a copy.', 'p2pdma topo --route nvme0n1 nvme1n1'],
    [
      'A picture for a page, light and dark.',
      'p2pdma topo --machine acs --route nvme0 nvme1 --format svg > acs.svg',
    ],
    ['A page that somebody else can ask in.', 'p2pdma topo --machine acs --format html > acs.html'],
    ['With graphviz.', 'p2pdma topo --format dot | dot -Tpng > tree.png'],
  ],
};

export function addTopo(command: Command): void {
  manual(command, MANUAL);
  withOptions(command, 'What is drawn:', DRAWN);
  withKernel(withSent(withMachine(command))).action(async (options: TopoOptions) => {
    const text = !options.json && options.format === 'text';
    const system = await inspectMachine(options, text ? 'text' : 'data');
    try {
      tell(await draw(system, options));
    } finally {
      await system.close();
    }
  });
}

async function draw(system: System, options: TopoOptions): Promise<string> {
  const names = options.route;
  const route = names === undefined ? null : await resolving(() => findRoute(system, names));
  const format = options.json ? 'json' : options.format;
  if (format === 'json') return ownJson(asJson(system, route));
  const name = machineName(system, options);
  const model = modelOf(system, { name, route, all: options.all ?? false });
  if (format === 'html') {
    const [{ pageOf }, { gatherFacts }] = await Promise.all([
      import('../page/html.js'),
      import('../page/gather.js'),
    ]);
    const asked = { provider: route?.provider ?? null, clients: route?.clients ?? [] };
    return pageOf({
      title: `PCI topology of ${name}`,
      facts: await gatherFacts(system, options, { name, asked }),
      text: drawText(model, uncoloured),
    });
  }
  if (format === 'svg') return drawSvg(model);
  if (format === 'dot') return drawDot(model);
  return drawText(model, colours(process.stdout), columns(process.stdout));
}

function asJson(system: System, route: RouteView | null): object {
  const { topology } = system;
  return {
    cpu: topology.cpu,
    kernel: topology.kernel?.text ?? null,
    iommu: topology.iommu,
    hostBridges: topology.hostBridges.map((bridge) => {
      const { passes, rule, why, device } = hostBridgeVerdict(topology, bridge);
      const { domain, bus } = bridge;
      return { name: bridgeId(bridge), domain, bus, passes, rule, why, device: device?.bdf ?? null };
    }),
    functions: topology.functions.map((dev) => ({
      bdf: dev.bdf,
      portType: dev.portType,
      upstream: dev.upstream?.bdf ?? null,
      hostBridge: { domain: dev.hostBridge.domain, bus: dev.hostBridge.bus },
      vendor: dev.vendor,
      device: dev.device,
      class: dev.class,
      acs: dev.acs,
      numaNode: dev.numaNode,
      iommuGroup: dev.iommuGroup,
      p2pmem: dev.p2pmem,
    })),
    overSeveral: system.stacked().map(({ place: _, ...device }) => device),
    route:
      route === null
        ? null
        : {
            ...route,
            roles: Object.fromEntries(route.roles),
            nodes: Object.fromEntries(route.nodes),
            links: Object.fromEntries(route.links),
          },
  };
}
