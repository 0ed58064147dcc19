/** What other programs print on a machine, written from a machine that is known: `nvme`, `lsblk`, the kernel's log, `uname`. */
import type { Controller, System } from '../../lib/index.js';

const MODEL = 'SAMPLE SSD 980 1TB';
const FIRMWARE = '3B4Q';
const serialOf = ({ name }: Controller) => `S${name.slice(4).padStart(9, '0')}`;
/** A namespace nvme2n1 belongs to subsystem 2. */
const subsystemOf = ({ name, namespaces: [first] }: Controller) =>
  `nvme-subsys${/\d+/.exec(first?.name ?? name)![0]}`;
const nqnOf = (of: Controller) => `nqn.2014-08.org.example:${serialOf(of)}`;

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
const onPcie = ({ controllers }: System) => controllers.filter(({ pdev }) => pdev !== null);

/** `nvme list -o json` of nvme-cli 1.x, and of 2.x before 2.11: flat. */
export function nvmeListFlat(system: System): string {
  const devices = onPcie(system).flatMap((controller) =>
    controller.namespaces.map(({ name, nsid, size, logicalBlockSize }) => ({
      NameSpace: nsid,
      DevicePath: `/dev/${name}`,
      Firmware: FIRMWARE,
      ModelNumber: MODEL,
      SerialNumber: serialOf(controller),
      UsedBytes: size,
      MaximumLBA: size / logicalBlockSize,
      PhysicalSize: size,
      SectorSize: logicalBlockSize,
    })),
  );
  return json({ Devices: devices });
}

/** `nvme list -v -o json`, and since 2.11 without `-v`: by host, subsystem and controller. A head is of its subsystem. */
export function nvmeListNested(system: System): string {
  const drives = onPcie(system);
  const names = [...new Set(drives.map(subsystemOf))];
  const subsystems = names.map((name) => {
    const controllers = drives.filter((one) => subsystemOf(one) === name);
    const disks = namespacesOf(controllers[0]!);
    const isHead = controllers.length > 1;
    return {
      Subsystem: name,
      SubsystemNQN: nqnOf(controllers[0]!),
      Controllers: controllers.map((one) => controllerOf(one, isHead ? [] : disks)),
      Namespaces: isHead ? disks : [],
    };
  });
  return json({ Devices: [{ HostNQN: 'nqn.2014-08.org.example:host', HostID: '', Subsystems: subsystems }] });
}

function controllerOf(controller: Controller, namespaces: readonly object[]): object {
  return {
    Controller: controller.name,
    Cntlid: '0',
    SerialNumber: serialOf(controller),
    ModelNumber: MODEL,
    Firmware: FIRMWARE,
    Transport: 'pcie',
    Address: controller.pdev!.bdf,
    Slot: '',
    Namespaces: namespaces,
    Paths: [],
  };
}

function namespacesOf({ namespaces }: Controller): object[] {
  return namespaces.map(({ name, nsid, size, logicalBlockSize }) => ({
    NameSpace: name,
    Generic: name.replace('nvme', 'ng'),
    NSID: nsid,
    UsedBytes: size,
    MaximumLBA: size / logicalBlockSize,
    PhysicalSize: size,
    SectorSize: logicalBlockSize,
  }));
}

/** `nvme list-subsys -o json`: in 1.x a subsystem and its paths are two entries, before 2.1 an address begins with traddr=. */
export function nvmeListSubsys(system: System, of: '1.x' | '2.0' | '2.x'): string {
  const subsystems = onPcie(system).flatMap((controller) => {
    const { bdf } = controller.pdev!;
    const named = { Name: subsystemOf(controller), NQN: nqnOf(controller) };
    const path = {
      Name: controller.name,
      Transport: 'pcie',
      Address: of === '2.x' ? bdf : `traddr=${bdf}`,
      State: 'live',
    };
    return of === '1.x' ? [named, { Paths: [path] }] : [{ ...named, Paths: [path] }];
  });
  return json(of === '1.x' ? { Subsystems: subsystems } : [{ HostNQN: 'nqn.host', Subsystems: subsystems }]);
}

/** `lsblk -b -J`, or `lsblk -J`, which rounds. */
export function lsblk(system: System, { exact }: { readonly exact: boolean }): string {
  const disks = onPcie(system).flatMap((controller) =>
    controller.namespaces.map(({ name, size }) => ({
      name,
      'maj:min': `259:${name.slice(4, 5)}`,
      rm: false,
      size: exact ? size : `${Math.round(size / 2 ** 30)}G`,
      ro: false,
      type: 'disk',
      mountpoints: [null],
    })),
  );
  return json({ blockdevices: [{ name: 'sda', size: 2 ** 40, ro: false, type: 'disk' }, ...disks] });
}

/** What the kernel logs: its release, the names of the controllers, their memory, and each pair that it refuses. */
export function kernelLog(system: System): string {
  const drives = onPcie(system);
  const lines = [
    `Linux version ${releaseOf(system)} (builder@host) (gcc 14.2.0) #1 SMP`,
    'Command line: ro quiet',
  ];
  for (const { name, pdev, cmb } of drives) {
    lines.push(`nvme ${name}: pci function ${pdev!.bdf}`);
    if (cmb !== null) lines.push(`nvme ${pdev!.bdf}: added peer-to-peer DMA memory 0xd0000000-0xd0ffffff`);
  }
  for (const { pdev: provider } of drives) {
    const asked = drives.flatMap(({ pdev }) => (pdev === provider ? [] : pdev!.bdf));
    for (const { bdf, mapType, acs } of system.explain(provider!.bdf, asked).clients) {
      if (mapType !== 'NOT_SUPPORTED') continue;
      if (acs.length > 0)
        lines.push(`pci ${bdf}: ACS redirect is set between the client and provider (${provider!.bdf})`);
      lines.push(
        `nvme ${bdf}: cannot be used for peer-to-peer DMA as the client and provider (${provider!.bdf}) do not share an upstream bridge or whitelisted host bridge`,
      );
    }
  }
  return lines.map((line, at) => `[${(at / 10).toFixed(6).padStart(12)}] ${line}\n`).join('');
}

export function uname(system: System): string {
  return `Linux box ${releaseOf(system)} #1 SMP PREEMPT_DYNAMIC x86_64 GNU/Linux\n`;
}

export function cpuinfo({ topology: { cpu } }: System): string {
  return `processor\t: 0\nvendor_id\t: ${cpu.vendor}\ncpu family\t: ${cpu.family}\nmodel\t\t: 1\nflags\t\t: fpu\n\n`;
}

/** A release as `uname -r` prints it. */
export function releaseOf({ topology: { kernel } }: System): string {
  return `${kernel!.text}${/^\d+\.\d+$/.test(kernel!.text) ? '.30' : ''}-amd64`;
}
