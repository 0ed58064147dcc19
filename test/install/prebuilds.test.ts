/** What the prebuilt addons ask of the system that loads them: read out of the files themselves. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = packageRoot();
const NEWEST_GLIBC = '2.28';
/** Stripped, with its part of the C++ library. */
const MAX_SIZE = 256 * 1024;

/** What glibc and musl both have, by these names; what Node-API is; and what any linker leaves open if it is not there. */
const EVERYWHERE = new Set([
  ...[
    '__errno_location',
    'abort',
    'calloc',
    'clock_gettime',
    'close',
    'dlsym',
    'eventfd',
    'fallocate',
    'fcntl',
    'free',
    'fsync',
  ],
  ...['ftruncate', 'ioctl', 'lseek', 'madvise', 'malloc', 'memchr', 'memcmp'],
  ...[
    'memcpy',
    'memmove',
    'memset',
    'mmap',
    'munmap',
    'open',
    'poll',
    'pread',
    'preadv',
    'pwritev',
    'read',
    'recv',
    'send',
    'strlen',
  ],
  ...['sigfillset', 'syscall', 'sysconf', 'write'],
  ...[
    'attr_destroy',
    'attr_init',
    'attr_setstacksize',
    'cond_broadcast',
    'cond_destroy',
    'cond_signal',
    'cond_wait',
  ]
    .concat(['create', 'join', 'mutex_destroy', 'mutex_lock', 'mutex_unlock', 'sigmask'])
    .map((name) => `pthread_${name}`),
]);
const WEAK = new Set([
  '_ITM_deregisterTMCloneTable',
  '_ITM_registerTMCloneTable',
  '__gmon_start__',
  '__cxa_finalize',
]);

const MACHINES: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

interface Elf {
  readonly machine: number;
  readonly needed: readonly string[];
  /** Names that others must have. */
  readonly wanted: readonly string[];
  readonly offered: readonly string[];
  /** Of the C library: `2.17`. */
  readonly versions: readonly string[];
}

const SHT_DYNAMIC = 6;
const SHT_DYNSYM = 11;
const SHT_GNU_VERNEED = 0x6ffffffe;

function readElf(file: string): Elf {
  const bytes = readFileSync(file);
  const u64 = (at: number) => Number(bytes.readBigUInt64LE(at));
  const text = (at: number) => bytes.toString('latin1', at, bytes.indexOf(0, at));
  const table = u64(0x28);
  const sections = Array.from({ length: bytes.readUInt16LE(0x3c) }, (_, i) => {
    const at = table + i * 64;
    return {
      type: bytes.readUInt32LE(at + 4),
      at: u64(at + 24),
      size: u64(at + 32),
      link: bytes.readUInt32LE(at + 40),
    };
  });
  const entries = (type: number, size: number) => {
    const section = sections.find((one) => one.type === type);
    if (section === undefined) return [];
    const strings = sections[section.link]!.at;
    return Array.from({ length: section.size / size }, (_, i) => ({ at: section.at + i * size, strings }));
  };
  const symbols = entries(SHT_DYNSYM, 24)
    .slice(1)
    .map(({ at, strings }) => ({
      name: text(strings + bytes.readUInt32LE(at)),
      defined: bytes.readUInt16LE(at + 6) !== 0,
    }))
    .filter(({ name }) => name !== ''); // a section's
  const needed = entries(SHT_DYNAMIC, 16)
    .filter(({ at }) => u64(at) === 1)
    .map(({ at, strings }) => text(strings + u64(at + 8)));
  return {
    machine: bytes.readUInt16LE(0x12),
    needed,
    wanted: symbols.filter(({ defined }) => !defined).map(({ name }) => name),
    offered: symbols.filter(({ defined }) => defined).map(({ name }) => name),
    versions: versions(),
  };

  /** SHT_GNU_verneed: a chain of files, each with a chain of versions. */
  function versions(): string[] {
    const section = sections.find(({ type }) => type === SHT_GNU_VERNEED);
    const found: string[] = [];
    if (section === undefined) return found;
    const strings = sections[section.link]!.at;
    for (let file = section.at, next = 1; next !== 0; file += next) {
      let version = file + bytes.readUInt32LE(file + 8);
      for (let i = 0; i < bytes.readUInt16LE(file + 2); i++) {
        found.push(text(strings + bytes.readUInt32LE(version + 8)).replace('GLIBC_', ''));
        version += bytes.readUInt32LE(version + 12);
      }
      next = bytes.readUInt32LE(file + 12);
    }
    return found;
  }
}

function newer(version: string, than: string): boolean {
  return version.localeCompare(than, 'en', { numeric: true }) > 0;
}

t.test('reading ELF: Node itself, by what is known of it', async (t) => {
  const node = readElf(process.execPath);
  t.ok(node.needed.includes('libc.so.6'));
  t.ok(node.offered.includes('napi_create_object'));
  t.ok(node.versions.includes('2.17') || node.versions.includes('2.2.5'));
  t.ok(newer('2.34', NEWEST_GLIBC) && !newer('2.5', NEWEST_GLIBC) && !newer('2.28', NEWEST_GLIBC));
});

for (const [arch, machine] of Object.entries(MACHINES)) {
  for (const libc of ['glibc', 'musl'] as const) {
    const file = join(root, `prebuilds/linux-${arch}/p2pdma.${libc}.node`);
    const skip = existsSync(file) ? false : 'not built: npm run prebuild';
    t.test(`linux-${arch}, ${libc}`, { skip }, async (t) => {
      const elf = readElf(file);
      t.equal(elf.machine, machine);
      t.ok(statSync(file).size < MAX_SIZE, `${statSync(file).size} bytes`);
      const strange = elf.wanted.filter(
        (name) => !/^napi_/.test(name) && !EVERYWHERE.has(name) && !WEAK.has(name),
      );
      t.strictSame(strange, [], 'nothing of libuv, of the C++ library, or of glibc alone');
      t.ok(elf.wanted.includes('napi_create_threadsafe_function'));
      t.strictSame([...elf.offered].sort(), [
        'napi_register_module_v1',
        'node_api_module_get_api_version_v1',
      ]);
      t.strictSame(
        elf.versions.filter((version) => newer(version, NEWEST_GLIBC)),
        [],
      );
      // Bun on musl refuses whatever asks for glibc by name.
      t.strictSame(elf.needed, libc === 'glibc' ? ['libc.so.6'] : []);
      t.equal(elf.versions.length > 0, libc === 'glibc');
    });
  }
}

function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}
