// Files and block devices: opening, O_DIRECT, the facts of a block queue, holes.
// These are short system calls on the JS thread; whatever may take long goes through the engine.
#include "env.h"
#include "request.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace p2pdma {
namespace {

int fdArg(const Napi::CallbackInfo& info) { return info[0].As<Napi::Number>().Int32Value(); }

static_assert(sizeof(off_t) == 8, "offsets are 64 bits wide");

// Called by its number, because glibc has fstat as a function only from 2.33 on. The kernel's struct is the C library's.
int statOf(int fd, struct stat* st) { return static_cast<int>(syscall(SYS_fstat, fd, st)); }

Napi::Value number(Napi::Env env, double value) { return Napi::Number::New(env, value); }

// What statFd and openFile find out about an open file, as numbers: see FileStat in file-stat.ts.
enum StatWord { kStatKind, kStatSize, kStatDevice, kStatInodeHigh, kStatInodeLow, kStatMemAlign, kStatOffsetAlign, kStatWords };
enum StatKind { kOther, kFile, kBlock, kDirectory };

// struct statx, because libc headers may be older than STATX_DIOALIGN (6.1).
struct Statx {
  uint32_t mask, blockSize;
  uint64_t attributes;
  uint32_t links, user, group;
  uint16_t mode, spare;
  uint64_t inode, size, blocks, attributesMask, times[8];
  uint32_t deviceMajor, deviceMinor, onMajor, onMinor;
  uint64_t mount;
  uint32_t dioMemAlign, dioOffsetAlign;
  uint64_t more[12];
};
static_assert(offsetof(Statx, size) == 0x28 && offsetof(Statx, dioMemAlign) == 0x98 && sizeof(Statx) == 256, "as in the kernel");
constexpr unsigned kStatxType = 0x1;
constexpr unsigned kStatxBasic = 0x7ff;
constexpr unsigned kStatxDioAlign = 0x2000;

// st_dev, as the kernel puts it together. (makedev is a function that not every libc has.)
uint64_t deviceOf(uint64_t major, uint64_t minor) {
  return (major & 0xfff) << 8 | (major & 0xfffff000) << 32 | (minor & 0xff) | (minor & 0xffffff00) << 12;
}

// In one call where the kernel has statx(2) (4.11) and lets this process use it.
int factsOf(int fd, Statx* facts, uint64_t* device) {
  if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kStatxBasic | kStatxDioAlign, facts) == 0) {
    *device = deviceOf(facts->onMajor, facts->onMinor);
    return 0;
  }
  struct stat st;
  if (statOf(fd, &st) != 0) return -errno;
  *device = st.st_dev;
  facts->mask = 0;
  facts->mode = static_cast<uint16_t>(st.st_mode);
  facts->inode = st.st_ino;
  facts->size = static_cast<uint64_t>(st.st_size);
  return 0;
}

// Returns 0 or -errno. The alignments are what O_DIRECT requires (0: O_DIRECT is refused; -1: the kernel does not say).
int describe(int fd, Napi::Float64Array words) {
  if (words.ElementLength() < kStatWords) return -EINVAL;
  Statx facts = {};
  uint64_t device = 0;
  const int error = factsOf(fd, &facts, &device);
  if (error != 0) return error;
  const mode_t mode = facts.mode;
  words[kStatKind] = S_ISREG(mode) ? kFile : S_ISBLK(mode) ? kBlock : S_ISDIR(mode) ? kDirectory : kOther;
  words[kStatSize] = static_cast<double>(facts.size);
  words[kStatDevice] = static_cast<double>(device);
  words[kStatInodeHigh] = static_cast<double>(facts.inode >> 32);
  words[kStatInodeLow] = static_cast<double>(facts.inode & 0xffffffff);
  const bool known = (facts.mask & kStatxDioAlign) != 0;
  words[kStatMemAlign] = known ? facts.dioMemAlign : -1.0;
  words[kStatOffsetAlign] = known ? facts.dioOffsetAlign : -1.0;
  return 0;
}

