/** Elements. Every text from the machine becomes a text node, never markup. */
import { printable } from '../../base/printable.js';

type Child = Node | string | null;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | boolean>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(name, value === true ? '' : value);
  }
  fill(made, ...children);
  return made;
}

/** Replaces what is in it. */
export function fill(into: Element, ...children: readonly Child[]): void {
  into.replaceChildren(
    ...children.flatMap((child) =>
      child === null ? [] : typeof child === 'string' ? document.createTextNode(printable(child)) : child,
    ),
  );
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** Draws again; the element that had the focus has it afterwards. If it is no longer there, `instead` gets it. */
export function keepingFocus(instead: string, draw: () => void): void {
  const id = document.activeElement?.id ?? '';
  draw();
  if (id !== '' && document.activeElement?.id !== id) (document.getElementById(id) ?? byId(instead)).focus();
}
