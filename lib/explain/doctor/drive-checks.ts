/** Checks of the drives, of the peer memory that they provide, and of the permissions to use it. */

import type { Controller, UnusableCmb } from '../../backend/backend.js';
import { isNvme } from '../../backend/names.js';
import type { PciDev } from '../../backend/topology.js';
import { classWords } from '../../base/pci-class.js';
import { list, size } from '../../base/words.js';
import { LOG_COMMAND } from '../../kernel/releases/log.js';
import { holds, sinceText } from '../../kernel/releases/rule.js';
import { MULTIPATH_HEAD } from '../../kernel/releases/table.js';
import { farPlace } from '../explain.js';
import type { LiveFacts, MachineFacts } from './facts.js';
import { type Finding, finding } from './finding.js';

const TO_FILE = 'sudo lspci -xxxx > machine.txt';

export function checkDrives({ machine, states, kind, cutAfter }: MachineFacts): Finding[] {
  const { controllers, topology } = machine;
  const pcie = controllers.filter(({ pdev }) => pdev !== null);
  const dead = pcie.filter(({ name }) => states.has(name));
  const found: Finding[] = [];
  // A class of 0: it was not read. Each of these could be a drive.
  const untold = kind === 'captured' ? topology.functions.filter((dev) => dev.class === 0) : [];
  if (pcie.length < 2 && (untold.length > 0 || cutAfter !== null)) {
    const known =
      pcie.length === 0 ? 'no NVMe drive is known' : `only ${label(pcie[0]!)} is known as an NVMe drive`;
    if (untold.length === 0) {
      const rest = `the text may be cut after ${cutAfter}`;
      return [finding('drives', 'unknown', `${known}; ${rest}`, 'Send all of it, as a file.', [TO_FILE])];
    }
    return [
      finding(
        'drives',
        'unknown',
        `${known}; what kind of function ${list(untold.map(({ bdf }) => bdf))} is was not read`,
        'Capture the configuration space of all functions: its first 64 bytes have the class.',
        ['sudo lspci -xxxx'],
      ),
    ];
  }
  if (pcie.length === 0) {
    const none = controllers.length === 0 ? 'no NVMe controller' : 'no NVMe controller on PCIe';
    const drivers =
      'Drives bound to vfio-pci or uio (SPDK, virtual machines) do not show: give them back to the nvme driver.';
    return [finding('drives', 'problem', none, drivers, ['lspci -nnk -d ::0108'])];
  }
  if (pcie.length - dead.length === 1) {
    const [only] = pcie.filter((drive) => !dead.includes(drive));
    found.push(
      finding('drives', 'warning', `${only!.name} is the only NVMe drive on PCIe: copies are within it`),
    );
  } else {
    found.push(finding('drives', 'ok', `${pcie.length} NVMe drives on PCIe: ${list(pcie.map(label))}`));
  }
  if (dead.length > 0) {
    const how = dead.map(({ name }) => `${name} (${states.get(name)})`);
    found.push(
      finding('drives', 'warning', `not live: ${list(how)}`, 'See what happened.', [
        'sudo dmesg | grep nvme',
      ]),
    );
  }
  return found;
}

function label({ name, pdev }: Controller): string {
  return pdev === null || pdev.bdf === name ? name : `${name} ${pdev.bdf}`;
}

/** Half a chunk of the default size for each of two slots: with less memory, streams are very slow. */
const LITTLE = 2 ** 20;

