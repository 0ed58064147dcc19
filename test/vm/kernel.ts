import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { cacheFolder, hashOf, needSpace, output, run, VmError, vmFile, which } from './host.js';
import { ensureStockKernel, type Kernel } from './stock-kernel.js';

export type { Kernel };

/** The kernels that are booted: Debian's source packages, and what of kernel/config they do not heed. */
const BUILT = {
  /** The referee: user space can map p2pmem since 6.2. */
  '6.12': { source: 'linux-source-6.12', differs: [] },
  /** Before that: the kernel does peer-to-peer DMA for its own drivers only. */
  '6.1': {
    source: 'linux-source-6.1',
    // Zones want the deadline scheduler there.
    differs: ['CONFIG_INTEL_IOMMU_DEFAULT_ON', 'CONFIG_MQ_IOSCHED_DEADLINE'],
  },
} satisfies Record<string, { readonly source: string; readonly differs: readonly string[] }>;

/** Debian's own images, by the series whose newest is fetched. */
const STOCK = {
  /** Without CONFIG_PCI_P2PDMA. */
  'stock-6.1': '6.1',
  /** From here on multipath heads and md arrays take peer memory. */
  'stock-7.2': '7.2',
  'stock-7.3': '7.3',
} satisfies Record<string, string>;

export type Series = keyof typeof BUILT | keyof typeof STOCK;

/** The kernel of a series, from the cache or made now. @throws VmError it cannot be had here */
export function ensureKernel(
  series: Series = '6.12',
  report: (line: string) => void = () => {},
): Promise<Kernel> {
  return series in STOCK
    ? ensureStockKernel(STOCK[series as keyof typeof STOCK], report)
    : ensureBuiltKernel(series as keyof typeof BUILT, report);
}

/** Part of the cache key: raise it when the way of building changes. */
const RECIPE = 2;

/** Parts of the source that no configuration here reads; leaving them out halves the unpacking. */
const UNREAD = ['*/Documentation/*/*', '*/drivers/gpu/drm/amd/include/*', '*/tools/testing/selftests/*'];

/** Debian's kernel of a series with kernel/config on top of tinyconfig. Built once per source and config. */
async function ensureBuiltKernel(
  series: keyof typeof BUILT,
  report: (line: string) => void,
): Promise<Kernel> {
  const { source: sourcePackage, differs } = BUILT[series];
  const archive = `/usr/src/${sourcePackage}.tar.xz`;
  if (!existsSync(archive)) {
    throw new VmError(`No kernel source: ${archive} is missing. Run: apt-get install ${sourcePackage}`);
  }
  const source = output('dpkg-query', ['-W', `-f=\${Version}`, sourcePackage]);
  if (source === null)
    throw new VmError(`${archive} is there, but not from Debian's package ${sourcePackage}.`);
  const fragment = readFileSync(vmFile('kernel', 'config'), 'utf8');
  const key = hashOf(source, fragment, String(RECIPE));
  const kept = cacheFolder('kernel');
  const image = path.join(kept, `bzImage-${key}`);
  if (existsSync(image))
    return { image, source: `${sourcePackage} ${source}`, buildSeconds: 0, modules: null };

  for (const tool of ['make', 'gcc', 'flex', 'bison', 'bc', 'xz', 'zstd']) {
    if (which(tool) === null)
      throw new VmError(`No ${tool}, which the kernel's build needs. Run: apt-get install ${tool}`);
  }
  needSpace(kept, 2.5 * 2 ** 30, 'Building the kernel');
  const log = path.join(kept, `build-${key}.log`);
  rmSync(log, { force: true });
  const started = performance.now();
  const work = cacheFolder('kernel', `work-${key}-${process.pid}`);
  const make = async (...targets: string[]) =>
    run('make', ['-s', `-j${availableParallelism()}`, ...targets], {
      cwd: path.join(work, 'linux'),
      log,
      env: { KBUILD_BUILD_USER: 'p2pdma', KBUILD_BUILD_HOST: 'test-vm', KCONFIG_NOTIMESTAMP: '1' },
      what: `The kernel's build (make ${targets.join(' ')})`,
    });
  try {
    report(`kernel: unpacking ${archive} (${source})`);
    const exclude = UNREAD.map((pattern) => `--exclude=${pattern}`);
    const linux = cacheFolder('kernel', path.basename(work), 'linux');
    const args = ['xf', archive, '--strip-components=1', ...exclude, '-C', linux];
    await run('tar', args, { log, what: 'Unpacking the kernel source' });
    report(`kernel: building; log in ${log}`);
    await make('tinyconfig');
    const merge = ['scripts/kconfig/merge_config.sh', '-m', '.config', vmFile('kernel', 'config')];
    await run('sh', merge, { cwd: path.join(work, 'linux'), log, what: 'Merging kernel/config' });
    await make('olddefconfig');
    checkConfig(withoutOptions(fragment, differs), readFileSync(path.join(work, 'linux', '.config'), 'utf8'));
    await make('bzImage');
    renameSync(path.join(work, 'linux/arch/x86/boot/bzImage'), image);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const buildSeconds = (performance.now() - started) / 1000;
  report(`kernel: built in ${buildSeconds.toFixed(0)} s`);
  return { image, source: `${sourcePackage} ${source}`, buildSeconds, modules: null };
}

function withoutOptions(fragment: string, names: readonly string[]): string {
  const lines = fragment.split('\n');
  return lines.filter((line) => !names.some((name) => line.includes(name))).join('\n');
}

/** Kconfig drops an option silently when a dependency is missing; that must not go unnoticed. */
export function checkConfig(fragment: string, config: string): void {
  const lines = new Set(config.split('\n'));
  const dropped = fragment.split('\n').filter((line) => line.startsWith('CONFIG_') && !lines.has(line));
  const kept = fragment
    .split('\n')
    .map((line) => /^# (CONFIG_\w+) is not set$/.exec(line)?.[1])
    .filter((name) => name !== undefined && lines.has(`${name}=y`));
  if (dropped.length + kept.length > 0) {
    throw new VmError(
      `test/vm/kernel/config: Kconfig dropped ${dropped.join(' ') || 'nothing'}; kept ${kept.join(' ') || 'nothing'}`,
    );
  }
}
