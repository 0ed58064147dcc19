/**
 * The matrix of a machine with many drives. Drives that answer alike, whoever asks them and whomever they ask, are one
 * group, and a group is one row and one column:
 *
 *              nvme0  nvme1  nvme2  nvme3                     nvme0 +1   nvme2 +1
 *     nvme0    own    bus 4  bridge bridge          nvme0 +1  own/bus 4  bridge
 *     nvme1    bus 4  own    bridge bridge    ─▶    nvme2 +1  bridge     own/bus 4
 *     nvme2    bridge bridge own    bus 4
 *     nvme3    bridge bridge bus 4  own
 */

/** One answer of the matrix. */
export interface Cell {
  readonly text: string;
  readonly paint: (text: string) => string;
}

/** By provider, then by client. */
export type Cells = ReadonlyMap<string, ReadonlyMap<string, Cell>>;

export interface GroupedMatrix {
  readonly groups: readonly (readonly string[])[];
  /** Each cell is that of the groups’ first members. */
  readonly rows: readonly { readonly group: readonly string[]; readonly cells: readonly string[] }[];
  readonly columns: readonly (readonly string[])[];
}

export function grouped(cells: Cells, clients: readonly string[]): GroupedMatrix {
  const all = [...new Set([...cells.keys(), ...clients])];
  const groups: string[][] = [];
  for (const one of all) {
    const same = groups.find(([first]) => alike(cells, all, first!, one));
    if (same === undefined) groups.push([one]);
    else same.push(one);
  }
  return arranged(cells, clients, groups);
}

/** Each drive is a group of its own. */
export function ungrouped(cells: Cells, clients: readonly string[]): GroupedMatrix {
  const all = [...new Set([...cells.keys(), ...clients])];
  return arranged(
    cells,
    clients,
    all.map((one) => [one]),
  );
}

function arranged(
  cells: Cells,
  clients: readonly string[],
  groups: readonly (readonly string[])[],
): GroupedMatrix {
  const isClient = new Set(clients);
  const columns = groups.filter(([first]) => isClient.has(first!));
  const rows = groups
    .filter(([first]) => cells.has(first!))
    .map((group) => ({ group, cells: columns.map((column) => between(cells, group, column)) }));
  return { groups, rows, columns };
}

/** Exchanging the two changes no answer. What is alike to one is then alike to the other. */
function alike(cells: Cells, all: readonly string[], a: string, b: string): boolean {
  const answer = (provider: string, client: string) => cells.get(provider)?.get(client)?.text;
  if (answer(a, a) !== answer(b, b) || answer(a, b) !== answer(b, a)) return false;
  return all.every(
    (other) =>
      other === a ||
      other === b ||
      (answer(a, other) === answer(b, other) && answer(other, a) === answer(other, b)),
  );
}

function between(cells: Cells, group: readonly string[], column: readonly string[]): string {
  const row = cells.get(group[0]!)!;
  const first = row.get(column[0]!);
  // A stacked device without a client has no answer.
  if (first === undefined) return '';
  const second = group === column && group.length > 1 ? row.get(column[1]!)! : first;
  const shown = second.paint(second.text);
  return second.text === first.text ? shown : `${first.paint(first.text)}/${shown}`;
}

/** `nvme0 +3`: how a group is called in the matrix. */
export function groupName(names: readonly string[]): string {
  return names.length === 1 ? names[0]! : `${names[0]} +${names.length - 1}`;
}

/** `nvme0 to nvme3, nvme7`. */
export function membersOf(names: readonly string[]): string {
  const runs: string[][] = [];
  for (const name of names) {
    const run = runs.at(-1);
    if (run !== undefined && follows(run.at(-1)!, name)) run.push(name);
    else runs.push([name]);
  }
  return runs.map((run) => (run.length > 2 ? `${run[0]} to ${run.at(-1)}` : run.join(', '))).join(', ');
}

function follows(before: string, name: string): boolean {
  const [a, b] = [before, name].map((one) => /^(.*?)(\d+)$/.exec(one));
  return a != null && b != null && a[1] === b[1] && Number(a[2]) + 1 === Number(b[2]);
}
