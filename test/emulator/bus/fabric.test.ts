import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import t from 'tap';
import type { PciDev } from '../../../lib/backend/topology.js';
import { TRACE_CHANNEL, type TraceEvent } from '../../../lib/base/trace.js';
import { DeviceMemory } from '../../../lib/emulator/bus/device-memory.js';
import { buildFabric, type DmaWindow, type Fabric, PciFault } from '../../../lib/emulator/bus/fabric.js';
import { type MachineInput, parseMachine } from '../../../lib/machine/machine.js';
import { PRESET_NAMES, type PresetName } from '../../../lib/machine/preset-names.js';
import { presets } from '../../../lib/machine/presets.js';

/** A fabric as controllers leave it: the CMBs answer. */
function boot(machine: Parameters<typeof parseMachine>[0]): Fabric {
  const parsed = parseMachine(machine);
  const fabric = buildFabric(parsed);
  for (const fn of parsed.functions) {
    const cmb = fn.nvme?.cmb;
    if (cmb)
      fabric.registerBar(fabric.topology.find(fn.bdf)!, cmb.bar, new DeviceMemory(cmb.size), cmb.offset);
  }
  return fabric;
}
const preset = (name: PresetName, more: Partial<MachineInput> = {}) => boot({ ...presets[name], ...more });

function drives(fabric: Fabric): PciDev[] {
  return fabric.topology.functions.filter((f) => f.class === 0x010802);
}
const bus = (pdev: PciDev) => pdev.bars[2]!.busAddress;
const cpu = (pdev: PciDev) => pdev.bars[2]!.cpuAddress;

function reach(
  fabric: Fabric,
  from: PciDev,
  addr: number,
  length = 4096,
  direction: 'read' | 'write' = 'write',
) {
  const out: DmaWindow[] = [];
  fabric.resolve(from, addr, length, direction, out);
  return out;
}
/** The way it goes, or the kind of fault. */
function way(fabric: Fabric, from: PciDev, addr: number, direction: 'read' | 'write' = 'write'): string {
  try {
    return reach(fabric, from, addr, 4096, direction)[0]!.path;
  } catch (error) {
    if (error instanceof PciFault) return error.kind;
    throw error;
  }
}

t.test('every preset builds, and each drive reaches its own CMB and host memory', async (t) => {
  for (const name of PRESET_NAMES) {
    const fabric = preset(name);
    const { phys } = fabric.memory.allocPages(8192);
    t.ok(drives(fabric).length >= 2, name);
    for (const drive of drives(fabric)) {
      if (drive.bars[2]) t.equal(way(fabric, drive, bus(drive)), 'internal', name);
      if (fabric.iommu?.unattached === 'blocked') fabric.iommu.map(drive, 0x1000, phys, 0x1000, true);
      t.equal(way(fabric, drive, fabric.iommu?.unattached === 'blocked' ? 0x1000 : phys), 'hostDram', name);
    }
  }
});

t.test('which way a bus address goes, by preset', async (t) => {
  const rows: [PresetName, string][] = [
    ['switch', 'peerBus'],
    ['nested-switches', 'peerBus'],
    ['multi-function', 'peerBus'],
    ['root-ports', 'unsupported-request'],
    ['root-ports-listed', 'hostBridge'],
    ['zen', 'hostBridge'],
    ['acs', 'unsupported-request'],
    ['acs-listed', 'hostBridge'],
    ['iommu', 'iommu-fault'],
    ['iommu-switch', 'peerBus'],
    ['iommu-unsupported', 'peerBus'],
    ['bus-offset', 'peerBus'],
    ['cmb-read-only', 'peerBus'],
    ['small-cmb', 'peerBus'],
    ['four-drives', 'peerBus'],
  ];
  for (const [name, expected] of rows) {
    const fabric = preset(name);
    const [a, b] = drives(fabric);
    t.equal(way(fabric, b!, bus(a!), 'read'), expected, `${name}, read`);
    t.equal(way(fabric, b!, bus(a!), 'write'), expected, `${name}, write`);
  }
});

