/**
 * Every provider × source × destination of whatever machine this is: what the kernel answers, and whether the
 * data is right. The plan's `data` says what must come out.
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import {
  copyInC,
  dmesg,
  type GuestDrive,
  guest,
  guestPlan,
  p2pmem,
  sh,
  witnessed,
  writePattern,
} from './guest.js';

/** `'provider source destination'` → `'ok'`, or what went wrong; a missing one must be `'ok'`. */
export type Survey = Readonly<Record<string, string>>;

const { drives } = guest();
const BYTES = 128 * 1024;

async function outcome(provider: GuestDrive, source: GuestDrive, destination: GuestDrive, seed: number) {
  writePattern(source.disks[0]!, BYTES, seed);
  const before = p2pmem(provider, 'available');
  const run = () => copyInC(source.disks[0]!, destination.disks[0]!, provider.allocate!, BYTES, BYTES);
  const copied = run();
  if (p2pmem(provider, 'available') !== before) return 'leaked';
  if (copied.errno !== 0) return `${copied.call} errno ${copied.errno}`;
  const same = sh(`cmp -n ${BYTES} ${source.disks[0]} ${destination.disks[0]}`).status === 0;
  if (!same) return 'wrong data';
  const expect = {
    bytes: BYTES,
    source: source.name,
    destination: destination.name,
    provider: provider.name,
  };
  await witnessed(`${provider.name}: ${source.name} → ${destination.name}`, expect, run);
  return 'ok';
}

t.test('who can reach whose memory', async (t) => {
  const expected = (guestPlan().data ?? {}) as Survey;
  const found: Record<string, string> = {};
  let seed = 1;
  for (const provider of drives.filter((d) => d.allocate !== null)) {
    for (const source of drives) {
      for (const destination of drives) {
        if (source === destination) continue;
        const key = `${provider.name} ${source.name} ${destination.name}`;
        found[key] = await outcome(provider, source, destination, seed++);
        t.equal(found[key], expected[key] ?? 'ok', key);
      }
    }
  }
  writeFileSync('/out/survey.json', JSON.stringify(found));
  const providers = drives.filter((d) => d.allocate !== null).map((d) => d.name);
  t.comment(`note: providers: ${providers.join(' ') || 'none'}; ${JSON.stringify(found)}`);
  for (const line of dmesg()) if (/allow-?list|whitelist|DMAR: \[|ACS/.test(line)) t.comment(`note: ${line}`);
});
