/** The pictures that the tests of `topo` look at: one per preset, and machines that are designed to be hard to draw. */

import { findRoute } from '../../lib/cli/topo/route.js';
import { drawSvg } from '../../lib/cli/topo/svg.js';
import { openSystem, type PciDev, type System } from '../../lib/index.js';
import { modelOf } from '../../lib/page/tree.js';
import { MiB, type TestBridge, TestMachine, ZEN } from './pci-fixture.js';

/** As in docs/presets: the route of a copy from the first drive to all other drives. */
export async function presetPicture(name: string): Promise<string> {
  const system = await openSystem({ machine: name });
  try {
    const names = system.controllers.flatMap((controller) => controller.namespaces[0]?.name ?? []);
    return drawSvg(modelOf(system, { name, route: findRoute(system, names), all: false }));
  } finally {
    await system.close();
  }
}

/** A System of which only the topology exists. */
export function systemOf(machine: TestMachine, controllers: readonly object[] = []): System {
  return {
    backend: 'native',
    machine: null,
    notice: null,
    topology: machine,
    controllers,
    stacked: () => [],
  } as unknown as System;
}

export function controllerOf(pdev: PciDev, name: string, namespaces: readonly string[] = [`${name}n1`]) {
  return {
    name,
    pdev,
    transport: 'pcie',
    model: null,
    cmb: null,
    namespaces: namespaces.map((ns, i) => ({ name: ns, nsid: i + 1, size: 2 ** 40, logicalBlockSize: 4096 })),
  };
}

const CMB = { size: 64 * MiB, available: 64 * MiB, published: true };

/** Two sockets, three switches (one below another), 25 drives: 58 functions. */
export function bigServer() {
  const machine = new TestMachine();
  const controllers: ReturnType<typeof controllerOf>[] = [];
  let bus = 1;
  const bdf = (b: number, device = 0) =>
    `0000:${b.toString(16).padStart(2, '0')}:${device.toString(16).padStart(2, '0')}.0`;
  const switchBelow = (above: PciDev, ports: number, nested: boolean) => {
    const up = machine.add(above, { bdf: bdf(bus++), type: 'upstream-port' });
    const level = bus++;
    for (let i = 0; i < ports; i++) {
      const acs = i % 3 === 0 ? 0x1d : i % 3 === 1 ? 'unknown' : 'none';
      const down = machine.add(up, { bdf: bdf(level, i), type: 'downstream-port', acs });
      if (nested && i === 1) {
        switchBelow(down, 4, false);
        continue;
      }
      const n = controllers.length;
      const p2pmem = n % 2 === 0 ? CMB : n % 3 === 0 ? { ...CMB, published: false } : null;
      const drive = machine.add(down, { bdf: bdf(bus++), p2pmem });
      const spaces = Array.from({ length: (n % 6) + 1 }, (_, k) => `nvme${n}n${k + 1}`);
      controllers.push(controllerOf(drive, `nvme${n}`, spaces));
    }
  };
  for (const domain of [0, 0x80]) {
    const bridge = machine.bridge(0, domain);
    bus = Math.max(bus, domain + 1);
    machine.add(bridge, {
      bdf: bdf(domain),
      type: 'conventional',
      vendor: 0x8086,
      device: domain === 0 ? 0x2020 : 0x3c00,
    });
    const port = machine.add(bridge, { bdf: bdf(domain, 1), type: 'root-port', acs: 0x1d });
    switchBelow(port, domain === 0 ? 12 : 8, domain === 0);
    const straight = machine.add(bridge, { bdf: bdf(domain, 2), type: 'root-port' });
    controllers.push(controllerOf(machine.add(straight, { bdf: bdf(bus++) }), `nvme${controllers.length}`));
  }
  return systemOf(machine, controllers);
}

/** Switches of 16 ports below root ports of one host bridge, one drive on each port. */
export function manyDrives(count: number): System {
  const machine = new TestMachine();
  const bridge = machine.bridge(0);
  const controllers: ReturnType<typeof controllerOf>[] = [];
  let bus = 1;
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  machine.add(bridge, { bdf: '0000:00:00.0', type: 'conventional', vendor: 0x8086, device: 0x2020 });
  for (let n = 0; n < count; ) {
    const root = machine.add(bridge, { bdf: `0000:00:${hex(1 + Math.floor(n / 16))}.0`, type: 'root-port' });
    const up = machine.add(root, { bdf: `0000:${hex(bus++)}:00.0`, type: 'upstream-port' });
    const level = bus++;
    for (let i = 0; i < 16 && n < count; i++, n++) {
      const port = { bdf: `0000:${hex(level)}:${hex(i)}.0`, type: 'downstream-port', acs: 0x1d } as const;
      const drive = machine.add(machine.add(up, port), { bdf: `0000:${hex(bus++)}:00.0`, p2pmem: CMB });
      controllers.push(controllerOf(drive, `nvme${n}`));
    }
  }
  return systemOf(machine, controllers);
}

export const NASTY = [
  '<script>alert("&\'")</script>',
  '\u001b[31mred\u0007\u0000\u009b',
  '\u202egnirts desrever',
  '驱动器驱动器驱动器驱动器驱动器驱动器',
  '\ud800 lone \uffff',
  `${'W'.repeat(300)}`,
  '💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾💾',
  ']]>--><!--',
];

/** Names that no kernel would use. */
export function nastyNames(): System {
  const machine = new TestMachine(ZEN);
  const bridge: TestBridge = machine.bridge(0x10000, 0xff);
  const controllers = NASTY.map((name, i) => {
    const port = machine.add(bridge, { bdf: `10000:ff:0${i}.0`, type: 'root-port' });
    return controllerOf(machine.add(port, { bdf: `10000:0${i}:00.0`, p2pmem: CMB }), name, [name, name]);
  });
  return systemOf(machine, controllers);
}
