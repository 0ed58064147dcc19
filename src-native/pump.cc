// See pump.h for what a pump is.
#include "pump.h"

#include <algorithm>
#include <utility>

namespace p2pdma {
namespace {

// The first read into a slot makes the kernel clear its pages. From this size on a worker of the kernel does it, so that the
// thread that runs the pump does not wait until the memory of all its slots is clear.
constexpr int64_t kSlowToTouch = 256 << 10;

}  // namespace

Pump::Pump(Host& host, Plan plan)
    : host_(host), plan_(std::move(plan)), slots_(plan_.slots), writes_(plan_.destinations.size()) {
  for (uint32_t i = 0; i < plan_.slots; i++) {
    char* const memory = plan_.memory + i * plan_.stride;
    for (size_t leg = 0; leg <= plan_.destinations.size(); leg++) {
      const End& end = leg == 0 ? plan_.source : plan_.destinations[leg - 1];
      auto r = std::make_unique<Request>();
      r->op = leg == 0 ? Op::kRead : Op::kWrite;
      r->fd = end.fd;
      r->flags = end.flags;
      if (leg == 0 && plan_.chunk >= kSlowToTouch) r->flags |= kFlagAsync;
      r->pump = this;
      r->slot = i;
      r->leg = static_cast<uint32_t>(leg);
      r->iov.push_back({memory, 0});
      slots_[i].requests.push_back(std::move(r));
    }
    free_.push_back(plan_.slots - 1 - i);
  }
  plan_.state[kPumpFailedLeg] = -1;
}

// Begins as many reads as there is memory for.
void Pump::fill() {
  double stop;
  __atomic_load(&plan_.state[kPumpStop], &stop, __ATOMIC_RELAXED);
  if (stop != 0) halted_ = true;
  while (!halted_ && next_ < plan_.length && reading_ < plan_.depth && !free_.empty()) {
    const uint32_t index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[index];
    slot.at = next_;
    slot.bytes = std::min(plan_.chunk, plan_.length - next_);
    slot.failed = false;
    next_ += slot.bytes;
    reading_++;
    busy_++;
    begin(index, 0);
  }
}

void Pump::begin(uint32_t index, size_t leg) {
  const Slot& slot = slots_[index];
  const End& end = leg == 0 ? plan_.source : plan_.destinations[leg - 1];
  Request* const r = slot.requests[leg].get();
  r->offset = end.offset + slot.at;
  r->iov[0].iov_len = static_cast<size_t>(slot.bytes);
  this->leg(leg)[2]++;
  host_.begin(r);
}

void Pump::ended(Request* r) {
  const uint32_t index = r->slot;
  Slot& slot = slots_[index];
  double* const account = leg(r->leg);
  account[0]++;
  if (r->res > 0) account[1] += r->res;
  account[2]--;
  if (r->res != slot.bytes) fail(index, r->leg, r->res);
  if (r->leg == 0) {
    reading_--;
    r->flags = plan_.source.flags;
    if (slot.failed) release(index);
    else write(index);
  } else {
    wrote(r->leg);
    if (--slot.writing == 0) {
      if (!slot.failed) moved({slot.at, slot.bytes});
      release(index);
    }
  }
  fill();
}

void Pump::write(uint32_t index) {
  slots_[index].writing = plan_.destinations.size();
  for (size_t leg = 1; leg <= plan_.destinations.size(); leg++) {
    Writes& writes = writes_[leg - 1];
    if (writes.inFlight < plan_.depth) {
      writes.inFlight++;
      begin(index, leg);
    } else {
      writes.waiting.push_back(index);
    }
  }
}

// A write of this leg has ended, so the next one can begin.
void Pump::wrote(size_t leg) {
  Writes& writes = writes_[leg - 1];
  if (writes.waiting.empty()) {
    writes.inFlight--;
    return;
  }
  const uint32_t index = writes.waiting.front();
  writes.waiting.pop_front();
  begin(index, leg);
}

// Of several failures the one nearest to the beginning counts: only up to there nothing is missing.
void Pump::fail(uint32_t index, size_t leg, int32_t result) {
  Slot& slot = slots_[index];
  slot.failed = true;
  halted_ = true;
  double* const state = plan_.state;
  if (state[kPumpFailedLeg] >= 0 && state[kPumpFailedAt] <= static_cast<double>(slot.at)) return;
  state[kPumpFailedLeg] = static_cast<double>(leg);
  state[kPumpFailedAt] = static_cast<double>(slot.at);
  state[kPumpFailedResult] = result;
}

void Pump::release(uint32_t index) {
  free_.push_back(index);
  busy_--;
}

// Chunks end in any order; only what has no gap before it counts.
void Pump::moved(Piece piece) {
  beyond_.push_back(piece);
  double& to = plan_.state[kPumpMoved];
  for (bool found = true; found;) {
    found = false;
    for (size_t i = 0; i < beyond_.size() && !found; i++) {
      if (beyond_[i].at != static_cast<int64_t>(to)) continue;
      to += static_cast<double>(beyond_[i].bytes);
      beyond_[i] = beyond_.back();
      beyond_.pop_back();
      found = true;
    }
  }
}

}  // namespace p2pdma