export function checkMemory({ machine }: MachineFacts): Finding[] {
  const { topology, controllers } = machine;
  const found: Finding[] = [];
  const providers = topology.functions.filter((dev) => dev.p2pmem !== null);
  const published = providers.filter((dev) => dev.p2pmem!.published);
  const named = (dev: PciDev): string => {
    const controller = controllers.find(({ pdev }) => pdev === dev);
    return controller === undefined ? `${dev.bdf} (${classWords(dev.class)})` : controller.name;
  };
  const pool = (dev: PciDev): string =>
    `${named(dev)} ${size(dev.p2pmem!.size)} (${size(dev.p2pmem!.available)} free)`;
  if (published.length > 0) {
    found.push(finding('cmb', 'ok', `memory to lend, published: ${list(published.map(pool))}`));
  }
  const low = published.filter((dev) => dev.p2pmem!.available < LITTLE);
  if (low.length > 0) {
    found.push(
      finding(
        'cmb',
        'warning',
        `nearly all taken: ${list(low.map(pool))}`,
        'Find and end what holds it, or lower its use: smaller chunks, fewer in flight.',
        ['sudo grep -l p2pmem/allocate /proc/[0-9]*/maps'],
      ),
    );
  }
  found.push(...checkUnusable(machine.controllers));
  const orphans = providers.filter(
    (dev) => !dev.p2pmem!.published && !controllers.some(({ pdev }) => pdev === dev),
  );
  const [drives, others] = [orphans.filter(isNvme), orphans.filter((dev) => !isNvme(dev))];
  if (drives.length > 0) {
    found.push(
      finding('cmb', 'warning', `p2pmem that its driver does not publish: ${list(drives.map(pool))}`),
    );
  }
  if (others.length > 0) {
    found.push(
      finding('cmb', 'ok', `not published, so only their own drivers use it: ${list(others.map(pool))}`),
    );
  }
  if (published.length === 0 && topology.peerMemory === 'unknown') {
    found.push(
      finding(
        'cmb',
        'unknown',
        'whether a drive has a CMB is not known: the captured data does not show it',
        'Look on that machine.',
        ['grep -H . /sys/bus/pci/devices/*/p2pmem/{size,published}'],
      ),
    );
    return found;
  }
  const without = controllers.filter(({ pdev, cmb }) => pdev !== null && cmb === null);
  if (published.length === 0) {
    found.push(
      finding(
        'cmb',
        'problem',
        without.length > 0 && without.length === controllers.filter(({ pdev }) => pdev !== null).length
          ? 'no drive has a CMB: there is no memory to lend'
          : 'no memory to lend: no CMB is published',
        'One drive with a CMB that can be read and written (16 MiB is enough) serves all the others; ' +
          'until then copies go through host memory.',
      ),
    );
  } else if (without.length > 0) {
    found.push(
      finding('cmb', 'ok', `no CMB, so they use the others’: ${list(without.map(({ name }) => name))}`),
    );
  }
  return found;
}

/** CMBs that exist but cannot be used, by reason. */
function checkUnusable(controllers: readonly Controller[]): Finding[] {
  const byReason = new Map<string, { why: UnusableCmb; those: Controller[] }>();
  for (const controller of controllers) {
    const { cmb } = controller;
    if (cmb === null || cmb.published) continue;
    const why = cmb.unusable ?? NO_REASON;
    const { those } = byReason.get(why.text) ?? { those: [] };
    byReason.set(why.text, { why, those: [...those, controller] });
  }
  return [...byReason.values()].map(({ why: { kind, text }, those }) => {
    const names = list(those.map(({ name, cmb }) => `${name} (${size(cmb!.size)})`));
    const { remedy, commands } = REMEDIES[kind];
    return finding('cmb', 'warning', `the CMB of ${names} cannot be lent: ${text}`, remedy, commands);
  });
}

const NO_REASON: UnusableCmb = { kind: 'not-published', text: 'no reason is known' };

const ANOTHER_SIZE =
  'The kernel plugs memory in pieces of 2 MiB: a firmware setting for the CMB’s size or for BARs may help; or use the memory of another drive.';
const AT_BOOT: Remedy = { remedy: 'See what the driver said at boot.', commands: [LOG_COMMAND] };

interface Remedy {
  readonly remedy: string;
  readonly commands?: readonly string[];
}

