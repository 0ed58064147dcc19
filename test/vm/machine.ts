import path from 'node:path';
import { MEMREMAP_COMPAT_ALIGN } from '../../lib/backend/hardware.js';
import { PCI_ACS_CR, PCI_ACS_EC, PCI_ACS_RR } from '../../lib/backend/topology.js';
import type { Machine, MachineFunction } from '../../lib/machine/machine.js';

/**
 * A machine description as QEMU 7.2 arguments, so that what the emulator runs can be booted with a real
 * kernel.
 *
 *   functions on a root bus   pcie-root-port (or a drive itself) on pcie.0, at the description's slot
 *   host bridge, bus > 0      pxb-pcie: a root bus of its own
 *   switches                  x3130-upstream, xio3130-downstream, as deep as described
 *   drives                    nvme + one nvme-ns per namespace, each a sparse raw file
 *   subsystems                nvme-subsys; the first of its controllers brings the namespaces, shared by all
 *   iommu: translating        intel-iommu, and intel_iommu=on for the kernel
 *
 * Bus numbers are the firmware's, not the description's: `guestBdf` says which is which.
 */
export interface QemuMachine {
  readonly args: string[];
  /** For the kernel's command line. */
  readonly kernelArgs: string[];
  /** The description's BDF → the guest's. */
  readonly guestBdf: ReadonlyMap<string, string>;
  /** Sparse files to create before the boot. */
  readonly images: readonly { readonly file: string; readonly size: number }[];
  readonly drives: readonly QemuDrive[];
  /** ACS Control registers that the guest sets before the first transfer. */
  readonly acs: readonly { readonly bdf: string; readonly guestBdf: string; readonly control: number }[];
  /** Where the booted machine cannot be what is described; each in one sentence. */
  readonly differences: readonly string[];
}

export interface QemuDrive {
  /** `'nvme0'`: the description's name; the guest's own may differ. */
  readonly name: string;
  readonly bdf: string;
  readonly guestBdf: string;
  readonly serial: string;
  readonly cmbSize: number;
  /** QEMU's name of each namespace's block device, which its trace prints. */
  readonly namespaces: readonly {
    readonly nsid: number;
    readonly blk: string;
    readonly size: number;
    readonly blockSize: number;
  }[];
}

/** Why QEMU cannot be this machine, or null. */
export function whyNotBootable(machine: Machine): string | null {
  for (const { domain, bus } of machine.hostBridges) {
    if (domain !== 0) return `host bridge ${domain.toString(16)}:${hex(bus)}: QEMU’s q35 has one domain`;
  }
  if (machine.iommu === 'unsupported') return 'no IOMMU of q35 has map operations without P2PDMA support';
  for (const f of machine.functions) {
    if (f.type === 'pcie-to-pci-bridge' || f.type === 'conventional') {
      if (!isHostBridge(f)) return `${f.bdf}: conventional PCI below a bridge is not translated`;
    }
    if (f.type === 'downstream-port' || f.type === 'upstream-port') {
      if (typeof f.acs === 'number' && (f.acs & ACS_REDIRECTS) !== 0) {
        return `${f.bdf}: QEMU’s switch ports have no ACS capability, so they cannot redirect`;
      }
    }
    const cmb = f.nvme?.cmb ?? null;
    if (cmb === null) continue;
    if (cmb.size < MIB || !Number.isInteger(Math.log2(cmb.size))) {
      return `${f.bdf}: QEMU’s CMB is a whole BAR, of a power of two of MiB, not ${cmb.size} bytes`;
    }
    if (cmb.bar !== 2 || cmb.offset !== 0) return `${f.bdf}: QEMU’s CMB fills BAR 2`;
    if (!(cmb.sqs && cmb.lists && cmb.rds && cmb.wds)) {
      return `${f.bdf}: QEMU’s CMB always takes submission queues, lists, and data both ways`;
    }
  }
  return null;
}

const MIB = 2 ** 20;
const ACS_REDIRECTS = PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC;
/** Slots of pcie.0 that are taken: 00.0 is the host bridge, 1f.x the chipset, and ours for 9p and pxb. */
const FIRST_OWN_SLOT = 0x18;

/** Of a namespace that the kernel gives size 0, a description does not say how large it is: any size does. */
const SIZE_OF_EMPTY = 64 * MIB;

/** The QEMU arguments alone. */
export function machineToQemu(machine: Machine, folder = '.'): string[] {
  return qemuMachine(machine, folder).args;
}