t.test('a CPU address on a bus whose addresses differ is a wrong mapping, and fails', async (t) => {
  const fabric = preset('bus-offset');
  const [a, b] = drives(fabric);
  t.not(bus(a!), cpu(a!));
  t.equal(way(fabric, b!, cpu(a!)), 'unsupported-request');
});

t.test(
  'through the host bridge it is the CPU address that arrives, and the bus address that fails',
  async (t) => {
    const fabric = preset('acs-listed', { hostBridges: [{ bus: 0, busOffset: 2 ** 40 }] });
    const [a, b] = drives(fabric);
    t.equal(way(fabric, b!, cpu(a!)), 'hostBridge');
    t.equal(way(fabric, b!, bus(a!)), 'unsupported-request');
  },
);

t.test('through an IOMMU and a host bridge', async (t) => {
  const fabric = preset('iommu');
  const [a, b] = drives(fabric);
  fabric.iommu!.map(b!, 0x100000, cpu(a!), 0x2000, false);
  t.equal(way(fabric, b!, 0x100000, 'read'), 'hostBridge');
  t.equal(way(fabric, b!, 0x100000, 'write'), 'iommu-fault', 'mapped for reading only');
  t.equal(way(fabric, a!, 0x100000, 'read'), 'iommu-fault', 'mapped for the other one');
});

t.test('a fault says who, where and which way, and leaves the list as it was', async (t) => {
  const fabric = preset('switch');
  const [a, b] = drives(fabric);
  const { phys } = fabric.memory.allocPages(4096);
  const out = reach(fabric, b!, phys);
  try {
    fabric.resolve(b!, phys, 8192, 'read', out);
    t.fail('reached memory that is not there');
  } catch (error) {
    const fault = error as PciFault;
    t.ok(fault instanceof PciFault);
    t.equal(fault.requester, b);
    t.equal(fault.address, phys + 4096);
    t.equal(fault.direction, 'read');
    t.match(fault.message, /0000:04:00\.0/);
  }
  t.equal(out.length, 1);
  fabric.memory.freePages(phys);
  t.equal(way(fabric, a!, phys), 'unsupported-request', 'freed');
  for (const bad of [-4096, Number.NaN, 2 ** 53, 0, 0xfee00000])
    t.equal(way(fabric, a!, bad), 'unsupported-request');
});

t.test('windows are the memory, in order, across extents and pages', async (t) => {
  const fabric = preset('switch');
  const [a, b] = drives(fabric);
  const memory = fabric.barMemory(a!, 2)!;
  const mapping = memory.mapBar(4096, 4096);
  const windows = reach(fabric, b!, bus(a!) + 2048, 8192);
  t.equal(
    windows.reduce((n, w) => n + w.bytes.length, 0),
    8192,
  );
  let value = 0;
  for (const { bytes } of windows) for (let i = 0; i < bytes.length; i++) bytes[i] = value++ % 251;
  t.equal(new Uint8Array(mapping.buffer)[0], 2048 % 251);
  const back = Buffer.concat(memory.view(2048, 8192));
  t.ok(back.every((v, i) => v === i % 251));
  const more = [...windows];
  fabric.resolve(b!, bus(a!), 16, 'read', more);
  t.equal(more.length, windows.length + 1, 'appends');
});

t.test('between the BARs below a bridge there is nothing, and no way past it', async (t) => {
  const fabric = preset('switch', { hostBridges: [{ bus: 0, peerRouting: true }] });
  const [a, b] = drives(fabric);
  const registers = a!.bars[0]!;
  const gap = registers.busAddress + registers.size;
  t.throws(() => reach(fabric, b!, gap), /in the window of 0000:02:00.0, but in no BAR below it/);
  t.throws(() => reach(fabric, a!, gap), /in the window of 0000:02:00.0, but in no BAR below it/);
});

t.test('registers are no memory', async (t) => {
  const fabric = preset('switch');
  const [a, b] = drives(fabric);
  t.equal(way(fabric, b!, a!.bars[0]!.busAddress), 'unsupported-request');
  t.throws(() => fabric.registerBar(a!, 4, new DeviceMemory(4096)), /no memory BAR 4/);
  t.throws(() => fabric.registerBar(a!, 2, new DeviceMemory(4096), 2 ** 24), /do not fit/);
});

