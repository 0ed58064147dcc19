/**
 * `p2pdma snapshot` of whatever machine this is, and the emulator on it: its verdicts are the ones about the machine
 * itself, and they foretell what the kernel answered when it was asked to transfer (survey.test.ts, run before).
 *
 *     machine ──snapshot──▶ machine.json ──explain --machine──▶ verdicts ─┐
 *        ├─────explain──────────────────────────────────────▶ verdicts ──┼── all the same
 *        └─────pread, pwrite with CMB memory (survey)───────▶ answers ───┘
 */
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { ClientVerdict, Explanation } from '../../../lib/index.js';
import { asked } from './command.js';
import { guest } from './guest.js';
import type { Survey } from './survey.test.js';

const { drives } = guest();

type Verdict = Pick<ClientVerdict, 'mapType' | 'distance' | 'rule' | 'acs' | 'acsKnown' | 'reason'>;

/** `'provider client'` → what decides about them, by the description's names. */
function verdicts({ providers }: { providers: Explanation[] }): Record<string, Verdict> {
  const name = (bdf: string) => drives.find((drive) => drive.bdf === bdf)!.name;
  const found: Record<string, Verdict> = {};
  for (const { provider, notes, clients } of providers) {
    t.same(notes, [], 'a provider that lends');
    for (const { bdf, mapType, distance, rule, acs, acsKnown, reason } of clients) {
      found[`${name(provider)} ${name(bdf)}`] = { mapType, distance, rule, acs, acsKnown, reason };
    }
  }
  return found;
}

t.test('the snapshot of a machine is that machine', async (t) => {
  const machine = await asked('snapshot');
  writeFileSync('/tmp/machine.json', JSON.stringify(machine));
  const [real, emulated] = await Promise.all([
    asked('explain').then(verdicts),
    asked('explain', '--machine', '/tmp/machine.json').then(verdicts),
  ]);
  const providers = drives.filter(({ allocate }) => allocate !== null);
  t.equal(Object.keys(real).length, providers.length * drives.length, 'every provider against every drive');
  t.strictSame(emulated, real);

  const survey = JSON.parse(readFileSync('/out/survey.json', 'utf8')) as Survey;
  const refused = (provider: string, client: string) =>
    emulated[`${provider} ${client}`]!.mapType === 'NOT_SUPPORTED';
  const foretold = Object.keys(survey).map((key) => {
    const [provider, source, destination] = key.split(' ') as [string, string, string];
    if (refused(provider, source)) return [key, 'pread errno 121'];
    return [key, refused(provider, destination) ? 'pwrite errno 121' : 'ok'];
  });
  t.ok(foretold.length > 0, `${foretold.length} transfers`);
  t.strictSame(Object.fromEntries(foretold), survey);
  const kinds = Object.values(emulated).map(({ mapType }) => mapType);
  t.comment(`note: snapshot: ${[...new Set(kinds)].sort().join(', ')}; ${foretold.length} answers foretold`);
});
