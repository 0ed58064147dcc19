/**
 * Memory of the native backend: a provider's CMB through its `p2pmem/allocate` or through the controller's character device (the
 * interface of the RFC), and page-aligned host memory.
 *
 * Both are external ArrayBuffers. Some runtimes (Electron, V8 with its sandbox) refuse those. Then host memory is the buffer of
 * a WebAssembly.Memory, which is page-aligned too, and CMB memory is not available.
 */

import { type Mapping, type MemoryBackend, PAGE_SIZE } from '../backend/backend.js';
import { assertBufferLength } from '../backend/buffer-limit.js';
import { whyNotPublished } from '../backend/names.js';
import type { PciDev } from '../backend/topology.js';
import { EFAULT, ENODEV, ENOENT, ENOMEM, EOPNOTSUPP } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { Members } from '../base/members.js';
import { type DevPagemap, registerVma, unregisterVma } from '../kernel/memremap.js';
import { type Addon, loadAddon, type NativeMapping } from './addon.js';
import { accessHint, nativeError } from './errors.js';
import { assertPermitted } from './permission.js';
import type { Sysfs } from './sysfs/machine.js';
import { trace, tracing } from './trace.js';

/** Where the bytes of an ArrayBuffer are. */
export interface Memory {
  /** The address of its first byte. */
  readonly address: number;
  /** The addon's number of the mapping; -1: the memory is not this package's. */
  readonly mapping: number;
  /** The function that owns the CMB, or null. */
  readonly provider: PciDev | null;
  /** Negative: it can no longer be used as memory. */
  readonly errno: number;
  /**
   * The mapping. It lives as long as the buffer, so that closing the backend finds it even if the user kept only the buffer.
   */
  readonly owner: Mapping | null;
}

const GONE: Memory = { address: 0, mapping: -1, provider: null, errno: -EFAULT, owner: null };
const known = new WeakMap<ArrayBufferLike, Memory>();

/** The memory in which a view lies. The addon is called once per ArrayBuffer. */
export function memoryOf(view: Uint8Array): Memory {
  // A view of a detached buffer has no length; an empty one has nothing to transfer.
  if (view.byteLength === 0) return GONE;
  const buffer = view.buffer;
  let memory = known.get(buffer);
  if (memory === undefined) {
    const addon = loadAddon();
    const address = addon.addressOf(view);
    memory =
      address === 0
        ? GONE
        : { address, mapping: addon.mappingAt(address), provider: null, errno: 0, owner: null };
    known.set(buffer, memory);
  }
  return memory;
}

/** The reason why this runtime refuses external ArrayBuffers, or null: it accepts them. */
export function externalBuffersReason(addon: Addon = loadAddon()): string | null {
  if (process.env.P2PDMA_NO_EXTERNAL_BUFFERS !== '1' && addon.externalBuffers()) return null;
  const runtime = process.versions.electron
    ? `Electron ${process.versions.electron}`
    : `this build of Node ${process.version}`;
  return `${runtime} refuses external ArrayBuffers (napi_no_external_buffers_allowed), so JavaScript cannot see CMB memory`;
}

const pagemaps = new WeakMap<PciDev, DevPagemap>();

/** One identity per provider, so that memory of one CMB is recognised as such across mappings. */
function pagemapOf(provider: PciDev): DevPagemap {
  let pgmap = pagemaps.get(provider);
  if (pgmap === undefined) {
    pgmap = {
      type: 'MEMORY_DEVICE_PCI_P2PDMA',
      start: 0,
      length: provider.p2pmem?.size ?? 0,
      provider,
      busOffset: 0,
      refs: 0,
      dead: false,
    };
    pagemaps.set(provider, pgmap);
  }
  return pgmap;
}

/** Weak, so that unreachable memory is collected. */
interface HeldMap {
  ref: WeakRef<NativeMap> | null;
}

export class NativeMemory implements MemoryBackend {
  readonly #sysfs: Sysfs;
  readonly #addon: Addon;
  readonly #refusal: string | null;
  /** Mappings that were handed out and not returned. */
  readonly #open = new Members<HeldMap>();
  readonly #forgotten = new FinalizationRegistry<HeldMap>((held) => this.#open.delete(held));