t.test('either port of a crossing redirects; completions of reads by themselves', async (t) => {
  const acs = (client: number, provider: number, peerRouting = true) => {
    const machine = {
      ...presets.switch,
      hostBridges: [{ bus: 0, peerRouting }],
      functions: presets.switch.functions.map((f) =>
        f.bdf === '0000:02:00.0'
          ? { ...f, acs: provider }
          : f.bdf === '0000:02:01.0'
            ? { ...f, acs: client }
            : f,
      ),
    };
    const fabric = boot(machine);
    const [a, b] = drives(fabric);
    return [way(fabric, b!, bus(a!), 'read'), way(fabric, b!, bus(a!), 'write')];
  };
  t.strictSame(acs(0, 0), ['peerBus', 'peerBus']);
  t.strictSame(acs(4, 0), ['hostBridge', 'hostBridge']);
  t.strictSame(acs(0, 4), ['hostBridge', 'hostBridge']);
  t.strictSame(acs(0, 4, false), ['unsupported-request', 'unsupported-request']);
  t.strictSame(acs(0, 8), ['hostBridge', 'peerBus']);
  t.strictSame(acs(0, 8, false), ['unsupported-request', 'peerBus']);
  t.strictSame(acs(0x11, 0x11), ['peerBus', 'peerBus'], 'source validation and forwarding do not redirect');
});

t.test('a function of a multi-function device that redirects goes up', async (t) => {
  const functions = presets['multi-function'].functions.map((f) => (f.nvme ? { ...f, acs: 0x1d } : f));
  const unlisted = boot({ ...presets['multi-function'], functions });
  const [a, b] = drives(unlisted);
  t.equal(way(unlisted, a!, bus(b!)), 'unsupported-request');
  const listed = boot({ ...presets['multi-function'], functions, hostBridges: [{ bus: 0 }] });
  const [c, d] = drives(listed);
  t.equal(way(listed, c!, bus(d!)), 'hostBridge');
});

t.test('two host bridges: both must pass peers on', async (t) => {
  for (const [first, second, expected] of [
    [true, true, 'hostBridge'],
    [true, false, 'unsupported-request'],
    [false, true, 'unsupported-request'],
  ] as const) {
    const [host, , , ...rest] = presets['root-ports-listed'].functions;
    const fabric = boot({
      ...presets['root-ports-listed'],
      hostBridges: [
        { bus: 0, peerRouting: first },
        { domain: 1, bus: 0, peerRouting: second },
      ],
      functions: [
        host,
        presets['root-ports-listed'].functions[1],
        { ...presets['root-ports-listed'].functions[2]!, bdf: '0001:00:02.0' },
        rest[0],
        { ...rest[1]!, bdf: '0001:02:00.0', upstream: '0001:00:02.0' },
      ],
    });
    const [a, b] = drives(fabric);
    t.equal(b!.hostBridge.domain, 1);
    t.equal(way(fabric, a!, cpu(b!)), expected);
    t.equal(way(fabric, b!, cpu(a!)), expected);
  }
});

t.test('counts bytes by function, command and way', async (t) => {
  const fabric = preset('switch');
  const [a, b] = drives(fabric);
  fabric.account(a!, 1, 7, 'internal', 4096);
  fabric.account(a!, 1, 7, 'hostDram', 100);
  fabric.account(a!, 1, 8, 'peerBus', 1);
  fabric.account(b!, 1, 7, 'peerBus', 4096);
  const into = { internal: 1, peerBus: 0, hostBridge: 0, hostDram: 0 };
  fabric.take(a!, 1, 7, into);
  t.strictSame(into, { internal: 4097, peerBus: 0, hostBridge: 0, hostDram: 100 });
  fabric.take(a!, 1, 7, into);
  t.strictSame(into, { internal: 4097, peerBus: 0, hostBridge: 0, hostDram: 100 }, 'taken once');
  fabric.take(a!, 5, 5, into);
  t.strictSame(into, { internal: 4097, peerBus: 0, hostBridge: 0, hostDram: 100 }, 'no such command');
  fabric.take(a!, 1, 8, into);
  t.strictSame(into, { internal: 4097, peerBus: 1, hostBridge: 0, hostDram: 100 }, 'each command’s own');
  fabric.take(b!, 1, 7, into);
  t.strictSame(into, { internal: 4097, peerBus: 4097, hostBridge: 0, hostDram: 100 }, 'each function’s own');
});

