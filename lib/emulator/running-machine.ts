/**
 * A running machine: the parts that boot.ts assembled, and the peer memory that no driver owns.
 */

import { type Clock, type Hardware, PAGE_SIZE } from '../backend/hardware.js';
import { parseRelease } from '../backend/kernel-release.js';
import type { PciDev } from '../backend/topology.js';
import type { TraceOrigin } from '../base/trace.js';
import { dmaPciP2pdmaSupported } from '../kernel/dma-mapping.js';
import type { Mm } from '../kernel/memremap.js';
import type { NvmeDev } from '../kernel/nvme-pci.js';
import {
  type P2pmem,
  pciAllocP2pmem,
  pciFreeP2pmem,
  pciP2pdmaRelease,
  pciP2pmemAvailable,
  pciP2pmemSize,
} from '../kernel/pci-p2pdma.js';
import { p2pdmaOf } from '../kernel/pci-p2pdma-pool.js';
import { withheldFromPrograms } from '../kernel/releases/table.js';
import type { Fault, Machine } from '../machine/machine.js';
import type { Fabric } from './bus/fabric.js';
import type { NvmeController } from './nvme/controller.js';

/** A controller from both sides: its hardware and its driver. */
export interface Drive {
  readonly hardware: NvmeController;
  readonly driver: NvmeDev;
}

/** All parts that run. The backend is the public interface; tests access the parts directly. */
export interface RunningMachine {
  readonly machine: Machine;
  readonly clock: Clock;
  readonly fabric: Fabric;
  readonly hardware: Hardware;
  readonly mm: Mm;
  /** Functions of a captured machine whose peer memory could not be registered here, which the notice says. */
  readonly notRegistered: string[];
  /** In BDF order. */
  readonly drives: readonly Drive[];
  /** Memory held in pools of functions that are not NVMe controllers, and by faults. It is released at the end. */
  readonly reserved: { readonly pdev: PciDev; readonly block: P2pmem }[];
}

/** The origin of the events that this machine traces. */
export function emulated(machine: Machine): TraceOrigin {
  return { backend: 'emulator', machine: machine.name };
}

/** Applies the fault `pool-exhausted`, which limits how much of the pool is left. */
export function exhaustPool(running: RunningMachine, fault: Fault): void {
  if (fault.kind !== 'pool-exhausted') return;
  const drive = running.drives.find(
    ({ hardware }) => hardware.name === fault.controller || hardware.pdev.bdf === fault.controller,
  );
  if (drive !== undefined) reserve(running, drive.hardware.pdev, fault.available);
}

/** Allocates all but `available` bytes of the pool, as if somebody else held them. */
export function reserve(running: RunningMachine, pdev: PciDev, available: number): void {
  let pages = Math.floor((pciP2pmemAvailable(pdev) - available) / PAGE_SIZE);
  // Allocate in pieces, because a pool in use may not have one free range of this size.
  for (let piece = pages; pages > 0 && piece > 0; piece = Math.min(piece, pages)) {
    const block = pciAllocP2pmem(pdev, piece * PAGE_SIZE);
    if (block === null) piece = Math.floor(piece / 2);
    else {
      running.reserved.push({ pdev, block });
      pages -= piece;
    }
  }
}

/** Releases what `reserve` holds, and checks the pools that no NVMe driver owns. @returns bytes that others still hold */
export function releaseReserved(running: RunningMachine): number {
  for (const { pdev, block } of running.reserved.splice(0)) pciFreeP2pmem(pdev, block);
  let held = 0;
  const drives = new Set(running.drives.map(({ hardware }) => hardware.pdev));
  for (const pdev of running.fabric.topology.functions) {
    if (drives.has(pdev) || p2pdmaOf(pdev) === null) continue;
    held += pciP2pmemSize(pdev) - pciP2pmemAvailable(pdev);
    pciP2pdmaRelease(pdev);
  }
  return held;
}

/** Why a queue of this drive does not accept P2P memory, or null. */
export function noP2pReason(driver: NvmeDev, machine: Machine): string | null {
  if (dmaPciP2pdmaSupported(driver.device)) return withheldFromPrograms(parseRelease(machine.kernel));
  return `the IOMMU driver of '${machine.name}' (${driver.device.dmaOps?.name ?? 'unknown'}) cannot map peer-to-peer memory, so the queue of ${driver.ctrl.name} does not take it`;
}
