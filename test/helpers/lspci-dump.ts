/** The text that `lspci -xxxx` prints for a machine, what lspci makes of it, and the machines for which tests create such texts. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PciDev, Topology } from '../../lib/index.js';
import { configSpace, type TreeFunction } from '../fixtures/sysfs-tree.js';

export interface DumpOptions {
  /** The number of bytes of configuration space that the user of lspci could read. */
  readonly bytes?: 64 | 256 | 4096;
  /** `-D`, or a machine with several domains. */
  readonly domains?: boolean;
  /** Functions that are missing in the text. */
  readonly without?: readonly string[];
}

export function hexDump(topology: Topology, options: DumpOptions = {}): string {
  const { bytes = 4096, without = [] } = options;
  const all = topology.functions.map(treeFunction);
  const domains = options.domains ?? topology.functions.some(({ bdf }) => !bdf.startsWith('0000:'));
  const kept = topology.functions.filter(({ bdf }) => !without.includes(bdf));
  return kept
    .map((dev) => {
      const config = configSpace(treeFunction(dev), all).subarray(0, dev.acs === 'unknown' ? 256 : bytes);
      return `${headOf(dev, domains)}\n${hexLines(config)}\n`;
    })
    .join('\n');
}

/** False, or why what lspci itself prints cannot be had here. */
export const noLspci: string | false =
  spawnSync('lspci', ['--version']).error === undefined ? false : 'lspci is not installed (package pciutils)';

/** What `lspci OPTIONS` prints where the bytes are those of `dump`. */
export function lspci(dump: string, ...options: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'lspci-'));
  const file = join(folder, 'dump.txt');
  try {
    writeFileSync(file, dump);
    const { status, stdout } = spawnSync('lspci', ['-F', file, ...options], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    // 1: it found no table of the running kernel's modules.
    if (status !== 0 && status !== 1) throw new Error(`lspci ended with ${status}`);
    return stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function headOf({ bdf, class: of, vendor, device }: PciDev, domains: boolean): string {
  const address = domains ? bdf : bdf.replace(/^0000:/, '');
  const hex = (value: number): string => value.toString(16).padStart(4, '0');
  return `${address} ${hex(of >> 8)}: ${hex(vendor)}:${hex(device)}`;
}

function hexLines(config: Buffer): string {
  const lines: string[] = [];
  for (let at = 0; at < config.length; at += 16) {
    const row = [...config.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, '0'));
    lines.push(`${at.toString(16).padStart(2, '0')}: ${row.join(' ')}`);
  }
  return lines.join('\n');
}

export function treeFunction(dev: PciDev): TreeFunction {
  return {
    bdf: dev.bdf,
    upstream: dev.upstream?.bdf ?? null,
    type: dev.portType === 'unknown' ? 'endpoint' : dev.portType,
    vendor: dev.vendor,
    device: dev.device,
    class: dev.class,
    ...(typeof dev.acs === 'number' ? { acs: dev.acs } : {}),
    bars: dev.bars.flatMap((bar) =>
      bar === null || bar.kind === 'io'
        ? []
        : [
            {
              index: bar.index,
              address: bar.cpuAddress,
              busAddress: bar.busAddress,
              size: bar.size,
              prefetchable: bar.prefetchable,
            },
          ],
    ),
  };
}