// Returns an fd or -errno. A pipe that is there is opened without waiting for its other end.
int openNonBlocking(const char* path, int flags, mode_t mode) {
  int fd;
  do {
    fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode);
  } while (fd < 0 && errno == EINTR);
  return fd < 0 ? -errno : fd;
}

// O_NONBLOCK is not needed after the open; during I/O it would answer EAGAIN where the call should wait.
void block(int fd, int flags) { fcntl(fd, F_SETFL, flags & O_DIRECT); }

// statFd(fd, words) returns 0 or -errno.
Napi::Value statFd(const Napi::CallbackInfo& info) {
  return number(info.Env(), describe(fdArg(info), info[1].As<Napi::Float64Array>()));
}

// From now on it is one of ours, which is closed with the environment at the latest.
Napi::Value kept(Napi::Env env, int fd, bool exclusively) {
  EnvPtr state = envOf(env);
  state->fds[fd] = exclusively;
  state->counters.fds++;
  return number(env, fd);
}

// openFile(path, flags, mode, words) returns an fd or -errno. `words`, if there is such an argument, says what was opened; before
// a transfer of a regular file that may have to wait, setDirect() or setBlocking() is to be called then.
Napi::Value openFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const int flags = info[1].As<Napi::Number>().Int32Value();
  const mode_t mode = static_cast<mode_t>(info[2].As<Napi::Number>().Uint32Value());
  const int fd = openNonBlocking(path.c_str(), flags, mode);
  if (fd < 0) return number(env, fd);
  bool isFile = false;
  if (info.Length() > 3) {
    const auto words = info[3].As<Napi::Float64Array>();
    const int unknown = describe(fd, words);
    if (unknown < 0) {
      close(fd);
      return number(env, unknown);
    }
    isFile = words[kStatKind] == kFile;
  }
  if (!isFile) block(fd, flags);
  return kept(env, fd, (flags & O_EXCL) != 0);
}

// openRegular(path, flags, mode, words) opens what is there, if it is a regular file; nothing else is opened, which could have an effect.
// Returns an fd, which setDirect() or setBlocking() is to have been called for when a transfer may have to wait, or -errno;
// -EINVAL: it is something else.
Napi::Value openRegular(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  Statx there;
  if (syscall(SYS_statx, AT_FDCWD, path.c_str(), 0, kStatxType, &there) != 0) return number(env, -errno);
  if (!S_ISREG(there.mode)) return number(env, -EINVAL);
  const mode_t mode = static_cast<mode_t>(info[2].As<Napi::Number>().Uint32Value());
  const int fd = openNonBlocking(path.c_str(), info[1].As<Napi::Number>().Int32Value(), mode);
  if (fd < 0) return number(env, fd);
  const auto words = info[3].As<Napi::Float64Array>();
  int error = describe(fd, words);
  if (error == 0 && words[kStatKind] != kFile) error = -EINVAL;
  if (error != 0) {
    close(fd);
    return number(env, error);
  }
  return kept(env, fd, false);
}

// empty(fd) sets the length of a file, for which this is short, to 0; returns 0 or -errno.
Napi::Value empty(const Napi::CallbackInfo& info) {
  int result;
  do {
    result = ftruncate(fdArg(info), 0);
  } while (result != 0 && errno == EINTR);
  return number(info.Env(), result == 0 ? 0 : -errno);
}

// closeFd(fd) closes an fd that no request uses: of a small file, of a forgotten target, or of an open that failed.
Napi::Value closeFd(const Napi::CallbackInfo& info) {
  const int fd = fdArg(info);
  if (!forgetFd(*envOf(info.Env()), fd)) return number(info.Env(), -EBADF);
  return number(info.Env(), close(fd) == 0 || errno == EINTR ? 0 : -errno);
}

