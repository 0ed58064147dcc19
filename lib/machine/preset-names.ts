/** The names of the machines in `preset-table.ts`, for those who need no machine. */

export const PRESET_NAMES = [
  'switch',
  'nested-switches',
  'multi-function',
  'root-ports',
  'root-ports-listed',
  'zen',
  'acs',
  'acs-listed',
  'iommu',
  'iommu-switch',
  'iommu-unsupported',
  'bus-offset',
  'no-cmb',
  'small-cmb',
  'misaligned-cmb',
  'cmb-read-only',
  'four-drives',
  'mirror',
  'multipath',
] as const;

export type PresetName = (typeof PRESET_NAMES)[number];

/** The preset that is used if no machine is specified. */
export const DEFAULT_PRESET: PresetName = 'switch';

const known: readonly string[] = PRESET_NAMES;

export function isPresetName(name: string): name is PresetName {
  return known.includes(name);
}
