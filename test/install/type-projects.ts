/** Small TypeScript projects that use the package, one for each way in which TypeScript resolves modules. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const USE = `
export async function use(system: System): Promise<number> {
  const options: ReadStreamOptions = { start: 0, queueDepth: 4 };
  const stream: P2pReadStream = system.createReadStream('nvme0n1', options);
  for await (const chunk of stream) return (chunk as Buffer).length;
  const error: unknown = await stream.closed;
  return error instanceof P2pdmaError && error.code === 'ERR_NOT_LENT' ? stream.receipt.path.hostDram : 0;
}
export const opened: Promise<System> = openSystem({ machine: 'switch' });
// @ts-expect-error no such option
openSystem({ machine: 'switch', speed: 11 });
export function sealed(system: System, stream: P2pReadStream): void {
  // @ts-expect-error openSystem() makes them
  new System();
  // @ts-expect-error createReadStream() makes them
  new P2pReadStream({ highWaterMark: 1 });
  // @ts-expect-error what a system has inside is not published
  system.context;
  // @ts-expect-error nor what a stream has
  stream.attachment;
  // @ts-expect-error an error has a code
  new P2pdmaError('a message');
  const pace = new Pace(1024);
  // @ts-expect-error the streams spend it
  pace.spend(1, 1);
}
export const refusal: P2pdmaError = new P2pdmaError('ENOSPC', 'as if there was no space', { cause: null });
export const verdict: Diagnosis['verdict'] = 'limited';
export const transport: Receipt['transport'] = 'p2p-bus';
`;
const NAMES = `import {
  type Diagnosis, openSystem, P2pdmaError, P2pReadStream, Pace, type ReadStreamOptions, type Receipt, System,
} from 'p2pdma';`;
const LATE = `
type P2pdma = typeof import('p2pdma', { with: { 'resolution-mode': 'import' } });
export async function use(): Promise<number> {
  const { openSystem }: P2pdma = await import('p2pdma');
  const system = await openSystem({ machine: 'switch' });
  // @ts-expect-error no such option
  await openSystem({ machine: 'switch', speed: 11 });
  return system.createReadStream('nvme0n1').receipt.bytes;
}
`;
const REQUIRED = `import p2pdma = require('p2pdma');
export const opened: Promise<p2pdma.System> = p2pdma.openSystem({ machine: 'switch' });
`;

export interface Kind {
  readonly title: string;
  readonly module: string;
  readonly resolution: string;
  readonly files: Readonly<Record<string, string>>;
}

/** node16 knows no require of ES modules: there CommonJS has import() alone. */
export const KINDS: readonly Kind[] = [
  { ...kind('node16'), files: { 'esm.mts': NAMES + USE, 'late.cts': LATE } },
  {
    ...kind('nodenext'),
    files: { 'esm.mts': NAMES + USE, 'cjs.cts': NAMES + USE, 'required.cts': REQUIRED },
  },
  { ...kind('preserve', 'bundler'), files: { 'esm.mts': NAMES + USE, 'plain.ts': NAMES + USE } },
];

function kind(module: string, resolution = module): Omit<Kind, 'files'> {
  return { title: `module ${module}, moduleResolution ${resolution}`, module, resolution };
}

/** What TypeScript before 5.8 checks: under nodenext it had no require of ES modules either. */
export function beforeRequire({ files, ...kind }: Kind): Kind {
  const [, late] = Object.entries(KINDS[0]!.files);
  const imports = Object.entries(files).filter(([name]) => !name.endsWith('.cts'));
  return {
    ...kind,
    files: Object.fromEntries(kind.module === 'nodenext' ? [...imports, late!] : Object.entries(files)),
  };
}

/** Writes it into a folder below `folder`, where the package is installed; returns that folder. */
export function writeProject(folder: string, { module, resolution, files }: Kind): string {
  const project = join(folder, `types-${module}`);
  rmSync(project, { recursive: true, force: true });
  mkdirSync(project);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(project, name), text);
  const compilerOptions = {
    ...{ module, moduleResolution: resolution, target: 'es2022', lib: ['es2023', 'esnext.disposable'] },
    // Once with our declarations themselves, as whoever has not set skipLibCheck.
    ...{ types: ['node'], strict: true, noEmit: true, skipLibCheck: module !== 'nodenext' },
  };
  const config = JSON.stringify({ compilerOptions, files: Object.keys(files) });
  writeFileSync(join(project, 'tsconfig.json'), config);
  return project;
}
