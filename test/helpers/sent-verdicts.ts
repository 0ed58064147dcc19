/** What a machine that somebody described says of every two of its drives. */
import type { ClientVerdict, System } from '../../lib/index.js';

type Pair = readonly [pair: string, verdict: ClientVerdict];

/** `'0000:04:00.0 to 0000:03:00.0'`: the client and the provider. */
export function verdictsByPair(system: System): Pair[] {
  const drives = system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []);
  return drives.flatMap((provider) =>
    system
      .explain(provider, drives)
      .clients.map((verdict) => [`${verdict.bdf} to ${provider}`, verdict] as const),
  );
}

/** Null: it is not known. */
export function sureVerdict({ acsKnown, mapType }: ClientVerdict): ClientVerdict['mapType'] | null {
  return acsKnown && mapType !== 'UNKNOWN' ? mapType : null;
}

/** In one line each, for tables: `'0000:04:00.0 to 0000:03:00.0: BUS_ADDR'`. */
export function verdictLines(system: System): string[] {
  return verdictsByPair(system)
    .map(([pair, verdict]) => `${pair}: ${sureVerdict(verdict) ?? 'not known'}, ${verdict.rule}`)
    .sort();
}
