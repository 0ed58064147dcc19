// One request in flight. It is kept for its slot and reused; its address does not change while the kernel may read it.
#pragma once

#include "nvme.h"

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <vector>

namespace p2pdma {

// The op codes of the request stream. engine.ts has the same list: a test compares it with layout() of engine.cc.
enum class Op : uint8_t {
  kRead = 0,
  kWrite = 1,
  kSync = 2,
  kPassthrough = 3,
  kAllocate = 4,
  kTruncate = 5,
  kClose = 6,
  kNop = 7,
  kPump = 8,
  kPipeRead = 9,
  kPipeWrite = 10,
  kOpen = 11,
};

// The flags beside the op code, the same as in engine.ts.
constexpr uint32_t kFlagAsync = 1;     // may block in the kernel (page cache), so it never runs inside the submitting call
constexpr uint32_t kFlagAdmin = 2;     // passthrough to the admin queue
constexpr uint32_t kFlagUringCmd = 4;  // passthrough: the fd is an NVMe generic char device
constexpr uint32_t kFlagThread = 8;    // by a thread, although there is a ring
constexpr uint32_t kFlagHere = 16;     // a system call that is short here: on the JS thread, without a change of threads

class Pump;

struct Request {
  uint32_t slot = 0;       // the number that JavaScript or the pump gave it
  Pump* pump = nullptr;    // the pump to which it belongs; null: it belongs to JavaScript
  uint32_t leg = 0;        // in a pump: 0 is the read, from 1 the write to each destination
  Op op = Op::kNop;
  uint32_t flags = 0;
  int fd = -1;
  int64_t offset = 0;  // kOpen: the flags of open(2)
  int64_t length = 0;  // kAllocate
  int mode = 0;        // kAllocate, kOpen
  std::string path;    // kOpen
  std::vector<iovec> iov;
  std::vector<int> mappings;
  NvmeCommand command = {};
  uint32_t retries = 0;
  int32_t res = 0;
  uint64_t extra = 0;
  bool active = false;
};

// open(2) with O_CLOEXEC, O_NOCTTY, and O_NONBLOCK so that opening a FIFO does not hang. Returns an fd, which is not O_NONBLOCK, or
// -errno.
int openQuietly(const char* path, int flags, mode_t mode);

// Performs the request as the thread engine does, and stores the result in res and extra.
void perform(Request* r);

}  // namespace p2pdma
