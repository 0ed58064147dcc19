/** Turns PCI functions that are known without their directories in /sys into the directories that the kernel would show. */
import { hexNumber } from '../base/words.js';
import type { FunctionFacts, Gathered } from './sent.js';

const FUNCTIONS = ['sys', 'bus', 'pci', 'devices'];

/** The directory of a function's attributes. */
export function directoryOf(bdf: string): string[] {
  return [...FUNCTIONS, bdf];
}

export function putFunctions({ files, functions }: Gathered): void {
  for (const facts of functions.values()) putFunction(files, facts);
}

function putFunction(files: Gathered['files'], { bdf, config }: FunctionFacts): void {
  const at = directoryOf(bdf);
  const attribute = (name: string, value: string | Buffer): void => {
    files.put([...at, name], value);
  };
  files.folder(at);
  attribute('config', config);
  if (config.length >= 64) {
    attribute('vendor', `${hexNumber(config.readUInt16LE(0), 4)}\n`);
    attribute('device', `${hexNumber(config.readUInt16LE(2), 4)}\n`);
    attribute('class', `${hexNumber(config.readUIntLE(9, 3), 6)}\n`);
  }
}
