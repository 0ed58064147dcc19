/**
 * Which layers of a block stack accept peer memory, by the kernel's release. This is the queue feature BLK_FEAT_PCI_P2PDMA,
 * which sysfs does not show.
 *
 *     NVMe namespace on PCIe      yes
 *     multipath head              from 7.2 on, if each path does
 *     md raid0, raid1, raid10     from 7.2 on, if each member does
 *     NVMe over RDMA              from 7.1 on, if the card does its own DMA
 *     all else                    no
 */
import type { KernelRelease } from '../../backend/kernel-release.js';
import type { PciDev } from '../../backend/topology.js';
import { arrayRefusal, headRefusal } from '../../kernel/releases/layers.js';
import { holds } from '../../kernel/releases/rule.js';
import { RDMA_HOST } from '../../kernel/releases/table.js';
import type { BlockDir, Layer } from './devices.js';
import { functionOnPath, type SysfsPci } from './pci.js';
import type { SysfsTree } from './tree.js';

const REFUSES = 'its queue does not take peer-to-peer memory';

/** The reason why this layer itself refuses, whatever is below it; null: it does not refuse. */
export function layerRefusal(
  { name, dir }: BlockDir,
  layer: Layer,
  release: KernelRelease | null,
): string | null {
  switch (layer.kind) {
    case 'partition':
      return layer.below.length === 0 ? `the disk of partition ${name} is not known` : null;
    case 'disk':
      return null;
    case 'loop':
      return `${name} is a loop device: ${REFUSES}`;
    case 'device-mapper': {
      const mapped = dir.dir('dm', { optional: true })?.text('name', { optional: true });
      return `${name}${mapped ? ` (${mapped})` : ''} is a device-mapper device: ${REFUSES}`;
    }
    case 'md':
      return arrayRefusal(name, layer.level ?? null, release);
    case 'multipath-head':
      return withCommands(headRefusal(name, release));
    case 'stacked':
      return `${name} is stacked on other block devices: ${REFUSES}`;
    default:
      return layer.kind satisfies never;
  }
}

/** On every release, a command goes to the queue of a path. */
function withCommands(refusal: string | null): string | null {
  return refusal && `${refusal}. NVMe commands go to its paths, which take it: engine 'passthrough'`;
}

export interface FarSide {
  /** The function that does the DMA of a namespace over a network; null: there is none here. */
  readonly client: PciDev | null;
  readonly refusal: string | null;
}

/** A namespace that is reached over a network. */
export function overNetwork(
  name: string,
  transport: string,
  machine: { readonly tree: SysfsTree; readonly pci: SysfsPci; readonly release: KernelRelease | null },
): FarSide {
  const refused = `${name} is reached over ${transport}: no PCI function here does its DMA`;
  if (transport !== 'rdma' || holds(RDMA_HOST, machine.release) !== 'yes') {
    return { client: null, refusal: refused };
  }
  const cards = rdmaCards(machine.tree);
  const functions = cards.flatMap(({ real }) => {
    const bdf = functionOnPath(real);
    return (bdf === null ? null : machine.pci.find(bdf)) ?? [];
  });
  const [card] = functions;
  if (card === undefined) {
    const soft = cards.length === 0 ? '' : ' (rxe and siw have the CPU move the data)';
    return {
      client: null,
      refusal: `${name} is reached over rdma, and no RDMA card is visible on PCI${soft}`,
    };
  }
  if (functions.length === 1 && cards.length === 1) return { client: card, refusal: null };
  const names = cards.map((one) => one.name).join(', ');
  return {
    client: null,
    refusal: `${name} is reached over rdma, and sysfs does not say which of ${names} does its DMA`,
  };
}

function rdmaCards(tree: SysfsTree): { name: string; real: readonly string[] }[] {
  const home = tree.dir('sys/class/infiniband', { optional: true });
  return (home?.names() ?? []).flatMap((name) => {
    const dir = home!.dir(name, { optional: true });
    return dir === null ? [] : { name, real: dir.real };
  });
}
