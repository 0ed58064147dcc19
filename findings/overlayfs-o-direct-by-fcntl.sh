#!/usr/bin/env bash
# overlayfs lets O_DIRECT be switched on for a file that cannot do it, and refuses each read afterwards.
#
# Seen with Linux 6.18, with squashfs (squashfs-tools 4.5.1) as the lower layer: open() of the file with O_DIRECT is
# refused with EINVAL, through the overlay as on squashfs itself. fcntl(F_SETFL) with O_DIRECT on a descriptor that is
# open already is refused with EINVAL on squashfs, and accepted through the overlay; a read by that descriptor is EINVAL
# then, until the flag is taken away again.
#
# By fcntl(2) F_SETFL with O_DIRECT is the way to turn it on later, and EINVAL its answer where the file system has
# none. A program that switches it on for a source, and takes success for an answer, fails at its first transfer, with
# an error that looks like an alignment that is wrong. Container images and live systems are files of just this kind.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
cleanup() {
  for at in "$tmp"/mnt-*; do mountpoint -q "$at" && umount "$at"; done
  rm -rf "$tmp"
}
trap cleanup EXIT

[ "$(id -u)" = 0 ] || skip 'file systems are mounted, and that is for root'
command -v mksquashfs >/dev/null || skip 'mksquashfs, of squashfs-tools, is not installed'
command -v python3 >/dev/null || skip 'Python, which makes the calls, is not installed'

mkdir -p "$tmp/source" "$tmp/mnt-1-overlay" "$tmp/mnt-2-squashfs" "$tmp/mnt-3-upper"
head -c 65536 /dev/zero | tr '\0' x >"$tmp/source/file"
mksquashfs "$tmp/source" "$tmp/image" -quiet -no-progress >/dev/null
mount -t squashfs -o loop,ro "$tmp/image" "$tmp/mnt-2-squashfs" 2>/dev/null || skip 'squashfs cannot be mounted'
mount -t tmpfs none "$tmp/mnt-3-upper" || skip 'no tmpfs can be mounted'
mkdir "$tmp/mnt-3-upper/upper" "$tmp/mnt-3-upper/work"
mount -t overlay overlay "$tmp/mnt-1-overlay" \
  -o "lowerdir=$tmp/mnt-2-squashfs,upperdir=$tmp/mnt-3-upper/upper,workdir=$tmp/mnt-3-upper/work" 2>/dev/null ||
  skip 'an overlay cannot be mounted'

cat >"$tmp/probe.py" <<'PY'
import errno, fcntl, mmap, os, sys

def attempt(work):
    try:
        work()
        return "accepted"
    except OSError as error:
        return errno.errorcode[error.errno]

path = sys.argv[1]
page = mmap.mmap(-1, 4096)
results = ["open " + attempt(lambda: os.open(path, os.O_RDONLY | os.O_DIRECT))]
fd = os.open(path, os.O_RDONLY)
flags = fcntl.fcntl(fd, fcntl.F_GETFL)
results.append("fcntl " + attempt(lambda: fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)))
results.append("read " + attempt(lambda: os.preadv(fd, [page], 0)))
fcntl.fcntl(fd, fcntl.F_SETFL, flags)
results.append("read without it " + attempt(lambda: os.preadv(fd, [page], 0)))
print(", ".join(results))
PY

echo "Linux $(uname -r | cut -d . -f 1-2)"
check 'squashfs' "$(python3 "$tmp/probe.py" "$tmp/mnt-2-squashfs/file")" \
  'open EINVAL, fcntl EINVAL, read accepted, read without it accepted'
check 'overlayfs above it' "$(python3 "$tmp/probe.py" "$tmp/mnt-1-overlay/file")" \
  'open EINVAL, fcntl accepted, read EINVAL, read without it accepted'
echo 'as stated: the overlay takes the flag and refuses the reads'
