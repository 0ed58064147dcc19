// io_uring without liburing: set-up with the best flags that the kernel supports, submission, reaping.
#include "ring.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace p2pdma {
namespace {

// Headers may be older than the kernel on which this runs. The numbers of system calls since 5.1 are the same on every
// architecture, and flags are part of the ABI.
constexpr long kSetup = 425;
constexpr long kEnter = 426;
constexpr long kRegister = 427;
constexpr unsigned kSetupCqSize = 1u << 3;
constexpr unsigned kSetupClamp = 1u << 4;
constexpr unsigned kSetupCoopTaskrun = 1u << 8;
constexpr unsigned kSetupTaskrunFlag = 1u << 9;
constexpr unsigned kSetupSqe128 = 1u << 10;
constexpr unsigned kSetupCqe32 = 1u << 11;
constexpr unsigned kSetupSingleIssuer = 1u << 12;
constexpr unsigned kSetupDeferTaskrun = 1u << 13;
constexpr unsigned kFeatSingleMmap = 1u << 0;
constexpr unsigned kFeatNoDrop = 1u << 1;
constexpr unsigned kFeatRwAttr = 1u << 16;
constexpr unsigned kRegisterFiles = 2;
constexpr unsigned kRegisterEventFd = 4;
constexpr unsigned kRegisterFilesUpdate = 6;
constexpr unsigned kRegisterProbe = 8;
// The number of files in use at once that get a slot; RLIMIT_NOFILE, which limits the table, is larger everywhere.
constexpr unsigned kFileSlots = 64;
constexpr unsigned kSqCqOverflow = 1u << 1;
constexpr unsigned kSqTaskrun = 1u << 2;

static_assert(sizeof(io_uring_sqe) >= 64, "an entry is 64 bytes");
static_assert(offsetof(io_uring_sqe, user_data) == 32, "io_uring_sqe is ABI");
static_assert(offsetof(io_uring_cqe, res) == 8, "io_uring_cqe is ABI");

long sysEnter(int fd, unsigned submit, unsigned wait, unsigned flags) {
  return syscall(kEnter, fd, submit, wait, flags, nullptr, 0);
}

template <typename T>
T* at(void* base, unsigned offset) {
  return reinterpret_cast<T*>(static_cast<char*>(base) + offset);
}

}  // namespace