Napi::Value setFlags(const Napi::CallbackInfo& info, int flags) {
  return number(info.Env(), fcntl(fdArg(info), F_SETFL, flags) == 0 ? 0 : -errno);
}

// setDirect(fd): transfers of an open file are direct from now on, and wait. -EINVAL if its filesystem does not support O_DIRECT.
Napi::Value setDirect(const Napi::CallbackInfo& info) { return setFlags(info, O_DIRECT); }

// setBlocking(fd): transfers of an open file wait from now on, where they would answer EAGAIN.
Napi::Value setBlocking(const Napi::CallbackInfo& info) { return setFlags(info, 0); }

// readAt(fd, uint8Array, offset) returns the bytes read, or -errno. It is for a look at a file while it is being opened, not for
// transfers.
Napi::Value readAt(const Napi::CallbackInfo& info) {
  auto into = info[1].As<Napi::Uint8Array>();
  const off_t offset = static_cast<off_t>(info[2].As<Napi::Number>().DoubleValue());
  ssize_t n;
  do {
    n = pread(fdArg(info), into.Data(), into.ByteLength(), offset);
  } while (n < 0 && errno == EINTR);
  return number(info.Env(), n < 0 ? -errno : static_cast<double>(n));
}

// fileSize(fd) returns the present length, or -errno.
Napi::Value fileSize(const Napi::CallbackInfo& info) {
  struct stat st;
  return number(info.Env(), statOf(fdArg(info), &st) == 0 ? static_cast<double>(st.st_size) : -errno);
}

// blockFacts(fd) returns the sizes of a block queue, in bytes.
Napi::Value blockFacts(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = fdArg(info);
  uint64_t size = 0;
  int logical = 512;
  unsigned short maxSectors = 0;
  if (ioctl(fd, BLKGETSIZE64, &size) != 0) return number(env, -errno);
  if (ioctl(fd, BLKSSZGET, &logical) != 0) logical = 512;
  if (ioctl(fd, BLKSECTGET, &maxSectors) != 0) maxSectors = 0;
  Napi::Object out = Napi::Object::New(env);
  out.Set("size", static_cast<double>(size));
  out.Set("logicalBlockSize", logical);
  out.Set("maxTransfer", maxSectors * 512.0);
  return out;
}

// nsid(fd) returns the namespace id of an NVMe block or character device, or -errno (ENOTTY: it is not NVMe).
Napi::Value nsid(const Napi::CallbackInfo& info) {
  const int id = ioctl(fdArg(info), _IO('N', 0x40));
  return number(info.Env(), id >= 0 ? id : -errno);
}

// fileFlags(fd) returns the flags of FS_IOC_GETFLAGS, or -errno.
Napi::Value fileFlags(const Napi::CallbackInfo& info) {
  int flags = 0;  // the kernel writes an int, although the ioctl's number says long
  if (ioctl(fdArg(info), FS_IOC_GETFLAGS, &flags) != 0) return number(info.Env(), -errno);
  return number(info.Env(), static_cast<uint32_t>(flags));
}

constexpr unsigned kExtentsAtOnce = 256;
constexpr unsigned kMostExtents = 65536;