/** What helps, for each reason why a CMB cannot be used. */
const REMEDIES: Readonly<Record<UnusableCmb['kind'], Remedy>> = {
  'no-p2pdma': { remedy: 'See CONFIG_PCI_P2PDMA above.' },
  'no-data': {
    remedy:
      'There is nothing to fix: this drive does not support data in its CMB. Use the memory of another drive.',
  },
  'outside-bar': {
    remedy:
      'The drive’s registers place its CMB where its BAR does not reach: an update of the drive’s firmware or a firmware setting for BARs may help; or use the memory of another drive.',
  },
  misaligned: { remedy: ANOTHER_SIZE },
  'perhaps-misaligned': { remedy: ANOTHER_SIZE },
  'not-registered': AT_BOOT,
  'not-published': AT_BOOT,
};

// --- permissions ---

const RULE =
  'ACTION!="remove", SUBSYSTEM=="pci", DRIVER=="nvme", TEST=="p2pmem/allocate", RUN+="/bin/chgrp disk /sys%p/p2pmem/allocate"';

/** Gives the `allocate` files of all CMBs to the group that already owns the block devices. */
export const udevCommands: readonly string[] = [
  `echo '${RULE}' | sudo tee /etc/udev/rules.d/70-p2pdma.rules`,
  'sudo udevadm control --reload && sudo udevadm trigger --subsystem-match=pci',
  'sudo usermod -aG disk "$USER"   # then log in again',
];

export function checkPermissions({ machine, live }: MachineFacts): Finding[] {
  if (live === null) return [];
  const { topology, controllers } = machine;
  const doors = topology.functions
    .filter(({ p2pmem }) => p2pmem?.published === true)
    .map(({ bdf }) => live.door(bdf) ?? `/sys/bus/pci/devices/${bdf}/p2pmem/allocate`);
  const nodes = controllers.flatMap(({ namespaces }) => namespaces.map(({ name }) => `/dev/${name}`));
  if (doors.length + nodes.length === 0) return [];
  const found = [...checkDoors(live, doors), ...checkNodes(live, nodes)];
  if (found.length > 0) return found;
  const who = live.uid === 0 ? 'root' : `user ${live.uid}`;
  return [finding('permissions', 'ok', `${who} may open ${list([...doors.map(short), ...nodes], 4)}`)];
}

/** `/sys/devices/…/0000:03:00.0/p2pmem/allocate` → `0000:03:00.0/p2pmem/allocate`. */
function short(path: string): string {
  return path.split('/').slice(-3).join('/');
}

function checkDoors(live: LiveFacts, doors: readonly string[]): Finding[] {
  const refused = doors.map((path) => ({ path, why: live.refusal(path) })).filter(({ why }) => why !== null);
  if (refused.length === 0) return [];
  const level = refused.length === doors.length ? 'problem' : 'warning';
  const names = list(refused.map(({ path }) => short(path)));
  if (refused.every(({ why }) => why === 'EROFS')) {
    return [
      finding(
        'permissions',
        level,
        `sysfs is mounted read-only, so ${names} cannot be opened to write`,
        'In a container, mount the host’s sysfs writable. That lets the container change the host’s devices.',
        ['docker run -v /sys:/sys …'],
      ),
    ];
  }
  return [
    finding(
      'permissions',
      level,
      `user ${live.uid} may not open ${names} (${refused[0]!.why})`,
      'Give it to the group disk, and join that group. Its members can read and write every disk, ' +
        'so treat it as root.',
      udevCommands,
    ),
  ];
}