/** Options of each `nvme`, for what descriptions have no words for. */
export type DriveOptions = Readonly<Record<string, string | number>>;

export function qemuMachine(machine: Machine, folder: string, more: DriveOptions = {}): QemuMachine {
  const reason = whyNotBootable(machine);
  if (reason !== null) throw new Error(`machine ${machine.name} cannot be booted: ${reason}`);
  const args: string[] = [];
  const kernelArgs: string[] = [];
  const differences: string[] = [];
  const images: { file: string; size: number }[] = [];
  const acs: { bdf: string; guestBdf: string; control: number }[] = [];
  const guestBdf = numberBuses(machine);
  const device = (driver: string, options: Record<string, string | number>) => {
    const list = Object.entries(options).map(([key, value]) => `${key}=${value}`);
    args.push('-device', [driver, ...list].join(','));
  };

  for (const { bdf, nvme } of machine.functions) {
    const aligned = (align: number) => (nvme?.cmb ?? null) === null || nvme!.cmb!.size % align === 0;
    if (aligned(machine.memremapAlign) && !aligned(MEMREMAP_COMPAT_ALIGN)) {
      differences.push(`${bdf}: an x86 kernel registers memory by 2 MiB, and skips this CMB`);
    }
  }

  args.push('-cpu', cpuOf(machine, differences));
  if (machine.iommu === 'translating') {
    device('intel-iommu', { intremap: 'on' });
    kernelArgs.push('intel_iommu=on');
  }

  let pxbSlot = FIRST_OWN_SLOT;
  for (const { bus, busOffset } of machine.hostBridges) {
    if (busOffset !== 0) differences.push(`host bridge ${hex(bus)}: QEMU’s bus addresses are CPU addresses`);
    if (bus !== 0)
      device('pxb-pcie', { id: busId(bus), bus_nr: bus, bus: 'pcie.0', addr: `0x${hex(pxbSlot++)}` });
  }

  for (const { name } of machine.subsystems) device('nvme-subsys', { id: name, nqn: name });

  const multi = new Set(
    machine.functions.filter((f) => !f.bdf.endsWith('.0')).map((f) => f.bdf.slice(0, -2)),
  );
  const drives: QemuDrive[] = [];
  let chassis = 1;
  for (const f of parentsFirst(machine)) {
    if (isHostBridge(f)) {
      if (f.vendor !== 0x8086 || f.device !== 0x29c0) {
        differences.push(
          `${f.bdf}: the host bridge is 8086:29c0 here, which is not on the kernel’s host bridge allow-list`,
        );
      }
      continue;
    }
    const place = {
      id: deviceId(f.bdf),
      bus: f.upstream === null ? busId(busOf(f.bdf)) : deviceId(f.upstream),
      addr: `0x${f.bdf.slice(8)}`,
      ...(multi.has(f.bdf.slice(0, -2)) ? { multifunction: 'on' } : {}),
    };
    const acsWanted = typeof f.acs === 'number';
    if (f.type === 'root-port') {
      device('pcie-root-port', {
        ...place,
        chassis,
        slot: chassis++,
        'disable-acs': acsWanted ? 'off' : 'on',
      });
    } else if (f.type === 'upstream-port') {
      device('x3130-upstream', place);
    } else if (f.type === 'downstream-port') {
      device('xio3130-downstream', { ...place, chassis, slot: chassis++ });
    } else if (f.nvme !== null) {
      drives.push(addDrive(f, place, guestBdf.get(f.bdf)!));
    } else {
      differences.push(`${f.bdf}: an endpoint that is not an NVMe drive is left out`);
    }
    if (typeof f.acs === 'number') acs.push({ bdf: f.bdf, guestBdf: guestBdf.get(f.bdf)!, control: f.acs });
  }

  function addDrive(f: MachineFunction, place: Record<string, string>, guest: string): QemuDrive {
    const nvme = f.nvme!;
    const subsystem = machine.subsystems.find(({ controllers }) => controllers.includes(nvme.name));
    const owner = subsystem?.controllers[0] ?? nvme.name;
    // Of a subsystem there is one serial number: its first controller's.
    const described = machine.functions.find((one) => one.nvme?.name === owner)!.nvme!.serial;
    const serial = described === '' ? `p2pdma-${owner}` : described;
    const options: Record<string, string | number> = {
      ...place,
      serial,
      mdts: Math.floor(Math.log2(nvme.mdts / 4096)),
      ...(subsystem === undefined ? {} : { subsys: subsystem.name }),
      ...more,
    };
    if (nvme.cmb !== null) options.cmb_size_mb = nvme.cmb.size / MIB;
    device('nvme', options);
    const brought = owner === nvme.name ? nvme.namespaces : [];
    const namespaces = brought.map((ns) => {
      const { nsid, blockSize, extendedLba, readOnly, zoned } = ns;
      const size = extendedLba === null ? ns.size : SIZE_OF_EMPTY;
      const metadata = extendedLba === null ? ns.metadata : (extendedLba.metadata ?? 8);
      const blk = `${nvme.name}n${nsid}`;
      const file = path.join(folder, `${blk}.raw`);
      // QEMU keeps metadata behind the blocks.
      images.push({ file, size: size + (size / blockSize) * metadata });
      const drive = [`id=${blk}`, 'if=none', 'format=raw', `file=${file}`, 'cache=unsafe', 'discard=unmap'];
      if (readOnly) drive.push('readonly=on');
      args.push('-drive', drive.join(','));
      device('nvme-ns', {
        drive: blk,
        bus: place.id!,
        nsid,
        logical_block_size: blockSize,
        physical_block_size: blockSize,
        // Beside the blocks they are protection information; within the blocks they are anything.
        ...(metadata > 0 ? { ms: metadata, ...(extendedLba === null ? { pi: 1 } : { mset: 1 }) } : {}),
        ...(zoned === null ? {} : zones(zoned.zoneSize)),
        shared: subsystem === undefined ? 'off' : 'on',
      });
      return { nsid, blk, size, blockSize };
    });
    return { name: nvme.name, bdf: f.bdf, guestBdf: guest, serial, cmbSize: nvme.cmb?.size ?? 0, namespaces };
  }

  return { args, kernelArgs, guestBdf, images, drives, acs, differences };
}

