import { type Machine, parseMachine } from './machine.js';
import { PRESET_NAMES, type PresetName } from './preset-names.js';
import { presetTable } from './preset-table.js';

/** All presets; each is parsed when it is first used. */
export const presets: Readonly<Record<PresetName, Machine>> = lazily();

function lazily(): Record<PresetName, Machine> {
  const machines = {} as Record<PresetName, Machine>;
  for (const name of PRESET_NAMES) {
    let machine: Machine | undefined;
    Object.defineProperty(machines, name, {
      enumerable: true,
      get: () => {
        machine ??= parseMachine({ version: 1, name, ...presetTable[name] });
        return machine;
      },
    });
  }
  return machines;
}
