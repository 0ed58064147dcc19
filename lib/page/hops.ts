/** What is said of each hop of a verdict: on a terminal with colours, in a page with classes. */
import type { ClientVerdict, Hop } from '../explain/explain.js';

export interface Remark {
  readonly text: string;
  /** What it means for the way; null: nothing. */
  readonly tone: 'good' | 'bad' | 'doubt' | 'aside' | null;
}

export function arrow({ role }: Hop): string {
  switch (role) {
    case 'client':
    case 'up':
      return '▲';
    case 'turn':
    case 'host-bridge':
      return '◆';
    case 'down':
    case 'provider':
      return '▼';
    default:
      return role satisfies never;
  }
}

/** The controller's name, or what is there: `'downstream port'`. */
export function kindOf({ kind, name }: Hop): string {
  return name ?? kind.replaceAll('-', ' ');
}

export function remarksOn(hop: Hop, client: ClientVerdict): Remark[] {
  const said: Remark[] = [];
  const say = (text: string, tone: Remark['tone'] = null) => said.push({ text, tone });
  if (hop.role === 'client') say('does the DMA');
  if (hop.role === 'provider') {
    say(client.hops.length === 1 ? 'does DMA to memory of its own' : 'the memory is here');
  }
  if (hop.role === 'turn') say('the common bridge: turns round here');
  if (hop.acs === 'redirects') {
    if (client.acs.includes(hop.at)) say('ACS redirects peer traffic up', 'doubt');
    else say('ACS redirects, but above the common bridge', 'aside');
  }
  if (hop.acs === 'unknown') say('ACS unknown', 'doubt');
  if (hop.passes !== null) {
    if (hop.passes) say('passes it on', 'good');
    else say('does not pass it on', 'bad');
  } else if (hop.kind === 'host-bridge') say('not known whether it passes it on', 'doubt');
  return said;
}
