#!/usr/bin/env bash
# The end() of Bun's FileSink resolves after a write that failed.
#
# Seen with Bun 1.4.5: where a write of Bun.file(path).writer() fails (the device is full), the promise of that write()
# rejects with ENOSPC, and the flush() and end() that follow resolve with 0. A chunk that stays in the sink's own buffer
# fails in flush() or end(), so that a small file's error is in end() and a large one's is not. A stream of node:fs in
# the same Bun fails in each case.
#
# A sink that has lost bytes should not end well: a program that writes and awaits end() alone is told of the error for
# small chunks, and for large ones meets it as an unhandled rejection elsewhere, with end() resolved.

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

bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
const outcome = async (work) => {
  try {
    return `resolved ${await work()}`;
  } catch ({ code }) {
    return code;
  }
};
const results = [];
for (const size of [1000, 100000]) {
  const sink = Bun.file('/dev/full').writer();
  const write = await outcome(() => sink.write(Buffer.alloc(size)));
  const end = await outcome(() => sink.end());
  const stream = await outcome(() => finished(createWriteStream('/dev/full').end(Buffer.alloc(size))));
  results.push(`${size} bytes: write() ${write}, end() ${end}, node:fs ${stream}`);
}
console.log(results.join('; '));
JS

expected='1000 bytes: write() resolved 1000, end() ENOSPC, node:fs ENOSPC'
expected+='; 100000 bytes: write() ENOSPC, end() resolved 0, node:fs ENOSPC'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs")" "$expected"
echo 'as stated: end() resolves after a write that failed'
