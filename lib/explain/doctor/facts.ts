/**
 * The facts that the checks use, for three kinds of machine: this one, a captured tree of another one, and an emulated
 * one. Reading them does not require the addon. What this process is permitted to do is only known on this machine.
 */
import { accessSync, constants } from 'node:fs';
import type { Backend, LeakReport } from '../../backend/backend.js';
import type { Evidence } from '../../backend/evidence.js';
import type { Bdf } from '../../backend/topology.js';
import { P2pdmaError } from '../../base/errors.js';
import { MD_MIRRORS } from '../../kernel/releases/table.js';
import type { CapturedBackend } from '../../native/backend.js';
import type { HostLimits } from '../../native/sysfs/limits.js';
import type { KernelFacts, Sysfs } from '../../native/sysfs/machine.js';
import { type Explanation, explainAll } from '../explain.js';

/** What this process may do on this machine. */
export interface LiveFacts {
  /** Why the native addon cannot be used, and what to do; null: it can. */
  readonly addon: { readonly why: string; readonly hint: string } | null;
  /** Why JavaScript in this runtime cannot see CMB memory, or null. */
  readonly noExternalBuffers: string | null;
  /** Why io_uring is refused; null: it is allowed. Undefined: not known without the addon. */
  readonly noIoUring: string | null | undefined;
  /** Path of the file through which a provider's memory is allocated; null: it has none. */
  readonly door: (bdf: Bdf) => string | null;
  /** The name of the errno if the file cannot be opened for reading and writing; null: it can. */
  readonly refusal: (path: string) => string | null;
  /** Effective user id; null where there is none. */
  readonly uid: number | null;
}

export interface MachineFacts {
  readonly kind: 'live' | 'captured' | 'emulated';
  readonly what: string;
  readonly backend: Backend['name'];
  /** The name of an emulated machine. */
  readonly name: string | null;
  readonly notice: string | null;
  readonly evidence: Evidence | null;
  /** The function after which what was sent of the machine may be cut; null: nothing is known to be missing. */
  readonly cutAfter: string | null;
  readonly machine: Pick<Backend, 'topology' | 'controllers' | 'inspect'>;
  /** The verdict on every pair. It is computed when it is first asked for, and once. */
  readonly pairs: () => readonly Explanation[];
  /** Null: the machine is emulated, so this package acts as its kernel. */
  readonly kernel: KernelFacts | null;
  readonly iommuWhy: string | null;
  /** States of the controllers that are not live, by controller name. */
  readonly states: ReadonlyMap<string, string>;
  readonly limits: HostLimits | null;
  /** md arrays on the drives that write each block to several drives. */
  readonly mirrors: readonly string[];
  readonly live: LiveFacts | null;
  close(): Promise<LeakReport | undefined>;
}

/** The values for machines that are not emulated. */
export const HERE = { backend: 'native', name: null, notice: null, evidence: null, cutAfter: null } as const;

export interface Whose {
  readonly root?: string;
  readonly machine?: string | object;
  readonly kernel?: string;
  /** The data captured on the machine. */
  readonly sent?: CapturedBackend;
}

/** @throws P2pdmaError ERR_BACKEND_UNAVAILABLE (no tree at root), ERR_MACHINE_INVALID */
export async function gatherFacts({ root, machine, kernel, sent }: Whose): Promise<MachineFacts> {
  if (sent !== undefined) return sentFacts(sent, kernel);
  return machine === undefined ? nativeFacts(root ?? '/', kernel) : emulatedFacts(machine, kernel);
}

async function emulatedFacts(spec: string | object, kernel: string | undefined): Promise<MachineFacts> {
  const [{ openEmulator }, { loadMachine }] = await Promise.all([
    import('../../emulator/boot.js'),
    import('../../machine/load.js'),
  ]);
  const described = await loadMachine(spec);
  const backend = await openEmulator({
    machine: kernel === undefined ? described : { ...described, kernel },
  });
  return {
    kind: 'emulated',
    backend: backend.name,
    name: backend.machine,
    notice: backend.notice,
    evidence: null,
    cutAfter: null,
    what: `the emulated machine '${backend.machine}'${asIf(kernel)}`,
    machine: backend,
    pairs: pairsOf(backend),
    kernel: null,
    iommuWhy: null,
    states: new Map(),
    limits: null,
    mirrors: backend.description.arrays.flatMap(({ name, level }) =>
      MD_MIRRORS.includes(level) ? name : [],
    ),
    live: null,
    close: () => backend.close(),
  };
}

