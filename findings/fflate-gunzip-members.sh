#!/usr/bin/env bash
# gunzipSync() and gunzip() of the package fflate return the first member of a gzip file; its class Gunzip returns all.
#
# Seen with fflate 0.8.3: of a file with two gzip members, gunzipSync(), gunzip() and decompressSync() return the content
# of the first, without an error, and no more of it than the last member has bytes. The class Gunzip of the same package,
# which takes the file in pieces, returns both, as gzip -d and node:zlib do. RFC 1952 (section 2.2) has a gzip file be a
# series of members; bgzip writes a member for every 64 KiB, and `cat a.gz b.gz` is valid too.
#
# The same bytes give two results in one package. A caller who has the whole file in memory, and so takes the simple
# function, is the one who loses the rest of it.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
command -v npm >/dev/null || skip 'npm, which fetches the package, is not installed'
unset NODE_OPTIONS

cd "$tmp"
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund fflate@0.8.3 || skip 'fflate 0.8.3 could not be fetched'

cat >probe.mjs <<'JS'
import zlib from 'node:zlib';
import { decompressSync, Gunzip, gunzip, gunzipSync } from 'fflate';
const [way, ...parts] = process.argv.slice(2);
const file = Buffer.concat(parts.map((part) => zlib.gzipSync(part)));
const text = (bytes) => Buffer.from(bytes).toString();
const streamed = [];
const stream = new Gunzip((chunk) => streamed.push(Buffer.from(chunk)));
stream.push(file, true);
const later = await new Promise((resolve, reject) =>
  gunzip(file, { consume: false }, (error, bytes) => (error ? reject(error) : resolve(bytes))),
);
console.log(
  {
    gunzipSync: () => text(gunzipSync(file)),
    decompressSync: () => text(decompressSync(file)),
    gunzip: () => text(later),
    Gunzip: () => text(Buffer.concat(streamed)),
    zlib: () => text(zlib.gunzipSync(file)),
  }[way](),
);
JS

for way in gunzipSync decompressSync gunzip; do
  check "fflate 0.8.3, $way" "$(node probe.mjs "$way" 'first' ' and second')" 'first'
  check "fflate 0.8.3, $way, the last is short" "$(node probe.mjs "$way" 'first' ', 2')" 'fir'
done
for way in Gunzip zlib; do
  check "$way" "$(node probe.mjs "$way" 'first' ' and second')" 'first and second'
  check "$way, the last is short" "$(node probe.mjs "$way" 'first' ', 2')" 'first, 2'
done
echo 'as stated: the simple functions of fflate read one gzip member'
