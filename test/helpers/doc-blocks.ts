/** Finds the fenced blocks of a document and runs them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { presets } from '../../lib/machine/presets.js';

export interface Block {
  /** The nearest `##` heading above the block. */
  readonly heading: string;
  readonly line: number;
  /** `''`: no language is given. */
  readonly language: string;
  readonly body: string;
}

/** @throws Error if a fence is not closed */
export function blocksOf(document: string): Block[] {
  const found: Block[] = [];
  let heading = '';
  let open: { language: string; line: number; lines: string[] } | null = null;
  for (const [i, text] of document.split('\n').entries()) {
    const fence = /^```(.*)$/.exec(text);
    if (open !== null) {
      if (fence === null) open.lines.push(text);
      else {
        found.push({ heading, line: open.line, language: open.language, body: open.lines.join('\n') });
        open = null;
      }
    } else if (fence !== null) open = { language: fence[1]!, line: i + 1, lines: [] };
    else heading = /^## (.*)$/.exec(text)?.[1] ?? heading;
  }
  if (open !== null) throw new Error(`the fence in line ${open.line} is not closed`);
  return found;
}

/** Commands and the lines that they must print, in this order; other lines may be between them. */
export interface Session {
  readonly heading: string;
  readonly line: number;
  readonly script: string;
  readonly printed: readonly string[];
}

/** The blocks of one language as sessions: a `text` block after a session is its output. */
export function sessionsOf(blocks: readonly Block[], language: string): Session[] {
  return blocks.flatMap(({ heading, line, body, ...block }, i) => {
    if (block.language !== language) return [];
    const next = blocks[i + 1];
    const printed = next?.language === 'text' ? next.body.trim().split('\n') : [];
    return [{ heading, line, script: `${body}\n`, printed }];
  });
}

const spaced = (text: string) => text.replaceAll(/[\s│└─]+/g, ' ').trim();

/** Compares without regard to spaces and tree lines, which depend on the width of the terminal. */
export function checkPrinted(t: Test, { heading, printed }: Session, text: string): void {
  const lines = text.split('\n').map(spaced);
  let from = 0;
  for (const line of printed) {
    const at = lines.findIndex((is, i) => i >= from && is.includes(spaced(line)));
    t.ok(at >= 0, `${heading}: prints ${line}${at >= 0 ? '' : `\n${text}`}`);
    from = Math.max(from, at + 1);
  }
}

const root = fileURLToPath(new URL('../../../', import.meta.url));
const main = join(root, 'dist/lib/cli/main.js');
const bench = join(root, 'dist/bench/main.js');

/** `sh`: runs the session unchanged, line by line. */
export function runSh(t: Test, session: Session): void {
  let printed = '';
  for (const line of session.script.trim().split('\n')) {
    const run = spawnSync('sh', ['-c', line], { cwd: root, encoding: 'utf8' });
    t.equal(run.status, 0, `${line}\n${run.stderr}`);
    t.not(run.stdout, '', line);
    printed += run.stdout;
  }
  checkPrinted(t, session, printed);
}

/** The machine `switch` with small drives, so that copies of whole drives finish quickly. */
function smallSwitch(): unknown {
  const machine = structuredClone(presets.switch) as unknown as {
    functions: { nvme: { namespaces: { size: number }[] } | null }[];
  };
  for (const { nvme } of machine.functions)
    for (const one of nvme?.namespaces ?? []) one.size = 64 * 1024 * 1024;
  return machine;
}

/**
 * `console`: commands for hardware that is not present here. The lines run unchanged, but `sudo`, `npx`, `p2pdma` and
 * `npm run bench` are replaced: the user stays the same, the machine is `switch` (with small drives) if none is named,
 * and only one short benchmark runs.
 */
export function rehearse(t: Test, session: Session): void {
  const folder = mkdtempSync(join(tmpdir(), 'p2pdma-docs-'));
  const machine = join(folder, '.machine.json');
  writeFileSync(machine, JSON.stringify(smallSwitch()));
  const prelude = `
    sudo() { "$@"; }
    p2pdma() { case " $* " in
      *' --machine '*|*' --root '*|*' --version '*) node '${main}' "$@";;
      *) node '${main}' "$@" --machine '${machine}';;
    esac; }
    npx() { "$@"; }
    npm() { case "$*" in 'run bench') set -- emulator;; 'run bench -- '*) shift 3;; *) return 64;; esac; case $1 in
      emulator) node '${bench}' "$@" --rounds 1 --only io;;
      native) fio --version > /dev/null || { echo 'no fio: not run'; return 0; }
        P2PDMA_BENCH_BYTES=8388608 P2PDMA_BENCH_DIR='${folder}' node '${bench}' "$@" --rounds 1 --only rss;;
      *) return 64;;
    esac; }
    set -e
  `;
  let printed = '';
  for (const line of session.script.trim().split('\n')) {
    t.match(line, /^\$ /, 'a command stands behind a $; what it prints, in a text block below');
    const run = spawnSync('sh', ['-c', `${prelude}\n${line.slice(2)}`], { cwd: folder, encoding: 'utf8' });
    t.equal(run.status, 0, `${line}\n${run.stderr}`);
    printed += run.stdout;
  }
  checkPrinted(t, session, printed);
  rmSync(folder, { recursive: true });
}

/** `js`: runs the source. A comment after a console.log is the expected output. */
export function runJs(t: Test, source: string, file: string): void {
  writeFileSync(file, source);
  const run = spawnSync(process.execPath, [file], { cwd: root, encoding: 'utf8' });
  t.equal(run.status, 0, `${file}\n${run.stderr}`);
  for (const [, said] of source.matchAll(/console\.log\(.*\); \/\/ ([^:\n]*)$/gm)) t.match(run.stdout, said);
}
