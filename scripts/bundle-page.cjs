// Bundles what runs in the pages that the command writes (`--format html`): lib/page and the modules of lib/kernel and
// lib/explain that it uses, as one script, and its style sheet. Users get the result in dist and need no bundler. An import
// of a module of Node's fails here.
'use strict';

const path = require('node:path');
const { buildSync } = require('esbuild');

const folder = path.join(__dirname, '../lib/page/browser');

buildSync({
  entryPoints: [path.join(folder, 'main.ts'), path.join(folder, 'style.css')],
  outdir: path.join(__dirname, '../dist/lib/page/browser'),
  alias: { 'node:util': path.join(__dirname, 'inspect.mjs') },
  bundle: true,
  minify: true,
  platform: 'browser',
  format: 'iife',
  target: 'es2022',
  charset: 'utf8',
  legalComments: 'none',
  logLevel: 'warning',
});