  constructor(sysfs: Sysfs) {
    this.#sysfs = sysfs;
    this.#addon = loadAddon();
    this.#refusal = externalBuffersReason(this.#addon);
  }

  mmapP2pmem(provider: PciDev, bytes: number): Mapping {
    const directory = this.#sysfs.directory(provider.bdf);
    const door = `${directory ?? `/sys/bus/pci/devices/${provider.bdf}`}/p2pmem/allocate`;
    checkBytes(bytes, door);
    if (this.#refusal !== null) {
      throw new P2pdmaError('ERR_BACKEND_UNAVAILABLE', this.#refusal, { syscall: 'mmap', path: door });
    }
    // The kernel allocates unpublished memory on request, but transfers with it fail.
    if (this.#sysfs.p2pmem(provider)?.published === false) {
      throw errnoError(-ENODEV, 'mmap', door, {
        hint: `Nothing else may use the memory of ${provider.bdf}: ${whyNotPublished(provider)}.`,
      });
    }
    const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    assertPermitted(door, 'mmap', { write: true });
    let mapping = this.#addon.mapFile(door, length);
    let path = door;
    if (mapping.errno !== undefined && (mapping.errno === -ENOENT || mapping.errno === -ENODEV)) {
      const controller = this.#sysfs.controllers.find(({ pdev }) => pdev?.bdf === provider.bdf);
      if (controller !== undefined && this.#sysfs.live) {
        assertPermitted(`/dev/${controller.name}`, 'mmap', { write: true });
        const second = this.#addon.mapFile(`/dev/${controller.name}`, length);
        if (second.errno === undefined) {
          mapping = second;
          path = `/dev/${controller.name}`;
        }
      }
    }
    if (mapping.errno !== undefined) throw this.#mmapError(mapping, provider, path);
    if (tracing()) trace('native-memory', 'mmap', { path, bytes: length, provider: provider.bdf });
    return this.#give(mapping, length, provider);
  }

  allocHost(bytes: number): Mapping {
    checkBytes(bytes, 'host memory');
    if (this.#refusal !== null) return new WasmMap(bytes);
    const mapping = this.#addon.mapHost(bytes);
    if (mapping.errno !== undefined) {
      throw errnoError(mapping.errno, mapping.syscall, 'host memory', {
        hint: (option) =>
          `Ask for less than ${bytes} bytes: smaller chunks (${option('highWaterMark')}) or fewer of them (${option('queueDepth')}).`,
      });
    }
    if (tracing()) trace('native-memory', 'alloc_host', { bytes, huge: mapping.huge });
    return this.#give(mapping, bytes, null);
  }

  /** Malloc does not align enough, so one extra page is allocated and the view begins at a page boundary. */
  allocBuffer(bytes: number): Uint8Array {
    const whole = Buffer.allocUnsafeSlow(bytes + PAGE_SIZE);
    const past = this.#addon.addressOf(whole) % PAGE_SIZE;
    const start = past === 0 ? 0 : PAGE_SIZE - past;
    return whole.subarray(start, start + bytes);
  }

  available(provider: PciDev): number {
    return this.#sysfs.p2pmem(provider)?.available ?? 0;
  }

  /** The number of mappings that were not returned, and the bytes of CMB among them. */
  get held(): { mappings: number; p2pmem: number } {
    let mappings = 0;
    let p2pmem = 0;
    for (const { ref } of this.#open) {
      const mapping = ref?.deref();
      if (mapping === undefined) continue;
      mappings++;
      if (mapping.provider !== null) p2pmem += mapping.bytes;
    }
    return { mappings, p2pmem };
  }

  /** Detach and unmap everything. Memory that an I/O still uses is unmapped after that I/O. */
  close(): void {
    for (const { ref } of this.#open) ref?.deref()?.munmap();
  }

  #give(
    native: Extract<NativeMapping, { buffer: ArrayBuffer }>,
    bytes: number,
    provider: PciDev | null,
  ): Mapping {
    const { id, buffer, address } = native;
    const held: HeldMap = { ref: null };
    const mapping: NativeMap = new NativeMap(this.#addon, {
      id,
      buffer,
      bytes,
      provider,
      onGone: () => {
        this.#open.delete(held);
        this.#forgotten.unregister(mapping);
      },
    });
    known.set(buffer, { address, mapping: id, provider, errno: 0, owner: mapping });
    registerVma({
      buffer,
      phys: 0,
      length: bytes,
      pgmap: provider === null ? null : pagemapOf(provider),
    });
    held.ref = new WeakRef(mapping);
    this.#open.add(held);
    this.#forgotten.register(mapping, held, mapping);
    return mapping;
  }

  #mmapError(
    failure: { readonly errno: number; readonly syscall: string },
    provider: PciDev,
    path: string,
  ): P2pdmaError {
    const { errno, syscall } = failure;
    if (errno === -EOPNOTSUPP) {
      return new P2pdmaError('ERR_BACKEND_UNAVAILABLE', 'this runtime refuses external ArrayBuffers', {
        syscall,
        path,
      });
    }
    if (errno === -ENOENT || errno === -ENODEV) {
      return errnoError(-ENODEV, syscall, path, { hint: this.#noP2pmem(provider) });
    }
    return nativeError(errno, syscall, path, accessHint(errno, path));
  }

  #noP2pmem(provider: PciDev): string {
    if (this.#sysfs.directory(provider.bdf) === null)
      return `There is no PCI function ${provider.bdf} any more.`;
    if (this.#sysfs.p2pmem(provider) !== null)
      return `${provider.bdf} has peer-to-peer memory but does not hand it out.`;
    return (
      `${provider.bdf} provides no peer-to-peer memory: it needs a drive with a CMB that takes reads and writes of ` +
      'data, aligned to 2 MiB, and Linux 6.2 or newer built with CONFIG_PCI_P2PDMA.'
    );
  }
}

interface NativeMapParts {
  /** Its id in C++. */
  readonly id: number;
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  readonly provider: PciDev | null;
  readonly onGone: () => void;
}

class NativeMap implements Mapping {
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  readonly provider: PciDev | null;
  readonly #addon: Addon;
  readonly #id: number;
  #onGone: (() => void) | null;

  constructor(addon: Addon, { id, buffer, bytes, provider, onGone }: NativeMapParts) {
    this.#addon = addon;
    this.#id = id;
    this.buffer = buffer;
    this.bytes = bytes;
    this.provider = provider;
    this.#onGone = onGone;
  }

  munmap(): void {
    if (this.#onGone === null) return;
    this.#onGone();
    this.#onGone = null;
    unregisterVma(this.buffer);
    known.set(this.buffer, GONE);
    this.#addon.unmap(this.#id, this.buffer);
    if (tracing())
      trace('native-memory', 'munmap', { bytes: this.bytes, provider: this.provider?.bdf ?? null });
  }
}

const WASM_PAGE = 65536;

/** TypeScript declares it only in its DOM library. */
declare const WebAssembly: {
  Memory: new (descriptor: {
    initial: number;
  }) => { readonly buffer: ArrayBuffer; grow(pages: number): number };
};

/**
 * Host memory where external ArrayBuffers are refused. Its buffer may be longer than requested, because its size is a multiple
 * of 64 KiB.
 */
class WasmMap implements Mapping {
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  readonly provider = null;
  readonly #memory: InstanceType<typeof WebAssembly.Memory>;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.#memory = wasmMemory(bytes);
    this.buffer = this.#memory.buffer;
    registerVma({ buffer: this.buffer, phys: 0, length: bytes, pgmap: null });
  }

  munmap(): void {
    if (this.buffer.byteLength === 0) return;
    unregisterVma(this.buffer);
    known.set(this.buffer, GONE);
    // Growing detaches the old buffer, even if it grows by 0.
    this.#memory.grow(0);
  }
}

function wasmMemory(bytes: number): InstanceType<typeof WebAssembly.Memory> {
  try {
    return new WebAssembly.Memory({ initial: Math.ceil(bytes / WASM_PAGE) });
  } catch (cause) {
    const hint = `${bytes} bytes were asked for; a WebAssembly.Memory, which stands in here, has at most 4 GiB. Allocate several.`;
    throw errnoError(-ENOMEM, 'mmap', 'host memory', { hint, cause });
  }
}

function checkBytes(bytes: number, path: string): void {
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new P2pdmaError('ERR_OUT_OF_RANGE', `a mapping of ${bytes} bytes: must be a positive integer`);
  }
  assertBufferLength(bytes, path);
}
