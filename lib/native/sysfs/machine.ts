/**
 * The sysfs reader: a machine as its kernel shows it, at `/` or in a captured tree that contains sys/ and proc/, on any
 * operating system. Nothing here throws: what cannot be read is in `topology.unknowns`.
 */
import { parseRelease } from '../../backend/kernel-release.js';
import type { Bdf, PciDev, Topology } from '../../backend/topology.js';
import { type BlockContext, type BlockInfo, blockInfo } from './block.js';
import { BlockDevices } from './devices.js';
import { type IommuFacts, type KernelFacts, readCpu, readIommu, readKernel, readRelease } from './kernel.js';
import { type HostLimits, readLimits } from './limits.js';
import { controllerDirs, readControllers, type SysfsController } from './nvme.js';
import { readP2pmem, readPci } from './pci.js';
import { type Files, SysfsTree } from './tree.js';

export type { BlockDisk, BlockInfo } from './block.js';
export type { InUse, PartitionInfo } from './devices.js';
export type { IommuFacts, KernelFacts, P2pdmaConfig } from './kernel.js';
export type { CmbRegisters, SysfsController, SysfsNamespace } from './nvme.js';

export interface Sysfs {
  /** Absolute, without symlinks. */
  readonly root: string;
  /** True if it is this machine's own tree, not a captured one. */
  readonly live: boolean;
  /** The topology at the time of reading. `unknowns` grows as more facts are read. */
  readonly topology: Topology;
  readonly controllers: readonly SysfsController[];
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
  /** The current state of a function's `p2pmem/`. */
  p2pmem(pdev: PciDev): PciDev['p2pmem'];
  /** A function's own directory on this machine's disk, for its `p2pmem/allocate`; null if it is gone. */
  directory(bdf: Bdf): string | null;
}

/** Read the machine whose sys/ and proc/ are in `where`; with `asked`, as if that kernel were running on it. */
export function readSysfs(where: string | Files, asked?: string): Sysfs {
  const tree = new SysfsTree(where);
  const pci = readPci(tree);
  let facts: KernelFacts | null = null;
  const kernel = (): KernelFacts => {
    facts ??= readKernel(
      tree,
      pci.functions.some((dev) => dev.p2pmem !== null),
      asked,
    );
    return facts;
  };
  const dirs = controllerDirs(tree, pci);
  const controllers = readControllers(tree, pci, dirs, kernel);
  const release = asked ?? readRelease(tree);
  const iommu = readIommu(tree, release, groupsThatMatter(pci.functions, controllers));
  const devices = new BlockDevices(tree, dirs);
  const context: BlockContext = {
    tree,
    devices,
    pci,
    controllers,
    iommu: iommu.mode,
    kernel,
    release: parseRelease(release),
  };
  return {
    root: tree.root,
    live: tree.live,
    topology: {
      cpu: readCpu(tree),
      kernel: parseRelease(release),
      iommu: iommu.mode,
      ...(tree.files.peerMemory ? {} : { peerMemory: 'unknown' as const }),
      hostBridges: pci.hostBridges,
      functions: pci.functions,
      find: pci.find,
      unknowns: tree.unknowns,
    },
    controllers,
    devices,
    get kernel() {
      return kernel();
    },
    iommu,
    get limits() {
      return readLimits(tree);
    },
    blockInfo: (pathOrName) => blockInfo(context, pathOrName),
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