t.test('drop-peer-writes: writes of others are acknowledged and lost', async (t) => {
  const fabric = preset('switch', { faults: [{ kind: 'drop-peer-writes', function: '03:00.0' }] });
  const [a, b] = drives(fabric);
  const write = (from: PciDev, value: number) => {
    for (const { bytes, path } of reach(fabric, from, bus(a!), 4096)) {
      bytes.fill(value);
      t.equal(path, from === a ? 'internal' : 'peerBus');
    }
  };
  write(a!, 1);
  write(b!, 2);
  t.equal(reach(fabric, b!, bus(a!), 4096, 'read')[0]!.bytes[0], 1, 'still what its owner wrote');
  fabric.dropPeerWrites(a!, { on: false });
  write(b!, 3);
  t.equal(reach(fabric, a!, bus(a!), 4096, 'read')[0]!.bytes[0], 3);
});

t.test('a removed function neither answers nor asks, and takes what is below it along', async (t) => {
  const fabric = preset('switch');
  const [a, b] = drives(fabric);
  fabric.remove(a!);
  t.equal(way(fabric, b!, bus(a!)), 'unsupported-request');
  t.equal(way(fabric, a!, bus(b!)), 'unsupported-request');
  t.ok(fabric.isPresent(b!));
  fabric.remove(fabric.topology.find('01:00.0')!);
  t.notOk(fabric.isPresent(b!));
});

t.test('captured peer memory answers without an NVMe controller', async (t) => {
  const fabric = boot({
    ...presets.switch,
    functions: [
      ...presets.switch.functions.slice(0, 6),
      {
        bdf: '04:00.0',
        type: 'endpoint',
        upstream: '02:01.0',
        vendor: 0x1000,
        device: 1,
        bars: [{ index: 4, size: '32MiB' }],
        p2pmem: { size: '16MiB', available: '8MiB', published: true },
      },
    ],
  });
  const gpu = fabric.topology.find('04:00.0')!;
  t.equal(way(fabric, drives(fabric)[0]!, gpu.bars[4]!.busAddress), 'peerBus');
  t.strictSame(gpu.p2pmem, { size: 2 ** 24, available: 2 ** 23, published: true });
});

t.test('the topology tells peer memory as described, until a kernel says better', async (t) => {
  const p2pmem = (name: PresetName) => drives(preset(name))[0]!.p2pmem;
  t.strictSame(p2pmem('switch'), { size: 2 ** 24, available: 2 ** 24, published: true });
  t.equal(p2pmem('no-cmb'), null);
  t.strictSame(p2pmem('small-cmb'), { size: 2 ** 20, available: 2 ** 20, published: true });
  t.equal(p2pmem('misaligned-cmb'), null);
  t.equal(p2pmem('cmb-read-only')?.published, false);
  const fabric = preset('switch');
  fabric.topology.p2pmem = () => ({ size: 1, available: 0, published: false });
  t.strictSame(drives(fabric)[0]!.p2pmem, { size: 1, available: 0, published: false });
  t.equal(fabric.topology.find('3:0.0'), null);
  t.equal(fabric.topology.find('0000:03:00.0'), drives(fabric)[0]);
  t.equal(fabric.topology.hostBridges[0]!.firstDevice?.bdf, '0000:00:00.0');
});

t.test('routes and faults can be traced', async (t) => {
  const fabric = preset('switch');
  const [a, b] = drives(fabric);
  const seen: TraceEvent[] = [];
  const listen = (event: unknown) => void seen.push(event as TraceEvent);
  subscribe(TRACE_CHANNEL, listen);
  way(fabric, b!, bus(a!), 'read');
  way(fabric, b!, 0x1000);
  unsubscribe(TRACE_CHANNEL, listen);
  t.match(seen, [
    { layer: 'fabric', event: 'route', requester: '0000:04:00.0', path: 'peerBus', target: '0000:03:00.0' },
    { layer: 'fabric', event: 'fault', kind: 'unsupported-request', address: 0x1000, direction: 'write' },
  ]);
});
