/**
 * A page as one file: it fetches nothing (its Content-Security-Policy permits only its own script and style, by their
 * digests), and no name from a machine can become markup or end the script: in the facts every `<` is escaped, elsewhere
 * every text is.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { hex } from '../../base/words.js';
import type { PageFacts } from '../../page/facts.js';
import { xml } from '../svg-text.js';
import { colourSheet } from './colours.js';
import { INTERACTIVE } from './skeleton.js';

/** A further part of the page, which does not change. */
export interface Section {
  readonly title: string;
  /** Markup, with every text in it escaped. */
  readonly html: string;
}

export interface PageParts {
  readonly title: string;
  readonly facts: PageFacts;
  /** Shown instead of the picture where no script runs. */
  readonly text: string;
  /** Above the picture, and below it. */
  readonly above?: readonly Section[];
  readonly below?: readonly Section[];
}

export async function pageOf({ title, facts, text, above = [], below = [] }: PageParts): Promise<string> {
  const [script, sheet] = await Promise.all([bundled('main.js'), bundled('style.css')]);
  const style = `${colourSheet()}\n${sheet}`;
  const policy = `default-src 'none'; script-src ${digest(script)}; style-src ${digest(style)}; base-uri 'none'; form-action 'none'`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="p2pdma ${xml(facts.version)}">
<title>${xml(title)}</title>
<style>${style}</style>
</head>
<body>
<header>
<h1>${xml(title)}</h1>
${head(facts)}
</header>
<main>
${above.map(section).join('\n')}
<noscript><p>This page needs a script to answer questions. Without it, this is what it would show first:</p>${block(text)}</noscript>
${INTERACTIVE}
${below.map(section).join('\n')}
</main>
<footer><p class="muted">Written by p2pdma ${xml(facts.version)}. Its verdicts are computed in this page by the code of the command, from the facts in this file; nothing is sent anywhere.</p></footer>
<script type="application/json" id="machine-facts">${inScript(facts)}</script>
<script>${script}</script>
</body>
</html>`;
}

/** In what the bundler made of lib/page/browser. */
async function bundled(name: string): Promise<string> {
  const root = dirname(createRequire(import.meta.url).resolve('p2pdma/package.json'));
  return (await readFile(join(root, 'dist/lib/page/browser', name), 'utf8')).trim();
}

function digest(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** JSON in which nothing can end a script element or begin a comment. */
export function inScript(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${hex(character.charCodeAt(0), 4)}`,
  );
}

/** A text of the terminal, which may be wider than the page. */
export function block(text: string): string {
  const lines = text.split('\n').map((line) => xml(line));
  return `<pre tabindex="0">${lines.join('\n')}</pre>`;
}

function section({ title, html }: Section): string {
  return `<section>\n<h2>${xml(title)}</h2>\n${html}\n</section>`;
}

function head({ notice, evidence }: PageFacts): string {
  const parts = notice === null ? [] : [`<p class="notice">${xml(notice)}</p>`];
  if (evidence !== null) {
    parts.push(`<p>Read from: ${xml(evidence.recognised.join('; '))}.</p>`);
    const notes = [
      ...evidence.contradictions.map((words) => `<li><strong>contradiction:</strong> ${xml(words)}</li>`),
      ...evidence.notKnown.map(
        ({ what, why }) => `<li><strong>not known:</strong> ${xml(what)}: ${xml(why)}</li>`,
      ),
    ];
    if (notes.length > 0) parts.push(`<ul class="note">${notes.join('')}</ul>`);
  }
  return parts.join('\n');
}
