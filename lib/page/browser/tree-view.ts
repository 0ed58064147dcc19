/**
 * The PCI tree, as a `tree` of ARIA: one stop of the Tab key; the arrow keys go through it, Home and End to its ends, Enter
 * and the space bar choose a function.
 */

import type { Answer } from '../answer.js';
import { modelOf, type TopoNode } from '../tree.js';
import { byId, element, fill } from './dom.js';

let focused: string | null = null;

export function drawTree({ machine, route }: Answer, all: boolean): void {
  const model = modelOf(machine, { name: '', route, all });
  fill(byId('cpu'), [model.host.title, model.host.subtitle, ...model.host.lines].join(', '));
  const items = model.host.children.map((bridge) => item(bridge, 1));
  fill(byId('tree'), ...items);
  const stop = itemOf(focused) ?? byId('tree').querySelector<HTMLElement>('[role=treeitem]');
  if (stop !== null) stop.tabIndex = 0;
}

function item(node: TopoNode, level: number): HTMLElement {
  const { id, kind, title, subtitle, dev, marks, lines, roles, route, link, details } = node;
  const words = [
    element('span', { class: 'title' }, title),
    element('span', { class: 'muted' }, subtitle),
    ...marks.map(({ kind: mark, text }) => element('span', { class: `mark ${mark}` }, text)),
    ...lines.map((line) => element('span', { class: 'muted' }, line)),
    ...(roles.length === 0 ? [] : [element('span', { class: 'role' }, `◀ ${roles.join(', ')}`)]),
  ].flatMap((span) => [span, document.createTextNode(' ')]);
  const row = element('div', { class: `row ${route ?? ''}` }, ...words);
  const made = element(
    'div',
    {
      role: 'treeitem',
      id: `tree ${id}`,
      class: `item ${kind} ${link === null ? '' : `linked ${link}`}`,
      tabindex: '-1',
      'aria-level': String(level),
      'aria-selected': String(roles.length > 0),
      'data-details': details.join(' · '),
      ...(dev === null ? {} : { 'data-bdf': dev.bdf }),
    },
    row,
  );
  // The name is that of the row: what is below it is not part of it.
  row.id = `row ${id}`;
  made.setAttribute('aria-label', row.textContent!.replaceAll('◀', '').trim());
  if (node.children.length > 0) {
    made.append(element('div', { role: 'group' }, ...node.children.map((child) => item(child, level + 1))));
  }
  return made;
}

function itemOf(id: string | null): HTMLElement | null {
  return id === null ? null : document.getElementById(id);
}

function items(): HTMLElement[] {
  return [...byId('tree').querySelectorAll<HTMLElement>('[role=treeitem]')];
}

function goTo(to: HTMLElement | null | undefined): void {
  if (!to) return;
  for (const one of items()) one.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

export function listenToTree(choose: (bdf: string) => void): void {
  const tree = byId('tree');
  const at = (target: EventTarget | null) => (target as HTMLElement).closest<HTMLElement>('[role=treeitem]');
  tree.addEventListener('focusin', ({ target }) => {
    const on = at(target)!;
    focused = on.id;
    fill(byId('details'), on.dataset.details!);
  });
  tree.addEventListener('click', ({ target }) => {
    const on = at(target);
    goTo(on);
    if (on?.dataset.bdf !== undefined) choose(on.dataset.bdf);
  });
  tree.addEventListener('keydown', (event) => {
    const on = at(event.target)!;
    if (event.key === 'Enter' || event.key === ' ') {
      if (on.dataset.bdf !== undefined) choose(on.dataset.bdf);
    } else {
      const to = next(on, event.key);
      if (to === undefined) return;
      goTo(to);
    }
    event.preventDefault();
  });
}

/** Undefined: the key means nothing here; null: there is nothing in that direction. */
function next(on: HTMLElement, key: string): HTMLElement | null | undefined {
  const all = items();
  const i = all.indexOf(on);
  switch (key) {
    case 'ArrowDown':
      return all[i + 1] ?? null;
    case 'ArrowUp':
      return all[i - 1] ?? null;
    case 'ArrowLeft':
      return on.parentElement!.closest<HTMLElement>('[role=treeitem]');
    case 'ArrowRight':
      return on.querySelector<HTMLElement>('[role=treeitem]');
    case 'Home':
      return all[0]!;
    case 'End':
      return all.at(-1)!;
    default:
      return undefined;
  }
}