function pairsOf(machine: MachineFacts['machine']): MachineFacts['pairs'] {
  let all: readonly Explanation[] | undefined;
  return () => {
    all ??= explainAll(machine);
    return all;
  };
}

function asIf(kernel: string | undefined): string {
  return kernel === undefined ? '' : `, as if it ran Linux ${kernel}`;
}

async function nativeFacts(root: string, kernel: string | undefined): Promise<MachineFacts> {
  const { openNative } = await import('../../native/backend.js');
  const backend = await openNative({ root, inspect: true, ...(kernel === undefined ? {} : { kernel }) });
  const { sysfs } = backend;
  return {
    ...HERE,
    kind: sysfs.live ? 'live' : 'captured',
    what: `${sysfs.live ? 'this machine' : `the tree captured in '${root}'`}${asIf(kernel)}`,
    ...readFacts(backend),
    live: sysfs.live ? await liveFacts((bdf) => sysfs.directory(bdf)) : null,
  };
}

function sentFacts(backend: CapturedBackend, kernel: string | undefined): MachineFacts {
  const { sysfs, evidence } = backend;
  return {
    ...HERE,
    evidence,
    cutAfter: backend.cutAfter,
    kind: 'captured',
    what: `the machine captured in '${sysfs.root}'${asIf(kernel)}`,
    ...readFacts(backend),
    live: null,
  };
}

function readFacts(
  backend: Pick<CapturedBackend, 'topology' | 'controllers' | 'inspect' | 'sysfs' | 'close'>,
): Pick<
  MachineFacts,
  'machine' | 'pairs' | 'kernel' | 'iommuWhy' | 'states' | 'limits' | 'mirrors' | 'close'
> {
  const { sysfs } = backend;
  const states = sysfs.controllers.map(({ name, state }) => [name, state ?? 'live'] as const);
  return {
    machine: backend,
    pairs: pairsOf(backend),
    kernel: sysfs.kernel,
    iommuWhy: sysfs.iommu.why,
    states: new Map(states.filter(([, state]) => state !== 'live')),
    limits: sysfs.limits,
    mirrors: mirrorsOn(sysfs),
    close: () => backend.close(),
  };
}

function mirrorsOn({ devices, controllers }: Sysfs): string[] {
  const disks = controllers.flatMap(({ namespaces }) => namespaces.map(({ name }) => devices.byName(name)));
  const holders = disks.flatMap((disk) => (disk === null ? [] : devices.inUse(disk).holders));
  return [...new Set(holders)].filter((name) => {
    const holder = devices.byName(name);
    const level = holder === null ? undefined : devices.layer(holder).level;
    return level !== undefined && MD_MIRRORS.includes(level);
  });
}

async function liveFacts(directory: (bdf: Bdf) => string | null): Promise<LiveFacts> {
  const [{ loadAddon }, { externalBuffersReason }, { acquireEngine }] = await Promise.all([
    import('../../native/addon.js'),
    import('../../native/memory.js'),
    import('../../native/engine.js'),
  ]);
  let addon: LiveFacts['addon'] = null;
  let noExternalBuffers: string | null = null;
  let noIoUring: LiveFacts['noIoUring'];
  try {
    loadAddon();
    noExternalBuffers = externalBuffersReason();
    noIoUring = whyRefused(() => acquireEngine('uring').release());
  } catch (error) {
    if (!(error instanceof P2pdmaError)) throw error;
    addon = { why: error.message, hint: error.hint };
  }
  return {
    addon,
    noExternalBuffers,
    noIoUring,
    door: (bdf) => {
      const found = directory(bdf);
      return found === null ? null : `${found}/p2pmem/allocate`;
    },
    refusal: (path) => {
      try {
        accessSync(path, constants.R_OK | constants.W_OK);
        return null;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? String(error);
      }
    },
    uid: process.geteuid?.() ?? null,
  };
}

function whyRefused(attempt: () => void): string | null {
  try {
    attempt();
    return null;
  } catch (error) {
    const { cause } = error as Error;
    return cause instanceof Error ? cause.message : String(error);
  }
}
