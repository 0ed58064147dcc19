#!/usr/bin/env bash
# npm sbom --omit=dev leaves out a dependency of production if a development dependency depends on it too.
#
# Seen with npm 11.19.1 and 12.2.2: the list is empty although `a` is installed with the package. npm selects the packages
# with its query `*:not(.dev)`, and `.dev` is true of a package as soon as one way to it begins at a development
# dependency. `npm ls --omit=dev` and `npm install --omit=dev` read the same lock file correctly.
#
# A list of what a release contains must be complete. scripts/release.cjs makes it from a package.json without
# devDependencies, and compares its names with the lock file.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
command -v npm >/dev/null || skip 'npm is not installed'
[ "$(npm --version | cut -d. -f1)" -ge 11 ] || skip 'npm is older than 11'
cd "$tmp"

cat >package.json <<'JSON'
{"name":"root","version":"1.0.0","dependencies":{"a":"1.0.0"},"devDependencies":{"b":"1.0.0"}}
JSON
cat >package-lock.json <<'JSON'
{"name":"root","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{
 "":{"name":"root","version":"1.0.0","dependencies":{"a":"1.0.0"},"devDependencies":{"b":"1.0.0"}},
 "node_modules/a":{"version":"1.0.0"},
 "node_modules/b":{"version":"1.0.0","dev":true,"dependencies":{"a":"1.0.0"}}}}
JSON

listed() { # options of npm sbom
  npm sbom --offline --package-lock-only --sbom-format=cyclonedx "$@" 2>/dev/null |
    node -e "console.log(JSON.parse(require('fs').readFileSync(0)).components.map(({ name }) => name).join(' '))"
}

check 'all' "$(listed)" 'a b'
check 'without development' "$(listed --omit=dev)" ''
