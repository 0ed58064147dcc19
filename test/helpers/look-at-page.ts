/** Measures a page in the browser. The function runs there, so it must not use anything defined outside itself. */

interface Seen {
  readonly text: string;
  readonly contrast: number;
}

/** Every visible text and its contrast to what is behind it. */
export function contrasts(): Seen[] {
  // biome-ignore lint/suspicious/noExplicitAny: the compiler's DOM library would apply to the whole package
  const window = globalThis as any;
  const { document } = window;
  type Colour = readonly [number, number, number, number];
  const parse = (text: string): Colour => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g)!.map(Number) as [number, number, number, number?];
    return [r, g, b, a];
  };
  const luminance = ([r, g, b]: Colour): number => {
    const part = (value: number) => {
      const x = value / 255;
      return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const seen: Seen[] = [];
  const walker = document.createTreeWalker(document.body, 4);
  while (walker.nextNode()) {
    const { parentElement: element, textContent: text } = walker.currentNode;
    if (text.trim() === '' || !element.checkVisibility() || /^(SCRIPT|OPTION)$/.test(element.tagName))
      continue;
    let behind = element;
    while (behind !== null && parse(window.getComputedStyle(behind).backgroundColor)[3] === 0) {
      behind = behind.parentElement;
    }
    const a = luminance(parse(window.getComputedStyle(element).color));
    const b = luminance(parse(window.getComputedStyle(behind ?? document.body).backgroundColor));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen.push({ text: text.trim().slice(0, 40), contrast: Math.round(contrast * 100) / 100 });
  }
  return seen;
}
