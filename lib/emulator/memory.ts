/**
 * mmap and munmap of one process on the emulated machine: CMB through `p2pmem/allocate`, host pages, and a list of all
 * mappings, so that they can all be released when the process ends.
 */

import type { Mapping, MemoryBackend } from '../backend/backend.js';
import { assertBufferLength } from '../backend/buffer-limit.js';
import { isNvme, whyNotPublished } from '../backend/names.js';
import type { PciDev } from '../backend/topology.js';
import { ENODEV, ENOMEM } from '../base/errno.js';
import { errnoError } from '../base/errors.js';
import { Members } from '../base/members.js';
import { type TraceOrigin, tracedAs } from '../base/trace.js';
import { type Mm, registerVma, unregisterVma, type Vma } from '../kernel/memremap.js';
import { pciMmapP2pmem, pciP2pmemAvailable } from '../kernel/pci-p2pdma.js';
import { p2pdmaOf } from '../kernel/pci-p2pdma-pool.js';

/** One VMA of this process. */
class ProcessMapping implements Mapping {
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  readonly provider: PciDev | null;
  #munmap: (() => void) | null;

  constructor(mapped: Omit<Mapping, 'munmap'>, munmap: () => void) {
    this.buffer = mapped.buffer;
    this.bytes = mapped.bytes;
    this.provider = mapped.provider;
    this.#munmap = munmap;
  }

  munmap(): void {
    const munmap = this.#munmap;
    this.#munmap = null;
    munmap?.();
  }
}

export class EmulatorMemory implements MemoryBackend {
  readonly #mm: Mm;
  readonly #origin: TraceOrigin;
  readonly #mappings = new Members<ProcessMapping>();

  readonly #withheld: string | null;

  /** @param withheld why the emulated kernel has no p2pmem/allocate; null: it has one */
  constructor(mm: Mm, origin: TraceOrigin, withheld: string | null = null) {
    this.#mm = mm;
    this.#origin = origin;
    this.#withheld = withheld;
  }

  /** The number of mappings that are not unmapped yet. */
  get mapped(): number {
    return this.#mappings.size;
  }

  mmapP2pmem(provider: PciDev, bytes: number): Mapping {
    const path = `/sys/bus/pci/devices/${provider.bdf}/p2pmem/allocate`;
    assertBufferLength(bytes, path);
    if (this.#withheld !== null) throw errnoError(-ENODEV, 'open', path, { hint: `${this.#withheld}.` });
    // The native backend refuses this too: the kernel would let any process map this memory although it was not
    // published.
    if (!isNvme(provider) && p2pdmaOf(provider)?.published === false) {
      throw errnoError(-ENODEV, 'mmap', path, {
        hint: `Nothing else may use the memory of ${provider.bdf}: ${whyNotPublished(provider)}.`,
      });
    }
    const mapping = tracedAs(this.#origin, () =>
      pciMmapP2pmem(this.#mm, provider, { length: bytes, offset: 0, shared: true }),
    );
    if (typeof mapping === 'number') {
      const hint =
        mapping === -ENOMEM
          ? `${pciP2pmemAvailable(provider)} bytes are free, ${bytes} were asked for. Use smaller or fewer chunks, or another provider.`
          : mapping === -ENODEV
            ? `${provider.bdf} has no peer-to-peer memory (no CMB that the kernel could register), or was removed.`
            : undefined;
      throw errnoError(mapping, 'mmap', path, { hint });
    }
    return this.track(mapping, () => mapping.munmap());
  }

  /** Tracks a mapping that was created elsewhere, for example by mmap() of a character device. */
  track(mapping: Omit<Mapping, 'munmap'>, munmap: () => void): Mapping {
    const kept = new ProcessMapping(mapping, () => {
      this.#mappings.delete(kept);
      tracedAs(this.#origin, munmap);
    });
    this.#mappings.add(kept);
    return kept;
  }

  allocHost(bytes: number): Mapping {
    assertBufferLength(bytes, 'host memory');
    const { memory } = this.#mm;
    const { phys, bytes: pages } = memory.allocPages(bytes);
    const buffer = pages.buffer as ArrayBuffer;
    const vma: Vma = { buffer, phys, length: buffer.byteLength, pgmap: null };
    registerVma(vma);
    const free = () => {
      memory.freePages(phys);
      detach(buffer);
    };
    return this.track({ buffer, bytes: buffer.byteLength, provider: null }, () => {
      unregisterVma(buffer);
      if ((vma.pins ?? 0) > 0) vma.onUnpinned = free;
      else free();
    });
  }

  allocBuffer(bytes: number): Uint8Array {
    // Here only the offset in the ArrayBuffer modulo the page size matters, and this buffer starts its own ArrayBuffer.
    return Buffer.allocUnsafeSlow(bytes);
  }

  available(provider: PciDev): number {
    return pciP2pmemAvailable(provider);
  }

  /** Unmaps everything, as exit() does. */
  unmapAll(): void {
    for (const mapping of [...this.#mappings]) mapping.munmap();
  }
}

function detach(buffer: ArrayBuffer): void {
  if (buffer.byteLength > 0) structuredClone(null, { transfer: [buffer] });
}
