import { readFileSync } from 'node:fs';
import { output, run, VmError, vmFile, which } from './host.js';

export function neededPackages(): string[] {
  return readFileSync(vmFile('packages.txt'), 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

export function missingPackages(needed = neededPackages()): string[] {
  const listing = output('dpkg-query', ['-W', `-f=\${Package} \${db:Status-Abbrev}\n`]) ?? '';
  const installed = new Set<string>();
  for (const line of listing.split('\n')) {
    const [name, status] = line.split(' ');
    if (name !== undefined && status?.startsWith('ii')) installed.add(name);
  }
  return needed.filter((name) => !installed.has(name));
}

/** Install what packages.txt lists if it is not there: as root on Debian; otherwise say which line does. */
export async function ensurePackages(log: string): Promise<string[]> {
  if (which('dpkg-query') === null || which('apt-get') === null) {
    throw new VmError(
      `The referee is built from Debian packages, and this is not Debian. Run it on Debian 12 with: ${neededPackages().join(' ')}`,
    );
  }
  const missing = missingPackages();
  if (missing.length === 0) return missing;
  const line = `apt-get install --no-install-recommends ${missing.join(' ')}`;
  if (process.getuid?.() !== 0) throw new VmError(`Packages are missing. Run: sudo ${line}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['install', '-y', '-q', '--no-install-recommends', ...missing];
  try {
    await run('apt-get', ['update', '-q'], { log, env });
    await run('apt-get', install, { log, env });
  } catch (cause) {
    throw new VmError(
      `Packages are missing and could not be installed. Run: ${line}\n${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
  return missing;
}
