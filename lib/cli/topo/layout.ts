/**
 * Where the boxes of a tree go: root at the left, a column for each depth, children below one another.
 *
 *     ┌───┐     ┌───┐        ┌───┐     A subtree has the rows from its top to its bottom to itself, and a column is
 *     │   ├──┬──┤   ├────────┤   │     as wide as its widest box, so nothing overlaps whatever the sizes. A framed
 *     └───┘  │  └───┘        └───┘     box is drawn together with its children (a switch: its upstream
 *            │ ╭┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╮     port and its downstream ports); the frame lies inside the subtree's rows
 *            │ ┊ ┌───┐     ┌───┐ ┊     and in the gaps beside the columns.
 *            └─┼─┤   ├──┬──┤   ├─┼──
 *              ┊ └───┘  │  └───┘ ┊
 *              ╰┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╯
 */
export interface LayoutBox {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly framed: boolean;
  /** Boxes of one kind in one column get the same width. */
  readonly kind: string;
  readonly children: readonly LayoutBox[];
}

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Layout {
  readonly boxes: ReadonlyMap<string, Rect>;
  /** Frames, by the id of the framed box. */
  readonly frames: ReadonlyMap<string, Rect>;
  readonly width: number;
  readonly height: number;
}

/** The gap between columns. It must have room for two frames and a line. */
export const COLUMN_GAP = 44;
const ROW_GAP = 12;
export const FRAME = { side: 10, top: 24, bottom: 10 } as const;

export function layOut(root: LayoutBox): Layout {
  const widths: Map<string, number>[] = [];
  measure(root, 0, widths);
  const columns: number[] = [];
  let x = 0;
  for (const column of widths) {
    columns.push(x);
    x += Math.max(...column.values()) + COLUMN_GAP;
  }
  const boxes = new Map<string, Rect>();
  const frames = new Map<string, Rect>();
  const height = place(root, 0, 0);
  const right = [...boxes.values(), ...frames.values()].reduce((max, r) => Math.max(max, r.x + r.width), 0);
  return { boxes, frames, width: right, height };

  /** Places a subtree with its top at `top`. @returns its height */
  function place(box: LayoutBox, depth: number, top: number): number {
    const { height: own, framed, children } = box;
    const above = framed ? FRAME.top : 0;
    const below = framed ? FRAME.bottom : 0;
    const inner = stackHeight(box);
    let y = top + above + (inner - childrenHeight(box)) / 2;
    for (const child of children) y += place(child, depth + 1, y) + ROW_GAP;

    const ends = [children[0], children.at(-1)].map((child) =>
      child === undefined ? null : middle(child.id),
    );
    const [first, last] = ends;
    const centre = first == null || last == null ? top + above + inner / 2 : (first + last) / 2;
    // Children of uneven heights must not move the box out of its subtree's rows.
    const boxTop = Math.min(Math.max(centre - own / 2, top + above), top + above + inner - own);
    boxes.set(box.id, { x: columns[depth]!, y: boxTop, width: widths[depth]!.get(box.kind)!, height: own });
    if (framed) frames.set(box.id, frameAround([box, ...children].map(({ id }) => boxes.get(id)!)));
    return above + inner + below;
  }

  function middle(id: string): number {
    const { y, height } = boxes.get(id)!;
    return y + height / 2;
  }
}

function measure({ kind, width, children }: LayoutBox, depth: number, widths: Map<string, number>[]): void {
  widths[depth] ??= new Map();
  widths[depth].set(kind, Math.max(widths[depth].get(kind) ?? 0, width));
  for (const child of children) measure(child, depth + 1, widths);
}

/** The height of a subtree without its frame. */
function stackHeight(box: LayoutBox): number {
  return Math.max(box.height, childrenHeight(box));
}

function childrenHeight({ children }: LayoutBox): number {
  const sum = children.reduce(
    (total, child) => total + stackHeight(child) + (child.framed ? FRAME.top + FRAME.bottom : 0),
    0,
  );
  return sum + Math.max(0, children.length - 1) * ROW_GAP;
}

function frameAround(rects: readonly Rect[]): Rect {
  const left = Math.min(...rects.map((r) => r.x)) - FRAME.side;
  const top = Math.min(...rects.map((r) => r.y)) - FRAME.top;
  const right = Math.max(...rects.map((r) => r.x + r.width)) + FRAME.side;
  const bottom = Math.max(...rects.map((r) => r.y + r.height)) + FRAME.bottom;
  return { x: left, y: top, width: right - left, height: bottom - top };
}
