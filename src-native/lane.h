// A ring, the requests that wait for room in it, and those that are in it.
#pragma once

#include "request.h"
#include "ring.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace p2pdma {

// How often in a row the kernel may say that it cannot take a request now.
constexpr uint32_t kMaxRetries = 1000;

inline Request* requestOf(uint64_t userData) { return reinterpret_cast<Request*>(static_cast<uintptr_t>(userData)); }

// Describes a request to the kernel; its file is named by its fd.
void prepareEntry(const Request& r, io_uring_sqe* sqe);

class Lane {
 public:
  Ring ring;
  std::deque<Request*> pending;
  size_t inRing = 0;
  int64_t enters = 0;  // calls that submitted something

  // Gives the kernel what waits, as far as the ring has room, and then waits until `atLeast` requests have ended. False: the
  // kernel takes no more now, so this is to be called again after a pause. What it will never take goes to `refused`; null stands
  // for an entry that was not made here.
  template <typename Prepare>
  bool submit(Prepare prepare, std::vector<Request*>* refused, unsigned atLeast = 0) {
    while (ring.isOpen()) {
      // The ring never has more requests than it can hold completions.
      while (!pending.empty() && inRing < ring.capacity()) {
        io_uring_sqe* sqe = ring.next();
        if (sqe == nullptr) break;
        prepare(pending.front(), sqe);
        pending.pop_front();
        inRing++;
      }
      const bool all = pending.empty() || inRing >= ring.capacity();
      const unsigned wait = all ? atLeast : 0;
      if (ring.unsubmitted() == 0 && wait == 0) return true;
      if (ring.unsubmitted() > 0) enters++;
      const int taken = ring.submit(wait);
      if (taken > 0) refusals_ = 0;
      if (taken < 0 || ring.unsubmitted() > 0) return refuse(taken < 0 ? taken : -EAGAIN, refused);
      if (all) return true;
    }
    return true;
  }

 private:
  bool refuse(int error, std::vector<Request*>* refused);

  uint32_t refusals_ = 0;  // successive submissions that the kernel did not take
};

}  // namespace p2pdma
