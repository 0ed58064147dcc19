#!/usr/bin/env bash
# Bun.file() of a block device can be read whole but not as a stream, and says that it does not exist.
#
# Seen with Bun 1.4.5 on a loop device: arrayBuffer() and bytes() of Bun.file(device) give its content, while stream()
# fails with EPERM of epoll_ctl, since the stream waits for the device as for a pipe and epoll takes no block devices.
# exists() is false, and size is no finite number. fs.createReadStream() of the same Bun reads the device.
#
# A stream is for what is too large to be held, which is just what a drive is; the ways that are left take it into
# memory whole. Bun's documentation gives stream() as the way to read a file step by step, and says of exists() that it
# is true for regular files and FIFOs, with no word of devices.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
disk=
cleanup() {
  [ -z "$disk" ] || losetup -d "$disk"
  rm -rf "$tmp"
}
trap cleanup EXIT
[ "$(id -u)" = 0 ] || skip 'a loop device is set up, and that is for root'
command -v losetup >/dev/null || skip 'losetup, of util-linux, is not installed'
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

truncate -s 1M "$tmp/image"
disk=$(losetup --find --show "$tmp/image") || skip 'no loop device is to be had'
# A device node of its own, so that the one in /dev is not touched.
mknod "$tmp/node" b "$((0x$(stat -c %t "$disk")))" "$((0x$(stat -c %T "$disk")))"
head -c 1 "$tmp/node" >/dev/null 2>&1 || skip 'the temporary folder is on a file system without device nodes'

cat >"$tmp/probe.mjs" <<'JS'
import { createReadStream } from 'node:fs';
const device = process.argv[2];
const count = async (stream) => {
  let bytes = 0;
  try {
    for await (const chunk of stream) bytes += chunk.length;
    return bytes;
  } catch ({ code, syscall }) {
    return `${code} of ${syscall}`;
  }
};
const file = Bun.file(device);
console.log(
  `bytes ${(await file.bytes()).length}, stream ${await count(Bun.file(device).stream())}, ` +
    `createReadStream ${await count(createReadStream(device))}, ` +
    `exists ${await file.exists()}, finite size ${Number.isFinite(Bun.file(device).size)}`,
);
JS

check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/node")" \
  'bytes 1048576, stream EPERM of epoll_ctl, createReadStream 1048576, exists false, finite size false'
head -c 1048576 /dev/zero >"$tmp/file"
check 'Bun 1.4.5, a file' "$("$bun" "$tmp/probe.mjs" "$tmp/file")" \
  'bytes 1048576, stream 1048576, createReadStream 1048576, exists true, finite size true'
echo 'as stated: a block device has no stream in Bun'
