// One pump: the chunks of a range, read into slots of memory and written to every destination, with no JavaScript between.
#pragma once

#include "records.h"
#include "request.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace p2pdma {

//   slot     free ─▶ being read ─▶ being written, once per destination ─▶ free
//   range    ████ moved ████│▒▒ in flight ▒▒│ next ─────────────────────▶ length
//
// It moves only whole chunks that the kernel takes and brings in full. At the first answer of any other kind, and when it is
// told to stop, it begins no more reads, lets what is in flight come to its end, and says how far it came without a gap and
// what the answer was. What that means is for JavaScript to decide, which goes on from there.
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
    uint32_t depth;   // reads in flight at most
    char* memory;     // of the first slot
    size_t stride;    // from slot to slot, in bytes
    uint32_t slots;
    double* state;    // kPumpLegs and kPumpLegWords per leg, shared with JavaScript
  };
  // Who takes its requests to the kernel. Each comes back through `ended`.
  class Host {
   public:
    virtual void begin(Request* r) = 0;

   protected:
    ~Host() = default;
  };

  Pump(Host& host, Plan plan);

  void start() { fill(); }
  // One of its requests has its answer.
  void ended(Request* r);
  // Nothing is in flight, and nothing more will be.
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
    int64_t at = 0;                                  // of its chunk, from the beginning of the range
    int64_t bytes = 0;
    size_t writing = 0;
    bool failed = false;
  };
  struct Piece {
    int64_t at;
    int64_t bytes;
  };

  void fill();
  void begin(uint32_t slot, size_t leg);
  void write(uint32_t slot);
  double* leg(size_t leg) { return plan_.state + kPumpLegs + leg * kPumpLegWords; }
  void fail(uint32_t slot, size_t leg, int32_t result);
  void release(uint32_t slot);
  void moved(Piece piece);

  Host& host_;
  const Plan plan_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<Piece> beyond_;  // written, and waiting for the gap before them to close
  int64_t next_ = 0;           // the first byte of which no read was begun
  uint32_t reading_ = 0;
  uint32_t busy_ = 0;  // slots that are not free
  bool halted_ = false;
};

}  // namespace p2pdma
