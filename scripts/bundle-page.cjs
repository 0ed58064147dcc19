// Bundles what runs in the pages that the command writes (`--format html`): lib/page and the modules of lib/kernel and
// lib/explain that it uses, as one script, and its style sheet. Users get the result in dist and need no bundler. An import
// of a module of Node's fails here.
'use strict';

const path = require('node:path');
const { build } = require('esbuild');

const folder = path.join(__dirname, '../lib/page/browser');

const standIn = {
  name: 'builtin',
  setup({ onResolve }) {
    onResolve({ filter: /\/builtin\.js$/ }, () => ({ path: path.join(__dirname, 'builtin.mjs') }));
  },
};

exports.bundlePage = () =>
  build({
    entryPoints: [path.join(folder, 'main.ts'), path.join(folder, 'style.css')],
    outdir: path.join(__dirname, '../dist/lib/page/browser'),
    plugins: [standIn],
    bundle: true,
    minify: true,
    platform: 'browser',
    format: 'iife',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
  });