int Ring::open(unsigned entries, Size size, int eventFd) {
  big_ = size == Size::kBig;
  const unsigned base = kSetupCqSize | kSetupClamp | (big_ ? kSetupSqe128 | kSetupCqe32 : 0);
  // With deferred task work (6.1) completions run in batches when we ask, never in the middle of JavaScript;
  // cooperative task work (5.19) at least avoids the interrupt.
  const unsigned attempts[] = {base | kSetupSingleIssuer | kSetupDeferTaskrun | kSetupTaskrunFlag,
                               base | kSetupCoopTaskrun, base};
  io_uring_params p;
  int error = EINVAL;
  for (unsigned flags : attempts) {
    memset(&p, 0, sizeof p);
    p.flags = flags;
    p.cq_entries = std::max(entries * 4, 16u);
    const long fd = syscall(kSetup, entries, &p);
    if (fd >= 0) {
      fd_ = static_cast<int>(fd);
      setupFlags_ = flags;
      break;
    }
    error = errno;
    if (error != EINVAL) break;
  }
  if (fd_ < 0) return -error;

  sqEntries_ = p.sq_entries;
  cqEntries_ = p.cq_entries;
  const size_t sqeSize = big_ ? 128 : 64;
  const size_t cqeSize = big_ ? 32 : 16;
  sqMapSize_ = p.sq_off.array + p.sq_entries * sizeof(unsigned);
  cqMapSize_ = p.cq_off.cqes + p.cq_entries * cqeSize;
  const bool single = (p.features & kFeatSingleMmap) != 0;
  if (single) sqMapSize_ = cqMapSize_ = std::max(sqMapSize_, cqMapSize_);
  const int prot = PROT_READ | PROT_WRITE;
  const int flags = MAP_SHARED | MAP_POPULATE;
  sqMap_ = mmap(nullptr, sqMapSize_, prot, flags, fd_, IORING_OFF_SQ_RING);
  cqMap_ = single ? sqMap_ : mmap(nullptr, cqMapSize_, prot, flags, fd_, IORING_OFF_CQ_RING);
  sqesSize_ = p.sq_entries * sqeSize;
  sqes_ = mmap(nullptr, sqesSize_, prot, flags, fd_, IORING_OFF_SQES);
  if (sqMap_ == MAP_FAILED || cqMap_ == MAP_FAILED || sqes_ == MAP_FAILED) {
    const int failed = errno;
    close();
    return -failed;
  }
  // A child of fork() must not keep the ring's memory.
  madvise(sqMap_, sqMapSize_, MADV_DONTFORK);
  madvise(sqes_, sqesSize_, MADV_DONTFORK);
  sqHead_ = at<unsigned>(sqMap_, p.sq_off.head);
  sqTail_ = at<unsigned>(sqMap_, p.sq_off.tail);
  sqFlags_ = at<unsigned>(sqMap_, p.sq_off.flags);
  sqMask_ = *at<unsigned>(sqMap_, p.sq_off.ring_mask);
  unsigned* array = at<unsigned>(sqMap_, p.sq_off.array);
  for (unsigned i = 0; i < p.sq_entries; i++) array[i] = i;
  cqHead_ = at<unsigned>(cqMap_, p.cq_off.head);
  cqTail_ = at<unsigned>(cqMap_, p.cq_off.tail);
  cqMask_ = *at<unsigned>(cqMap_, p.cq_off.ring_mask);
  cqes_ = at<char>(cqMap_, p.cq_off.cqes);
  localTail_ = submittedTail_ = *sqTail_;

  const size_t probeSize = sizeof(io_uring_probe) + 256 * sizeof(io_uring_probe_op);
  auto* probe = static_cast<io_uring_probe*>(calloc(1, probeSize));
  if (syscall(kRegister, fd_, kRegisterProbe, probe, 256) == 0) {
    for (unsigned i = 0; i < probe->ops_len; i++) {
      supported_[probe->ops[i].op] = (probe->ops[i].flags & 1) != 0;
    }
  }
  free(probe);
  if ((p.features & kFeatNoDrop) == 0) supported_[0] = false;  // completions could be lost: the ring is not used

  if (eventFd >= 0 && syscall(kRegister, fd_, kRegisterEventFd, &eventFd, 1) != 0) {
    const int failed = errno;
    close();
    return -failed;
  }
  registerFiles();
  // Since 6.13 each slot has its own reference count; before, slots were freed in the order of all requests, and up to
  // 6.3 as much as a second later. 6.14 is the first release that can be recognised by its features.
  releasesFilesAtOnce_ = (p.features & kFeatRwAttr) != 0;
  return 0;
}

void Ring::registerFiles() {
  int empty[kFileSlots];
  std::fill(empty, empty + kFileSlots, -1);
  if (syscall(kRegister, fd_, kRegisterFiles, empty, kFileSlots) == 0) fileSlots_ = kFileSlots;
}

int Ring::setFile(unsigned slot, int fd) {
  struct {
    uint32_t offset;
    uint32_t reserved;
    uint64_t fds;
  } update = {slot, 0, reinterpret_cast<uintptr_t>(&fd)};
  return syscall(kRegister, fd_, kRegisterFilesUpdate, &update, 1) >= 0 ? 0 : -errno;
}

