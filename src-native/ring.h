// One io_uring, spoken over linux/io_uring.h alone.
#pragma once

#include <linux/io_uring.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace p2pdma {

struct Completion {
  uint64_t userData;
  int32_t res;
  uint64_t extra;  // CQE32: the command's own result
};

// Used by one thread only, the one that opened it.
class Ring {
 public:
  enum class Size { kNormal, kBig };  // kBig: SQE128 + CQE32, for URING_CMD

  ~Ring() { close(); }

  // 0 or -errno.
  int open(unsigned entries, Size size, int eventFd);
  void close();
  bool isOpen() const { return fd_ >= 0; }

  // The op codes that this kernel has.
  bool supports(uint8_t op) const { return supported_[op]; }

  // A zeroed entry to fill, or null when the submission queue is full.
  io_uring_sqe* next();
  // The second 64 bytes of an entry of a big ring follow the first.
  unsigned unsubmitted() const { return localTail_ - submittedTail_; }

  // Give what is prepared to the kernel, in one call unless it is interrupted. Returns entries it took,
  // or -errno when it took none (EAGAIN, EBUSY: try again later).
  int submit();
  // Take the last prepared entry that the kernel did not take out again: its user data. False: there is none.
  bool takeBack(uint64_t* userData);
  // Run deferred completion work; wait for `atLeast` completions.
  int enter(unsigned atLeast);

  // Take one completion, if there is one.
  bool pop(Completion* out);
  // Have the kernel do what it does only when it is entered: completions, or the end of a request that a worker did.
  // 1: something may have come of it; 0: there was none; -errno: not now.
  int runDeferredWork();
  unsigned capacity() const { return cqEntries_; }

  // Registered files: a slot spares each request the lookup of its fd. 0 slots where the kernel has none.
  unsigned fileSlots() const { return fileSlots_; }
  // Put an open file into a slot; -1 empties it. 0 or -errno.
  int setFile(unsigned slot, int fd);
  // An emptied slot's file is let go with the last request on it; before 6.14 it may be later than that.
  bool releasesFilesAtOnce() const { return releasesFilesAtOnce_; }

  unsigned flags() const { return setupFlags_; }

 private:
  int fd_ = -1;
  bool big_ = false;
  bool overflowed() const;
  void registerFiles();
  unsigned fileSlots_ = 0;
  bool releasesFilesAtOnce_ = false;
  unsigned setupFlags_ = 0;
  unsigned sqEntries_ = 0;
  unsigned cqEntries_ = 0;
  unsigned localTail_ = 0;      // prepared up to here
  unsigned submittedTail_ = 0;  // taken by the kernel up to here
  void* sqMap_ = nullptr;
  size_t sqMapSize_ = 0;
  void* cqMap_ = nullptr;
  size_t cqMapSize_ = 0;
  void* sqes_ = nullptr;
  size_t sqesSize_ = 0;
  unsigned* sqHead_ = nullptr;
  unsigned* sqTail_ = nullptr;
  unsigned* sqFlags_ = nullptr;
  unsigned sqMask_ = 0;
  unsigned* cqHead_ = nullptr;
  unsigned* cqTail_ = nullptr;
  unsigned cqMask_ = 0;
  char* cqes_ = nullptr;
  bool supported_[256] = {};
};

}  // namespace p2pdma
