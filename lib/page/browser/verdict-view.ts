/** The verdict, its way hop by hop with the ACS bits to switch, and all drives beside it. */
import { type AcsControl, PCI_ACS_CR, PCI_ACS_EC, PCI_ACS_RR } from '../../backend/topology.js';
import { hexNumber } from '../../base/words.js';
import type { ClientVerdict, Explanation, Hop } from '../../explain/explain.js';
import { type Answer, kindOfWay, sameVerdict, unreachableIn, verdictWords } from '../answer.js';
import { arrow, kindOf, remarksOn } from '../hops.js';
import type { RouteKind } from '../way.js';
import { byId, element, fill } from './dom.js';

const SYMBOLS: Readonly<Record<RouteKind, string>> = {
  bus: '✓',
  'host-bridge': '◆',
  unknown: '?',
  'host-memory': '–',
  refused: '✗',
};

/** How a function is called in the page: `nvme0 0000:03:00.0`. */
export type NameOf = (bdf: string) => string;

export function drawVerdict(answer: Answer, nameOf: NameOf): void {
  const { pair, before, machine } = answer;
  const heading = before === null ? 'The verdict' : 'The verdict with your changes';
  fill(byId('verdict-heading'), heading);
  fill(byId('verdict'), ...saidOf(pair, nameOf), before === null ? null : change(pair, before));
  const kernel = machine.topology.kernel?.text;
  fill(
    byId('facts'),
    ...factsOn(pair),
    ...remedyBefore(pair, before),
    ...fact('rules of', kernel === undefined ? 'a kernel that is not known' : `Linux ${kernel}`),
  );
  byId('notes').replaceChildren(...pair.notes.map(({ text }) => element('li', {}, text)));
  byId('notes').hidden = pair.notes.length === 0;
  byId('try-remedy').hidden = (pair.clients[0]?.kernelParameter ?? null) === null;
}

function saidOf(pair: Explanation, nameOf: NameOf): HTMLElement[] {
  return [
    ...pair.clients.map((client) =>
      element(
        'p',
        { class: `answer ${kindOfWay(client)}` },
        `${SYMBOLS[kindOfWay(client)]} ${nameOf(client.bdf)} to the memory of ${nameOf(pair.provider)}: ${verdictWords(client)}`,
      ),
    ),
    ...(pair.unreachable ?? []).map(({ asked }) =>
      element('p', { class: 'answer refused' }, `${SYMBOLS.refused} ${asked}: no PCI client`),
    ),
  ];
}

function change(pair: Explanation, before: Explanation): HTMLElement {
  const words = (of: Explanation) =>
    of.clients.map(verdictWords).join('; ') || unreachableIn(of)?.reason || 'no PCI client';
  const same =
    pair.clients.length === before.clients.length &&
    pair.clients.every((client, i) => sameVerdict(client, before.clients[i]!));
  const text = same ? 'Your changes do not change this verdict.' : `The machine as it is: ${words(before)}.`;
  return element('p', { class: 'before' }, text);
}

/** What a change costs is said of the machine as it is. */
function remedyBefore(pair: Explanation, before: Explanation | null): HTMLElement[] {
  const remedy = before?.clients[0]?.remedy ?? null;
  if (remedy === null || remedy === pair.clients[0]?.remedy) return [];
  return fact('remedy for the machine as it is, and its cost', remedy);
}

function fact(label: string, text: string | null): HTMLElement[] {
  return text === null || text === '' ? [] : [element('dt', {}, label), element('dd', {}, text)];
}

function factsOn(pair: Explanation): HTMLElement[] {
  const none = unreachableIn(pair);
  if (none !== null) {
    return [
      ...fact('stack', none.stack.length > 1 ? none.stack.join(' ─▶ ') : null),
      ...fact('why', none.reason),
      ...fact('remedy', none.remedy),
    ];
  }
  const several = pair.clients.length > 1;
  return pair.clients.flatMap((client) => [
    ...fact('client', several ? client.bdf : null),
    ...fact('map type', client.mapType),
    ...fact('stack', client.stack.length > 1 ? client.stack.join(' ─▶ ') : null),
    ...fact('refused', client.refusal),
    ...fact('rule', client.rule),
    ...fact('why', client.reason),
    ...fact('unproven', client.unproven),
    ...fact('zoned', client.zones),
    ...fact('remedy and its cost', client.remedy),
    ...fact('paste', client.kernelParameter === null ? null : `"${client.kernelParameter}"`),
  ]);
}

// --- hop by hop ---