void Ring::close() {
  if (sqes_ != nullptr && sqes_ != MAP_FAILED) munmap(sqes_, sqesSize_);
  if (cqMap_ != nullptr && cqMap_ != MAP_FAILED && cqMap_ != sqMap_) munmap(cqMap_, cqMapSize_);
  if (sqMap_ != nullptr && sqMap_ != MAP_FAILED) munmap(sqMap_, sqMapSize_);
  sqes_ = cqMap_ = sqMap_ = nullptr;
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

io_uring_sqe* Ring::next() {
  const unsigned head = __atomic_load_n(sqHead_, __ATOMIC_ACQUIRE);
  if (localTail_ - head >= sqEntries_) return nullptr;
  const size_t size = big_ ? 128 : 64;
  char* sqe = static_cast<char*>(sqes_) + (localTail_ & sqMask_) * size;
  memset(sqe, 0, size);
  localTail_++;
  return reinterpret_cast<io_uring_sqe*>(sqe);
}

int Ring::submit(unsigned atLeast) {
  const unsigned total = unsubmitted();
  if (total == 0) return atLeast == 0 ? 0 : enter(atLeast);
  __atomic_store_n(sqTail_, localTail_, __ATOMIC_RELEASE);
  int taken = 0;
  while (unsubmitted() > 0) {
    const long n = sysEnter(fd_, unsubmitted(), atLeast, atLeast == 0 ? 0 : IORING_ENTER_GETEVENTS);
    if (n < 0) {
      if (errno == EINTR) continue;
      return taken > 0 ? taken : -errno;
    }
    if (n == 0) break;
    submittedTail_ += static_cast<unsigned>(n);
    taken += static_cast<int>(n);
  }
  return taken;
}

bool Ring::takeBack(uint64_t* userData) {
  if (unsubmitted() == 0) return false;
  localTail_--;
  const size_t size = big_ ? 128 : 64;
  const char* sqe = static_cast<char*>(sqes_) + (localTail_ & sqMask_) * size;
  memcpy(userData, sqe + offsetof(io_uring_sqe, user_data), sizeof *userData);
  // The kernel does this only when this thread enters it.
  __atomic_store_n(sqTail_, localTail_, __ATOMIC_RELEASE);
  return true;
}

int Ring::enter(unsigned atLeast) {
  for (;;) {
    if (sysEnter(fd_, 0, atLeast, IORING_ENTER_GETEVENTS) >= 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

// The kernel queues the work first and sets the flag after it. If a worker is preempted between the two, the flag is set
// for work that has been done meanwhile, and entering the kernel clears it only if there is work. So it is cleared here
// before entering, and the kernel sets it again if it leaves work undone.
int Ring::runDeferredWork() {
  if ((__atomic_load_n(sqFlags_, __ATOMIC_ACQUIRE) & kSqTaskrun) == 0) return 0;
  __atomic_fetch_and(sqFlags_, ~kSqTaskrun, __ATOMIC_SEQ_CST);
  const int error = enter(0);
  if (error == 0) return 1;
  __atomic_fetch_or(sqFlags_, kSqTaskrun, __ATOMIC_SEQ_CST);
  return error;
}

bool Ring::overflowed() const {
  return (__atomic_load_n(sqFlags_, __ATOMIC_RELAXED) & kSqCqOverflow) != 0;
}

bool Ring::pop(Completion* out) {
  const unsigned head = *cqHead_;
  if (head == __atomic_load_n(cqTail_, __ATOMIC_ACQUIRE)) {
    if (!overflowed() || enter(0) < 0) return false;
    if (head == __atomic_load_n(cqTail_, __ATOMIC_ACQUIRE)) return false;
  }
  const char* cqe = cqes_ + static_cast<size_t>(head & cqMask_) * (big_ ? 32 : 16);
  memcpy(&out->userData, cqe, 8);
  memcpy(&out->res, cqe + 8, 4);
  out->extra = 0;
  if (big_) memcpy(&out->extra, cqe + 16, 8);
  __atomic_store_n(cqHead_, head + 1, __ATOMIC_RELEASE);
  return true;
}

}  // namespace p2pdma