function checkNodes(live: LiveFacts, nodes: readonly string[]): Finding[] {
  const refused = nodes.map((path) => ({ path, why: live.refusal(path) })).filter(({ why }) => why !== null);
  const missing = refused.filter(({ why }) => why === 'ENOENT').map(({ path }) => path);
  const closed = refused.filter(({ why }) => why !== 'ENOENT');
  const level = refused.length === nodes.length ? 'problem' : 'warning';
  const found: Finding[] = [];
  if (missing.length > 0) {
    found.push(
      finding(
        'permissions',
        level,
        `there is no ${list(missing)} here`,
        'In a container, hand the devices over.',
        [`docker run ${missing.map((path) => `--device ${path}`).join(' ')} …`],
      ),
    );
  }
  if (closed.length > 0) {
    found.push(
      finding(
        'permissions',
        level,
        `user ${live.uid} may not read and write ${list(closed.map(({ path }) => path))} (${closed[0]!.why})`,
        'Join the group that owns them. Its members can read and write every disk, so treat it as root.',
        ['sudo usermod -aG disk "$USER"   # then log in again'],
      ),
    );
  }
  return found;
}

// --- what is not a plain disk ---

export function checkMultipath({ machine, kernel, kind }: MachineFacts): Finding[] {
  const namespaces = machine.controllers.flatMap((controller) =>
    controller.pdev === null ? [] : controller.namespaces.map(({ name }) => name),
  );
  const places = [...new Set(namespaces)].map((name) => [name, machine.inspect(name).place] as const);
  const heads = places.flatMap(([name, place]) => (place?.layers[0]?.kind === 'multipath-head' ? name : []));
  const unplaced = places.flatMap(([name, place]) => (place === null ? name : []));
  if (
    unplaced.length > 0 &&
    kind === 'captured' &&
    holds(MULTIPATH_HEAD, machine.topology.kernel) !== 'yes'
  ) {
    return [
      finding(
        'multipath',
        'unknown',
        `whether ${list(unplaced)} ${unplaced.length === 1 ? 'is a multipath head' : 'are multipath heads'} is not known: the captured data does not show it`,
        'Look on that machine.',
        ['ls -d /sys/class/nvme-subsystem/*/nvme*n*'],
      ),
    ];
  }
  if (heads.length === 0) {
    const off = kernel?.nvmeMultipath === false ? ' (nvme_core.multipath=N)' : '';
    return namespaces.length === 0
      ? []
      : [finding('multipath', 'ok', `no namespace is a multipath head${off}`)];
  }
  if (holds(MULTIPATH_HEAD, machine.topology.kernel) === 'yes') {
    return [
      finding('multipath', 'ok', `multipath heads: ${list(heads)}. They take peer memory as their paths do`),
    ];
  }
  const all = heads.length === new Set(namespaces).size;
  // The emulator has one engine, whose requests go to the head.
  const byCommand =
    kind === 'emulated' ? '' : "or use the engine 'passthrough', whose NVMe commands go to a path; ";
  return [
    finding(
      'multipath',
      all ? 'problem' : 'warning',
      `multipath heads: ${list(heads)}. Their queues do not take peer memory`,
      `Boot ${sinceText(MULTIPATH_HEAD)} or newer; ${byCommand}or make them plain disks. A drive with two ports then shows once per port, without failover. Reboot after:`,
      [
        "echo 'options nvme_core multipath=N' | sudo tee /etc/modprobe.d/p2pdma.conf",
        'sudo update-initramfs -u   # Debian, Ubuntu; elsewhere: sudo dracut -f',
      ],
    ),
  ];
}

export function checkFabrics({ machine }: MachineFacts): Finding[] {
  const far = machine.controllers.filter(
    (controller) => controller.pdev === null && !farPlace(machine, controller)?.clients.length,
  );
  if (far.length === 0) return [];
  const names = list(
    far.map(({ name, transport, namespaces }) => {
      const own = namespaces.map((ns) => ns.name);
      return `${own.length > 0 ? list(own) : name} (${transport})`;
    }),
  );
  return [
    finding(
      'fabrics',
      'warning',
      `no PCI function here does the DMA of ${names}: copies with these go through host memory`,
    ),
  ];
}
