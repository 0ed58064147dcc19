/** What a TAP stream says, subtests included. */
export interface TapSummary {
  /** Innermost assertions and tests that passed; a parent is not counted beside its children. */
  readonly passed: number;
  /** Failed ones, by their path: `file > test > assertion`. */
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  /** The top level has a plan, and it is kept. */
  readonly complete: boolean;
}

interface Level {
  children: number;
  failedBelow: number;
  passedBelow: number;
  /** Names of the enclosing subtests, outermost first, from `# Subtest:` comments. */
  name: string;
}

/** A small reader for what node's and tap's reporters write: 4 spaces per level, points after their children. */
export function readTap(lines: readonly string[]): TapSummary {
  const failed: string[] = [];
  const skipped: string[] = [];
  let passed = 0;
  let plan: number | null = null;
  let top = 0;
  let bailed = false;
  const stack: Level[] = [{ children: 0, failedBelow: 0, passedBelow: 0, name: '' }];
  let inYaml = false;
  for (const line of lines) {
    const trimmed = line.trimStart();
    if (trimmed === '---') inYaml = true;
    else if (trimmed === '...') inYaml = false;
    if (inYaml) continue;
    const depth = Math.floor((line.length - trimmed.length) / 4);
    const subtest = /^# Subtest: (.*)$/.exec(trimmed);
    if (subtest !== null) {
      // tap writes the comment at the parent's indentation, node at the child's parent's too.
      stack.length = Math.min(stack.length, depth + 1);
      while (stack.length <= depth) stack.push({ children: 0, failedBelow: 0, passedBelow: 0, name: '' });
      stack.push({ children: 0, failedBelow: 0, passedBelow: 0, name: subtest[1]! });
      continue;
    }
    if (trimmed.startsWith('Bail out!')) {
      bailed = true;
      failed.push(trimmed);
    }
    const planned = depth === 0 ? /^1\.\.(\d+)/.exec(trimmed) : null;
    if (planned !== null) plan = Number(planned[1]);
    const point = /^(not )?ok\b ?(\d+)? ?-? ?(.*)$/.exec(trimmed);
    if (point === null) continue;
    while (stack.length <= depth) stack.push({ children: 0, failedBelow: 0, passedBelow: 0, name: '' });
    const below = stack.length > depth + 1 ? stack[depth + 1]! : null;
    const hadChildren = below !== null && below.passedBelow + below.failedBelow > 0;
    stack.length = depth + 1;
    const level = stack[depth]!;
    level.children++;
    if (depth === 0) top++;
    const [description = '', directive = ''] = splitDirective(point[3] ?? '');
    const where = [...stack.slice(1).map((s) => s.name), description].filter((s) => s !== '').join(' > ');
    const todo = /^(skip|todo)/i.test(directive);
    const bad = point[1] !== undefined && !todo;
    if (/^skip/i.test(directive)) skipped.push(`${where} (${directive.replace(/^skip\S*\s*/i, '')})`);
    else if (bad && !(hadChildren && below.failedBelow > 0)) failed.push(where);
    else if (!bad && !hadChildren) passed++;
    for (const outer of stack) {
      if (bad) outer.failedBelow++;
      else outer.passedBelow++;
    }
  }
  return { passed, failed, skipped, complete: !bailed && plan !== null && plan === top };
}

function splitDirective(text: string): [string, string] {
  const found = /\s#\s*((?:skip|todo|time).*)$/i.exec(text);
  const description = (found === null ? text : text.slice(0, found.index)).replace(/ \{$/, '');
  return [description, found?.[1] ?? ''];
}