// extentFlags(fd) returns the FIEMAP_EXTENT_* flags of all extents of the file, combined with or; -EFBIG if there are too many
// to ask for; or another -errno.
Napi::Value extentFlags(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = fdArg(info);
  std::vector<uint64_t> memory((sizeof(fiemap) + kExtentsAtOnce * sizeof(fiemap_extent)) / 8 + 1);
  fiemap* map = reinterpret_cast<fiemap*>(memory.data());
  uint32_t all = 0;
  uint64_t next = 0;
  for (unsigned seen = 0; seen < kMostExtents;) {
    memset(memory.data(), 0, memory.size() * 8);
    map->fm_start = next;
    map->fm_length = FIEMAP_MAX_OFFSET - next;
    map->fm_flags = FIEMAP_FLAG_SYNC;  // data that is only in the page cache has no extents yet
    map->fm_extent_count = kExtentsAtOnce;
    if (ioctl(fd, FS_IOC_FIEMAP, map) != 0) return number(env, -errno);
    for (unsigned i = 0; i < map->fm_mapped_extents; i++) {
      const fiemap_extent& extent = map->fm_extents[i];
      all |= extent.fe_flags;
      next = extent.fe_logical + extent.fe_length;
    }
    seen += map->fm_mapped_extents;
    if (map->fm_mapped_extents == 0 || (all & FIEMAP_EXTENT_LAST)) return number(env, all);
  }
  return number(env, -EFBIG);
}

// seek(fd, offset, what) returns where the next data (0) or the next hole (1) at or after offset begins; -ENXIO past the end.
Napi::Value seek(const Napi::CallbackInfo& info) {
  const off_t offset = static_cast<off_t>(info[1].As<Napi::Number>().DoubleValue());
  const int whence = info[2].As<Napi::Number>().Int32Value() == 0 ? SEEK_DATA : SEEK_HOLE;
  const off_t at = lseek(fdArg(info), offset, whence);
  return number(info.Env(), at < 0 ? -errno : static_cast<double>(at));
}

// openWatched(path) opens a file of /proc that announces its changes; returns an fd or -errno.
Napi::Value openWatched(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return number(env, -errno);
  EnvPtr state = envOf(env);
  state->watched.insert(fd);
  state->counters.watched++;
  return number(env, fd);
}

Napi::Value closeWatched(const Napi::CallbackInfo& info) {
  EnvPtr state = envOf(info.Env());
  if (state->watched.erase(fdArg(info)) == 0) return number(info.Env(), -EBADF);
  state->counters.watched--;
  return number(info.Env(), close(fdArg(info)) == 0 ? 0 : -errno);
}

// hasChanged(fd): whether a watched file changed since it was opened or since this was last asked (proc_pid_mountinfo(5):
// POLLPRI). If the kernel cannot be asked, it may have changed.
Napi::Value hasChanged(const Napi::CallbackInfo& info) {
  pollfd file = {fdArg(info), POLLPRI, 0};
  return Napi::Boolean::New(info.Env(), poll(&file, 1, 0) != 0);
}

}  // namespace

int openQuietly(const char* path, int flags, mode_t mode) {
  const int fd = openNonBlocking(path, flags, mode);
  if (fd >= 0) block(fd, flags);
  return fd;
}

void initFile(Napi::Env env, Napi::Object exports) {
  exports.Set("openFile", Napi::Function::New(env, openFile));
  exports.Set("openRegular", Napi::Function::New(env, openRegular));
  exports.Set("empty", Napi::Function::New(env, empty));
  exports.Set("closeFd", Napi::Function::New(env, closeFd));
  exports.Set("setDirect", Napi::Function::New(env, setDirect));
  exports.Set("setBlocking", Napi::Function::New(env, setBlocking));
  exports.Set("statFd", Napi::Function::New(env, statFd));
  exports.Set("readAt", Napi::Function::New(env, readAt));
  exports.Set("fileSize", Napi::Function::New(env, fileSize));
  exports.Set("blockFacts", Napi::Function::New(env, blockFacts));
  exports.Set("nsid", Napi::Function::New(env, nsid));
  exports.Set("fileFlags", Napi::Function::New(env, fileFlags));
  exports.Set("extentFlags", Napi::Function::New(env, extentFlags));
  exports.Set("seek", Napi::Function::New(env, seek));
  exports.Set("openWatched", Napi::Function::New(env, openWatched));
  exports.Set("closeWatched", Napi::Function::New(env, closeWatched));
  exports.Set("hasChanged", Napi::Function::New(env, hasChanged));
}

}  // namespace p2pdma
