// One pump reads the chunks of a range into slots of memory and writes them to every destination, without JavaScript.
#pragma once

#include "records.h"
#include "request.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace p2pdma {

//   slot     free ─▶ being read ─▶ waiting ─▶ being written, once per destination ─▶ free
//   range    ████ moved ████│▒▒ in flight ▒▒│ next ─────────────────────▶ length
//
// It moves only chunks that the kernel reads and writes in full. After the first answer of any other kind, and when it is told
// to stop, it begins no more reads, waits for what is in flight, and reports how far it came without a gap and what the answer
// was. JavaScript decides what that means and continues from there.
class Pump {
 public:
  struct End {
    int fd;
    uint32_t flags;
    int64_t offset;
  };
  struct Plan {
    End source;
    std::vector<End> destinations;
    int64_t length;   // bytes: whole blocks of every end
    int64_t chunk;    // bytes: whole blocks of every end
    uint32_t depth;   // the largest number of transfers of each end in flight
    char* memory;     // the address of the first slot
    size_t stride;    // the distance from slot to slot, in bytes
    uint32_t slots;
    double* state;    // kPumpLegs words, then kPumpLegWords per leg; shared with JavaScript
  };
  // The object that passes the pump's requests to the kernel. Each comes back through `ended`.
  class Host {
   public:
    virtual void begin(Request* r) = 0;

   protected:
    ~Host() = default;
  };

  Pump(Host& host, Plan plan);

  void start() { fill(); }
  // One of the pump's requests has its answer.
  void ended(Request* r);
  // Begins no more reads.
  void halt() { halted_ = true; }
  // Nothing is in flight, and no more requests will begin.
  bool isOver() const { return busy_ == 0 && (halted_ || next_ >= plan_.length); }

  template <typename Visit>
  void eachRequest(Visit visit) {
    for (Slot& slot : slots_) {
      for (const auto& r : slot.requests) visit(r.get());
    }
  }

 private:
  struct Slot {
    std::vector<std::unique_ptr<Request>> requests;  // the read, then the write of each destination
    int64_t at = 0;                                  // where its chunk begins, counted from the beginning of the range
    int64_t bytes = 0;
    size_t writing = 0;
    bool failed = false;
  };
  struct Writes {
    uint32_t inFlight = 0;
    std::deque<uint32_t> waiting;  // slots that have been read
  };
  struct Piece {
    int64_t at;
    int64_t bytes;
  };

  void fill();
  void begin(uint32_t slot, size_t leg);
  void write(uint32_t slot);
  void wrote(size_t leg);
  double* leg(size_t leg) { return plan_.state + kPumpLegs + leg * kPumpLegWords; }
  void fail(uint32_t slot, size_t leg, int32_t result);
  void release(uint32_t slot);
  void moved(Piece piece);

  Host& host_;
  const Plan plan_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<Writes> writes_;  // one per destination
  std::vector<Piece> beyond_;  // written, but with a gap before them
  int64_t next_ = 0;           // the first byte for which no read has begun
  uint32_t reading_ = 0;
  uint32_t busy_ = 0;  // slots that are not free
  bool halted_ = false;
};

}  // namespace p2pdma