const BITS = [
  ['RR', PCI_ACS_RR, 'P2P Request Redirect'],
  ['CR', PCI_ACS_CR, 'P2P Completion Redirect'],
  ['EC', PCI_ACS_EC, 'P2P Egress Control'],
] as const;

export function drawHops(answer: Answer, changed: ReadonlyMap<string, AcsControl>): void {
  const { pair, machine } = answer;
  const rows = pair.clients.flatMap((client, nth) =>
    client.hops.map((hop, i) => {
      const acs = machine.topology.find(hop.at)?.acs ?? 'none';
      return element(
        'tr',
        {
          class: `${client.acs.includes(hop.at) ? 'redirecting' : ''} ${changed.has(hop.at) ? 'changed' : ''}`,
        },
        element(
          'td',
          {},
          element('span', { 'aria-hidden': 'true' }, arrow(hop)),
          element('span', { class: 'heard' }, hop.role),
        ),
        element('th', { scope: 'row', class: 'address' }, ...addressOf(hop)),
        element('td', {}, kindOf(hop)),
        element('td', {}, ...acsCell(hop, acs, { changed: changed.has(hop.at), row: `${nth}.${i}` })),
        element('td', {}, ...remarks(hop, client)),
      );
    }),
  );
  byId('hops').replaceChildren(...rows);
  byId('way').hidden = rows.length === 0;
}

/** On a narrow screen an address is broken after its domain. */
function addressOf({ at }: Hop): (HTMLElement | string)[] {
  const domain = at.indexOf(':') + 1;
  return [at.slice(0, domain), element('wbr', {}), at.slice(domain)];
}

function remarks(hop: Hop, client: ClientVerdict): (HTMLElement | string)[] {
  const said = remarksOn(hop, client).flatMap(({ text, tone }, i) => [
    ...(i === 0 ? [] : [', ']),
    element('span', { class: tone ?? '' }, text),
  ]);
  return hop.note === null ? said : [...said, ` (${hop.note})`];
}

function acsCell(
  { kind, at }: Hop,
  acs: AcsControl,
  { changed, row }: { readonly changed: boolean; readonly row: string },
): (HTMLElement | string)[] {
  if (kind === 'host-bridge') return ['–'];
  if (acs === 'none') return ['no\u00a0ACS'];
  // A port above the common bridge is on the way twice, so the row is part of the id.
  const button = (text: string, value: string) =>
    element(
      'button',
      { type: 'button', id: `${value} ${row} ${at}`, 'data-acs': value, 'data-at': at },
      text,
      element('span', { class: 'heard' }, ` in ${at}`),
    );
  if (acs === 'unknown') return ['not known ', button('suppose it is clear', 'clear')];
  const boxes = BITS.map(([short, bit, long]) => {
    const box = element('input', {
      type: 'checkbox',
      id: `${short} ${row} ${at}`,
      'data-bit': String(bit),
      'data-at': at,
      checked: (acs & bit) !== 0,
    });
    const name = element('span', { class: 'heard' }, ` (${long}) of ${at}`);
    return element('label', { class: 'bit', title: long }, box, ` ${short}`, name);
  });
  const control = element('span', { class: 'muted' }, ` ${hexNumber(acs, 4)} `);
  return [...boxes, control, ...(changed ? [button('undo', 'undo')] : [])];
}

// --- all drives ---

export function drawDrives({ drives, before: changedPair, pair }: Answer, nameOf: NameOf): void {
  const changed = drives.filter(({ now, before }) => !sameVerdict(now, before)).length;
  const compares = changedPair !== null;
  byId('drives').replaceChildren(
    ...drives.map(({ now, before }) =>
      element(
        'tr',
        { class: sameVerdict(now, before) ? '' : 'changed' },
        element('th', { scope: 'row' }, nameOf(now.bdf)),
        element('td', { class: `said ${kindOfWay(now)}` }, `${SYMBOLS[kindOfWay(now)]} ${verdictWords(now)}`),
        element('td', {}, now.rule),
        element('td', {}, sameVerdict(now, before) ? (compares ? 'the same' : '') : verdictWords(before)),
      ),
    ),
  );
  byId('before-column').hidden = !compares;
  for (const row of byId('drives').children) (row.lastElementChild as HTMLElement).hidden = !compares;
  const sum = compares
    ? `Your changes change the verdict for ${changed} of ${drives.length} drives.`
    : `${drives.length} drives.`;
  fill(byId('drives-sum'), `With the memory of ${nameOf(pair.provider)}: ${sum}`);
}
