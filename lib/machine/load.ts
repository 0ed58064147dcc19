import { constants, type Stats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { optionError } from '../base/arguments.js';
import { type ErrorCode, P2pdmaError } from '../base/errors.js';
import { didYouMean } from '../base/nearest.js';
import { accessHint, specialFile } from '../host/path-advice.js';
import { MACHINE_TEXT_LIMIT, type Machine, parseMachine, parseMachineText } from './machine.js';
import { isPresetName, PRESET_NAMES } from './preset-names.js';
import { presets } from './presets.js';

/**
 * A machine from a preset's name, a JSON file's path, or a description.
 * @throws P2pdmaError ERR_MACHINE_INVALID (what is wrong and where), ENOENT, EACCES
 */
export async function loadMachine(spec: string | object): Promise<Machine> {
  if (typeof spec !== 'string') return parseMachine(spec);
  if (isPresetName(spec)) return presets[spec];
  if (!/[./\\]/.test(spec)) {
    throw optionError('ERR_MACHINE_INVALID', 'machine', `there is no preset '${spec}'`, {
      received: spec,
      hint: `${didYouMean(spec, PRESET_NAMES)} Presets: ${PRESET_NAMES.join(', ')}. A file's path has a dot or a slash.`.trimStart(),
    });
  }
  return parseMachineText(await readLimited(spec), spec);
}

/** Reads at most one byte more than the limit, so that a huge file is refused quickly. */
async function readLimited(path: string): Promise<string> {
  try {
    // Check this first: opening a FIFO or a device can block or have side effects.
    refuseNoFile(path, await stat(path));
    const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      refuseNoFile(path, await file.stat());
      const buffer = Buffer.alloc(64 * 1024);
      const parts: Buffer[] = [];
      let length = 0;
      while (length <= MACHINE_TEXT_LIMIT) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length);
        if (bytesRead === 0) break;
        parts.push(Buffer.from(buffer.subarray(0, bytesRead)));
        length += bytesRead;
      }
      return Buffer.concat(parts).toString('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    if (!Object.hasOwn(WORDS, code)) throw error;
    const what = WORDS[code as keyof typeof WORDS] ?? message;
    throw new P2pdmaError(code as ErrorCode, (name) => `option ${name('machine')}: ${what}, open '${path}'`, {
      ...{ begins: code, option: 'machine' },
      path,
      syscall: 'open',
      hint: code === 'EACCES' ? accessHint(path) : elsewhere(path),
      cause: error,
    });
  }
}

function refuseNoFile(path: string, stats: Stats): void {
  if (stats.isFile() || stats.isDirectory()) return;
  const what = specialFile(stats) ?? 'a block device';
  throw optionError(
    'ERR_MACHINE_INVALID',
    'machine',
    `'${path}' is ${what}, and a machine is a regular file`,
    {
      ...{ path, received: path },
      hint: `Write it to a file first: cat '${path}' > machine.json.`,
    },
  );
}

const WORDS = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'that is a directory, not a JSON file',
  ENOTDIR: 'a component of the path is not a directory',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'name too long',
};

function elsewhere(path: string): string {
  const meant = didYouMean(basename(path, '.json'), PRESET_NAMES);
  return `${meant} Presets: ${PRESET_NAMES.join(', ')}; or write a file of a machine: \`p2pdma snapshot > machine.json\` (schema/machine.schema.json says what is in it).`.trimStart();
}
