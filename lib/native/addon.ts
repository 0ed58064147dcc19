/**
 * The interface of the C++ addon (src-native/), and the code that loads it. It is never loaded at import, so that the emulator
 * works without an addon.
 *
 * Native functions return a negative errno instead of throwing; nothing here does I/O.
 */
import { buildIt, loadAddonFile, unavailable } from './addon-file.js';

/** New memory, or the reason why it was refused. */
export type NativeMapping =
  | {
      readonly buffer: ArrayBuffer;
      readonly id: number;
      readonly address: number;
      /** Huge pages were requested, and the kernel did not refuse. */
      readonly huge: boolean;
      readonly errno?: undefined;
    }
  | { readonly errno: number; readonly syscall: string };

export interface BlockFacts {
  readonly size: number;
  readonly logicalBlockSize: number;
  /** BLKSECTGET in bytes; 0 if unknown. */
  readonly maxTransfer: number;
}

/** What this thread's part of the addon holds open, and what it has done. */
export interface Counters {
  readonly fds: number;
  /** Files of /proc that are kept open for their announcements. */
  readonly watched: number;
  readonly mappings: number;
  readonly mappedBytes: number;
  readonly rings: number;
  /** Number of files in the rings' tables of registered files. */
  readonly registeredFiles: number;
  readonly threads: number;
  readonly inFlight: number;
  /** Number of io_uring_enter calls that submitted something. */
  readonly enters: number;
  readonly submitted: number;
  /** Number of calls into JavaScript, each with a batch of completions. */
  readonly callbacks: number;
}

export interface Addon {
  /** The interface version with which it was built: see INTERFACE. */
  readonly interface: number;
  /** The addon's values of LAYOUT in engine.ts. */
  readonly layout: Readonly<Record<string, number>>;
  counters(): Counters;

  mapHost(bytes: number): NativeMapping;
  mapFile(path: string, bytes: number): NativeMapping;
  /** Detach now; munmap when no request uses the memory any more. False: it is no longer a mapping. */
  unmap(id: number, buffer: ArrayBuffer): boolean;
  /** Address of the first byte of a view's ArrayBuffer; 0: detached or empty. */
  addressOf(view: Uint8Array): number;
  /** The mapping that begins at an address; -1: none. */
  mappingAt(address: number): number;
  externalBuffers(): boolean;

  /**
   * `words`: is filled with what was opened, for statIn() in file-stat.ts. If that is a regular file, setDirect() or setBlocking()
   * is called before a transfer that may have to wait.
   */
  openFile(path: string, flags: number, mode: number, words?: Float64Array): number;
  /** As openFile, but only a regular file that is there is opened; -EINVAL: it is something else. */
  openRegular(path: string, flags: number, mode: number, words: Float64Array): number;
  closeFd(fd: number): number;
  /** ftruncate(2) to 0 on this thread, for a file for which this is short. */
  empty(fd: number): number;
  /** Transfers are direct from now on, and wait; -EINVAL if the filesystem does not support O_DIRECT. */
  setDirect(fd: number): number;
  /** Transfers wait from now on. */
  setBlocking(fd: number): number;
  statFd(fd: number, words: Float64Array): number;
  /**
   * Read on this thread, as much as one call returns; used to look at a file while it is opened. Deno's node:fs does not know
   * descriptors that it has not opened itself.
   */
  readAt(fd: number, into: Uint8Array, offset: number): number;
  fileSize(fd: number): number;
  blockFacts(fd: number): BlockFacts | number;
  nsid(fd: number): number;
  /** FS_IOC_GETFLAGS, or a negative errno. */
  fileFlags(fd: number): number;
  /**
   * The FIEMAP_EXTENT_* flags of all the file's extents, combined with OR, or a negative errno. Dirty data is written back
   * first.
   */
  extentFlags(fd: number): number;
  /** SEEK_DATA (0) or SEEK_HOLE (1). */
  seek(fd: number, offset: number, what: 0 | 1): number;
  /** Open a file of /proc that announces its changes. */
  openWatched(path: string): number;
  closeWatched(fd: number): number;
  /** Whether a watched file may have changed since it was opened, or since the last call. */
  hasChanged(fd: number): boolean;

  /** Returns an engine id, or a negative errno. The arrays are shared with C++: see engine.ts. */
  openEngine(
    wishes: {
      readonly ring: boolean;
      readonly entries: number;
      /** Libuv's loop may be used, if this runtime has it: see src-native/waker.h. */
      readonly loop: boolean;
    },
    requests: Float64Array,
    completions: Int32Array,
    control: Int32Array,
    onCompletions: (count: number) => void,
  ): number;
  wake(engine: number): void;
  /** Returns true if C++ notices the end of each turn of the event loop. Otherwise flush() must be called there. */
  knowsTurns(engine: number): boolean;
  /** Submit everything that is queued to the kernel, and report completions that are already there. */
  flush(engine: number): void;
  /** Retry, after a pause, the requests that are waiting for a retry. */
  retry(engine: number): void;
  take(engine: number): void;
  closeEngine(engine: number): void;
  /** IORING_SETUP_* flags; -1: no ring. */
  ringFlags(engine: number): number;
}

/**
 * The version of the interface between JavaScript and C++. It is raised with each change of Addon or of engine.ts's arrays,
 * here and in addon.cc.
 */
const INTERFACE = 7;

let loaded: Addon | null = null;

/**
 * The addon; it is loaded at the first call.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE with the reason.
 */
export function loadAddon(): Addon {
  loaded ??= ofOurs(loadAddonFile() as Addon);
  return loaded;
}

/** Checks the addon before any other call, because an addon built from other sources would misinterpret the arguments. */
function ofOurs(addon: Addon): Addon {
  if (addon.interface === INTERFACE) return addon;
  throw unavailable(
    `it was built from other sources than this JavaScript: its interface is ${addon.interface ?? 'not numbered'}, ` +
      `${INTERFACE} is needed`,
    { hint: buildIt() },
  );
}

/** The addon's counters; all zero if it is not loaded. */
export function nativeCounters(): Counters {
  return (
    loaded?.counters() ?? {
      fds: 0,
      watched: 0,
      mappings: 0,
      mappedBytes: 0,
      rings: 0,
      registeredFiles: 0,
      threads: 0,
      inFlight: 0,
      enters: 0,
      submitted: 0,
      callbacks: 0,
    }
  );
}
