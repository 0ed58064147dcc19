#!/usr/bin/env bash
# dcfldd with several of= ends with 0 when an output that is not the last cannot be written.
#
# Seen with dcfldd 1.9 (Debian 1.9-2): its manual has of= given several times, "to write output to multiple files
# simultaneously". Where the first output has no space left, the second gets every byte, "152+1 records out" is printed,
# nothing is said about the first, and the exit status is 0. The same two outputs the other way round end with 1, and then
# the good one is cut after the first block. With one output it ends with 1 too; in no case is the reason named.
#
# /dev/full stands for a disk that is full or fails. Whoever images a disk onto two others by exit status has one copy and
# believes in two.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
[ -e /dev/full ] || skip 'there is no /dev/full'
[ "$(uname -sm)" = 'Linux x86_64' ] || skip 'the program is fetched for Linux on x86-64'
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip 'apt-get, which fetches dcfldd, is not installed'

cd "$tmp"
apt-get download -qq dcfldd=1.9-2 >/dev/null 2>&1 || skip 'dcfldd 1.9-2 could not be fetched'
dpkg-deb --extract dcfldd_*.deb unpacked
dcfldd="$tmp/unpacked/usr/bin/dcfldd"
"$dcfldd" --version >/dev/null 2>&1 || skip 'dcfldd does not run here'

head -c 5000000 /dev/urandom >source

outcome() { # outputs: the exit status, what was said of the disk that is full, and whether the copy is whole
  local status=0 said copy
  rm -f copy
  LC_ALL=C "$dcfldd" statusinterval=0 status=off if=source "$@" 2>messages || status=$?
  said=$(grep -c 'No space left' messages || true)
  if cmp -s source copy; then copy=whole; else copy="$(stat -c %s copy 2>/dev/null || echo 0) bytes"; fi
  echo "exit status $status, messages about space $said, the copy: $copy"
}

check 'one output, full' "$(outcome of=/dev/full)" 'exit status 1, messages about space 0, the copy: 0 bytes'
check 'the full one first' "$(outcome of=/dev/full of=copy)" 'exit status 0, messages about space 0, the copy: whole'
check 'the full one last' "$(outcome of=copy of=/dev/full)" 'exit status 1, messages about space 0, the copy: 32768 bytes'
echo 'as stated: only the last output decides what dcfldd says'
