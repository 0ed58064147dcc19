/**
 * The sysfs reader: a machine as its kernel shows it, at `/` or in a captured tree that contains sys/ and proc/, on any
 * operating system. Nothing here throws: what cannot be read is in `topology.unknowns`.
 */
import type { Disk } from '../../backend/backend.js';
import { parseRelease } from '../../backend/kernel-release.js';
import type { Bdf, PciDev, Topology } from '../../backend/topology.js';
import { type BlockContext, type BlockInfo, blockInfo, type MountedInfo } from './block.js';
import { BlockDevices } from './devices.js';
import { disksOf } from './disks.js';
import { IommuGroups } from './iommu-groups.js';
import { type IommuFacts, type KernelFacts, readCpu, readIommu, readKernel, readRelease } from './kernel.js';
import { type HostLimits, readLimits } from './limits.js';
import { MountedFacts } from './mounted-facts.js';
import { clearMount, type MountSource } from './mountinfo.js';
import { controllerDirs, readControllers, type SysfsController } from './nvme.js';
import { OneReading } from './one-reading.js';
import { readP2pmem, readPci } from './pci.js';
import { printedWhole } from './printed-whole.js';
import { type Files, SysfsTree } from './tree.js';

export type { BlockDisk, BlockInfo, MountedInfo } from './block.js';
export type { InUse, PartitionInfo } from './devices.js';
export type { IommuFacts, KernelFacts, P2pdmaConfig } from './kernel.js';
export type { CmbRegisters, SysfsController, SysfsNamespace } from './nvme.js';

export interface Sysfs {
  /** Absolute, without symlinks. */
  readonly root: string;
  /** True if it is this machine's own tree, not a captured one. */
  readonly live: boolean;
  /**
   * The topology at the time of reading. On a machine without NVMe drives, what is in a function's configuration space and its
   * resources are read when they are first asked for. `unknowns` grows as more facts are read.
   */
  readonly topology: Topology;
  readonly controllers: readonly SysfsController[];
  /** As of now, for one question: never keep them. */
  readonly devices: BlockDevices;
  /** Read at the first access. */
  readonly kernel: KernelFacts;
  readonly iommu: IommuFacts;
  /** The system's current limits for a process. */
  readonly limits: HostLimits;
  /**
   * The current storage stack under a namespace or block device (`'nvme0n1'`, `'/dev/mapper/x'`) or a file; null: there is no
   * such device or file. Paths in a captured tree belong to that machine.
   */
  blockInfo(pathOrName: string): BlockInfo | null;
  /**
   * The same for any file on the filesystem with this device number, `'259:1'`, as it was mounted in this turn of the event
   * loop. Null: that alone does not say everything, or it is not remembered, and blockInfo() finds it out.
   */
  fileOn(number: string): MountedInfo | null;
  /**
   * What `ask` finds out about block devices and files is as of one moment: each file of the tree is read at most once. It is
   * synchronous, so that nothing else happens in between and nothing is kept for later.
   */
  together<T>(ask: () => T): T;
  /**
   * From now on take the mounts from here. Facts about a mounted filesystem that cannot change while it is mounted are then
   * remembered; null: forget them.
   */
  takeMountsFrom(source: MountSource | null): void;
  /** The disks with these names (default: all), as of now. */
  disks(only?: readonly string[]): Disk[];
  /** The current state of a function's `p2pmem/`. */
  p2pmem(pdev: PciDev): PciDev['p2pmem'];
  /** A function's own directory on this machine's disk, for its `p2pmem/allocate`; null if it is gone. */
  directory(bdf: Bdf): string | null;
}

/** Read the machine whose sys/ and proc/ are in `where`; with `asked`, as if that kernel were running on it. */
export function readSysfs(where: string | Files, asked?: string): Sysfs {
  const tree = new SysfsTree(where);
  const groups = new IommuGroups(tree);
  const pci = readPci(tree, groups);
  const running = readRelease(tree);
  let facts: KernelFacts | null = null;
  const kernel = (): KernelFacts => {
    const hasP2pmem = pci.functions.some((dev) => dev.p2pmem !== null);
    facts ??= readKernel(tree, { running, asked, hasP2pmem });
    return facts;
  };
  const dirs = controllerDirs(tree, pci);
  const controllers = readControllers(tree, pci, dirs, kernel);
  // What was copied does not change, and costs little to read. Where there are drives, routes are asked about, and an answer must
  // not depend on the rights that this process has left by then.
  const hasDrives = dirs.size > 0 || pci.functions.some(({ p2pmem }) => p2pmem !== null);
  if (!tree.live || hasDrives) pci.readAll();
  const release = asked ?? running;
  const iommu = readIommu(tree, release, groups, groupsThatMatter(pci.functions, controllers));
  const { mode } = iommu;
  const parsed = parseRelease(release);
  let mountSource: MountSource | null = null;
  let remembered: MountedFacts<MountedInfo> | null = null;
  const reading = (): BlockContext => {
    const now = new SysfsTree(new OneReading(tree.files), tree);
    const devices = new BlockDevices(now, dirs, mountSource);
    return { tree: now, devices, pci, controllers, iommu: mode, kernel, release: parsed, remembered };
  };
  let current: BlockContext | null = null;
  const together = <T>(ask: () => T): T => {
    if (current !== null) return ask();
    current = reading();
    try {
      return ask();
    } finally {
      current = null;
    }
  };
  return {
    root: tree.root,
    live: tree.live,
    topology: printedWhole({
      cpu: readCpu(tree),
      kernel: parsed,
      iommu: mode,
      ...(tree.files.peerMemory ? {} : { peerMemory: 'unknown' as const }),
      hostBridges: pci.hostBridges,
      functions: pci.functions,
      find: pci.find,
      get unknowns() {
        pci.readAll();
        void kernel().p2pdma;
        return tree.unknowns;
      },
    }),
    controllers,
    get devices() {
      return (current ?? reading()).devices;
    },
    get kernel() {
      return kernel();
    },
    iommu,
    get limits() {
      return readLimits(tree);
    },
    blockInfo: (pathOrName) => together(() => blockInfo(current!, pathOrName)),
    fileOn: (number) => {
      const mount = clearMount(mountSource?.mountsThisTurn() ?? [], number);
      return mount === null ? null : (remembered?.recall(mount, tree) ?? null);
    },
    together,
    takeMountsFrom: (source) => {
      mountSource = source;
      remembered = source === null ? null : new MountedFacts();
    },
    disks: (only) => together(() => disksOf(current!.tree, current!.devices, only)),
    p2pmem: (pdev) => {
      const dir = pci.dir(pdev.bdf);
      return dir === null ? null : readP2pmem(dir);
    },
    directory: (bdf) => {
      const dir = pci.dir(bdf);
      const now = dir === null ? null : tree.dir(dir.real.join('/'), { optional: true });
      return now === null ? null : tree.onDisk(now.real);
    },
  };
}

/** Drives and providers: in a machine with mixed IOMMU groups, their groups decide. */
function groupsThatMatter(
  functions: readonly PciDev[],
  controllers: readonly SysfsController[],
): Set<number> {
  const groups = new Set<number>();
  for (const dev of [
    ...functions.filter(({ p2pmem }) => p2pmem !== null),
    ...controllers.map((c) => c.pdev),
  ]) {
    if (dev?.iommuGroup != null) groups.add(dev.iommuGroup);
  }
  return groups;
}
