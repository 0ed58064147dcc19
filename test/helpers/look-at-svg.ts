/**
 * Measures what a browser has drawn and finds errors in it. These functions run in the page, so they must not use
 * anything defined outside themselves.
 */

/** The small part of the DOM that is used here. The compiler's own DOM library would apply to the whole package. */
interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}
interface Point {
  readonly x: number;
  readonly y: number;
}
interface Element {
  readonly textContent: string | null;
  readonly nextElementSibling: Element | null;
  getAttribute(name: string): string | null;
  getBoundingClientRect(): Box;
  getBBox(): { readonly width: number; readonly height: number };
  getScreenCTM(): object | null;
  getTotalLength(): number;
  getPointAtLength(at: number): { matrixTransform(matrix: object): Point };
  querySelector(selector: string): Element | null;
  querySelectorAll(selector: string): Iterable<Element>;
}
declare const document: Element;
declare function getComputedStyle(element: Element): { readonly fill: string; readonly stroke: string };
declare const DOMParser: new () => { parseFromString(text: string, type: string): Element };

export interface Label {
  readonly text: string;
  readonly contrast: number;
  /** Errors in its position. */
  readonly faults: readonly string[];
}

export interface Look {
  readonly labels: readonly Label[];
  readonly faults: readonly string[];
  /** The contrast between the paper and the lines and borders that carry meaning. */
  readonly lineContrast: number;
  readonly paper: string;
  readonly title: string;
}

export function look(): Look {
  const svg = document.querySelector('svg')!;
  const view = svg.getBoundingClientRect();
  const meets = (a: Box, b: Box) =>
    a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
  const holds = (a: Box, b: Box) =>
    b.left >= a.left - 0.5 && b.right <= a.right + 0.5 && b.top >= a.top - 0.5 && b.bottom <= a.bottom + 0.5;
  const centreIn = (a: Box, b: Box) => {
    const [x, y] = [(b.left + b.right) / 2, (b.top + b.bottom) / 2];
    return x >= a.left && x <= a.right && y >= a.top && y <= a.bottom;
  };
  const luminance = (colour: string) => {
    const [r, g, b] = colour.match(/[\d.]+/g)!.map(Number) as [number, number, number];
    const linear = (c: number) => (c <= 10.31475 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const contrast = (a: string, b: string) => {
    const [x, y] = [luminance(a), luminance(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const rects = [...svg.querySelectorAll('rect')].map((element) => ({
    element,
    box: element.getBoundingClientRect(),
    fill: getComputedStyle(element).fill,
  }));
  const paper = getComputedStyle(svg.querySelector('.paper')!).fill;
  const lines = [...svg.querySelectorAll('path, line')].flatMap((path) => {
    const matrix = path.getScreenCTM()!;
    const points: Point[] = [];
    for (let at = 0; at <= path.getTotalLength(); at += 3) {
      const { x, y } = path.getPointAtLength(at).matrixTransform(matrix);
      points.push({ x, y });
    }
    return points;
  });
  const texts = [...svg.querySelectorAll('text')].map((element) => ({
    element,
    text: element.textContent ?? '',
    box: element.getBoundingClientRect(),
    // getBBox is the box of the painted text, without the page's transforms.
    inner: element.getBBox(),
  }));
  const labels = texts.map(({ element, text, box, inner }, i) => {
    const faults: string[] = [];
    if (inner.width <= 0 || inner.height <= 0) faults.push('is not drawn');
    if (!holds(view, box)) faults.push('leaves the picture');
    for (const other of texts.slice(i + 1)) if (meets(box, other.box)) faults.push(`touches '${other.text}'`);
    // The text lies on the last painted rectangle that contains its centre.
    const below = rects.filter((rect) => centreIn(rect.box, box)).at(-1)!;
    for (const { element: rect, box: other } of rects) {
      if (meets(other, box) && !holds(other, box) && rect !== below.element)
        faults.push(`lies across the edge of a ${rect.getAttribute('class')}`);
    }
    if (!holds(below.box, box)) faults.push(`leaves its box (${below.element.getAttribute('class')})`);
    if (
      lines.some(({ x, y }) => x > box.left - 1 && x < box.right + 1 && y > box.top + 1 && y < box.bottom - 1)
    )
      faults.push('is crossed by a line');
    return { text, contrast: contrast(getComputedStyle(element).fill, below.fill), faults };
  });
  const faults: string[] = [];
  const nodes = [...svg.querySelectorAll('g > g > title')].map((title) => title.nextElementSibling!);
  const frames = [...svg.querySelectorAll('rect.frame')];
  for (const [i, a] of nodes.entries()) {
    const box = a.getBoundingClientRect();
    if (!holds(view, box)) faults.push(`box ${i} leaves the picture`);
    for (const b of nodes.slice(i + 1))
      if (meets(box, b.getBoundingClientRect())) faults.push(`boxes touch: ${i}`);
    for (const frame of frames) {
      const edge = frame.getBoundingClientRect();
      if (meets(edge, box) && !holds(edge, box)) faults.push(`box ${i} lies across a frame`);
    }
  }
  const strokes = [
    ...[...svg.querySelectorAll('.route, .link, rect.box')].map((e) => getComputedStyle(e).stroke),
    ...[...svg.querySelectorAll('rect.p2p, rect.host')].map((e) => getComputedStyle(e).fill),
  ];
  return {
    labels,
    faults,
    lineContrast: Math.min(...strokes.map((stroke) => contrast(stroke, paper))),
    paper,
    title: svg.querySelector('title')!.textContent!,
  };
}

/** Parses the SVG strictly, as XML, because an HTML page tolerates errors. */
export function parseError(svg: string): string | null {
  const parsed = new DOMParser().parseFromString(svg, 'image/svg+xml');
  return parsed.querySelector('parsererror')?.textContent ?? null;
}
