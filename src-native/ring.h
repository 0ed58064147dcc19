// One io_uring, used through linux/io_uring.h only.
#pragma once

#include <linux/io_uring.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace p2pdma {

// IORING_OP_* is an enum in the header, so #ifdef cannot tell whether an older header has a value.
constexpr uint8_t kOpNop = 0;
constexpr uint8_t kOpReadv = 1;
constexpr uint8_t kOpWritev = 2;
constexpr uint8_t kOpFsync = 3;
constexpr uint8_t kOpPollAdd = 6;
constexpr uint8_t kOpAsyncCancel = 14;
constexpr uint8_t kOpRead = 22;
constexpr uint8_t kOpWrite = 23;
constexpr uint8_t kOpUringCmd = 46;

struct Completion {
  uint64_t userData;
  int32_t res;
  uint64_t extra;  // CQE32: the command's own result
};

// It is used only by the thread that opened it.
class Ring {
 public:
  enum class Size { kNormal, kBig };  // kBig: SQE128 + CQE32, for URING_CMD

  ~Ring() { close(); }

  // Returns 0 or -errno. eventFd: is signalled with each completion; negative: nothing is.
  int open(unsigned entries, Size size, int eventFd);
  void close();
  bool isOpen() const { return fd_ >= 0; }

  // Whether this kernel supports an op code.
  bool supports(uint8_t op) const { return supported_[op]; }

  // Returns a zeroed entry to fill in, or null if the submission queue is full.
  io_uring_sqe* next();
  // In a big ring the second 64 bytes of an entry follow the first.
  unsigned unsubmitted() const { return localTail_ - submittedTail_; }

  // Gives the prepared entries to the kernel, in one call unless it is interrupted, in which it also waits for `atLeast`
  // completions. Returns the number of entries that it took, or -errno if it took none (EAGAIN, EBUSY: try again later).
  int submit(unsigned atLeast = 0);
  // Removes the last prepared entry that the kernel has not taken, and gives its user data. False: there is none.
  bool takeBack(uint64_t* userData);
  // Runs deferred completion work and waits for `atLeast` completions.
  int enter(unsigned atLeast);

  // Takes one completion, if there is one.
  bool pop(Completion* out);
  // Lets the kernel do the work that it does only when it is entered: completions, and the end of requests that a worker
  // did. Returns 1 if there may be new completions, 0 if there was no such work, and -errno if it cannot be done now.
  int runDeferredWork();
  unsigned capacity() const { return cqEntries_; }

  // Registered files: with a slot the kernel does not look up the fd for each request. 0 slots if the kernel has none.
  unsigned fileSlots() const { return fileSlots_; }
  // Puts an open file into a slot; -1 empties the slot. Returns 0 or -errno.
  int setFile(unsigned slot, int fd);
  // The file of an emptied slot is released with the last request on it; before 6.14 possibly later than that.
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
  unsigned localTail_ = 0;      // entries are prepared up to here
  unsigned submittedTail_ = 0;  // the kernel has taken entries up to here
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