/** All of a zone can be written. */
function zones(size: number): Record<string, string | number> {
  return { zoned: 'on', 'zoned.zone_size': size, 'zoned.zone_capacity': size };
}

function hex(n: number): string {
  return n.toString(16).padStart(2, '0');
}

function busOf(bdf: string): number {
  return Number.parseInt(bdf.slice(5, 7), 16);
}

function busId(bus: number): string {
  return bus === 0 ? 'pcie.0' : `root${hex(bus)}`;
}

function deviceId(bdf: string): string {
  return `f${bdf.slice(5).replace(/[:.]/g, '_')}`;
}

/** A root complex's own function 00.0 on a root bus, which QEMU has by itself. */
function isHostBridge(f: MachineFunction): boolean {
  return f.upstream === null && f.class >>> 8 === 0x0600;
}

function parentsFirst(machine: Machine): MachineFunction[] {
  const ordered: MachineFunction[] = [];
  const visit = (upstream: string | null) => {
    for (const f of machine.functions) {
      if (f.upstream !== upstream) continue;
      ordered.push(f);
      visit(f.bdf);
    }
  };
  visit(null);
  return ordered;
}

/** Bus numbers as the firmware gives them: depth first, in order of device and function. */
function numberBuses(machine: Machine): Map<string, string> {
  const guest = new Map<string, string>();
  let last = 0;
  const walk = (functions: readonly MachineFunction[], bus: number) => {
    for (const f of functions) guest.set(f.bdf, `0000:${hex(bus)}:${f.bdf.slice(8)}`);
    for (const f of functions) {
      if (f.type !== 'root-port' && f.type !== 'upstream-port' && f.type !== 'downstream-port') continue;
      last++;
      walk(
        machine.functions.filter((child) => child.upstream === f.bdf),
        last,
      );
    }
  };
  const roots = machine.hostBridges.map(({ bus }) => bus).sort((a, b) => a - b);
  for (const bus of roots) {
    last = Math.max(last, bus);
    walk(
      machine.functions.filter((f) => f.upstream === null && busOf(f.bdf) === bus),
      bus,
    );
  }
  return guest;
}

/** The kernel allows any host bridge on Zen and newer, so vendor and family matter. */
function cpuOf(machine: Machine, differences: string[]): string {
  const { vendor, family } = machine.cpu;
  if (vendor === null && family === null) return 'max';
  if (vendor !== 'GenuineIntel' && vendor !== 'AuthenticAMD') {
    differences.push(`cpu: vendor ${vendor} becomes GenuineIntel`);
    return `max,vendor=GenuineIntel,family=6`;
  }
  return `max,vendor=${vendor},family=${family ?? 6}`;
}
