// The engine's pumps: from a record of the request stream to the one completion that JavaScript gets. See pump.h.
#include "engine.h"
#include "mapping.h"
#include "records.h"

#include <cerrno>
#include <utility>

namespace p2pdma {

void Engine::takePump(Request* r, const double* w, size_t n) {
  const size_t destinations = n < kPumpWords ? 0 : (n - kPumpWords) / kPumpEndWords;
  if (destinations == 0) return;  // startPump() refuses it
  Pump::Plan plan;
  plan.source = {r->fd, r->flags, r->offset};
  plan.length = static_cast<int64_t>(w[0]);
  plan.chunk = static_cast<int64_t>(w[1]);
  plan.depth = static_cast<uint32_t>(w[2]);
  plan.memory = reinterpret_cast<char*>(static_cast<uintptr_t>(w[3]));
  plan.stride = static_cast<size_t>(w[4]);
  plan.slots = static_cast<uint32_t>(w[5]);
  const int mapping = static_cast<int>(w[6]);
  if (mapping >= 0) {
    retainMapping(*env_, mapping);
    r->mappings.push_back(mapping);
  }
  plan.state = reinterpret_cast<double*>(static_cast<uintptr_t>(w[7]));
  for (size_t i = 0; i < destinations; i++) {
    const double* end = w + kPumpWords + i * kPumpEndWords;
    plan.destinations.push_back(
        {static_cast<int>(end[0]), static_cast<uint32_t>(end[1]), static_cast<int64_t>(end[2])});
  }
  // Requests for which the engine chooses a thread, or none, are its own.
  uint32_t flags = r->flags;
  for (const Pump::End& end : plan.destinations) flags |= end.flags;
  const bool onThread = (flags & (kFlagThread | kFlagHere)) == 0 && hasPumpThread();
  Pump::Host& host = onThread ? static_cast<Pump::Host&>(*pumpThread_) : *this;
  pumps_.push_back({r, std::make_unique<Pump>(host, std::move(plan)), onThread});
}

// It is started with the first pump. If that fails, the engine runs its pumps itself, as it does without a ring.
bool Engine::hasPumpThread() {
  if (!lane_.ring.isOpen() || quiet_) return false;
  if (pumpThreadTried_) return pumpThread_ != nullptr;
  pumpThreadTried_ = true;
  pumpThread_ = std::make_unique<PumpThread>(*waker_);
  if (pumpThread_->start() != 0) {
    pumpThread_.reset();
    return false;
  }
  env_->counters.threads++;
  env_->counters.rings++;
  return true;
}

// The record that was taken last.
void Engine::startPump(Request* r) {
  r->res = -EINVAL;
  if (!pumps_.empty() && pumps_.back().request == r) {
    if (pumps_.back().onThread) {
      pumpThread_->give(r, std::move(pumps_.back().pump));
      pumps_.pop_back();
      return;
    }
    pumps_.back().pump->start();
    if (!pumps_.back().pump->isOver()) return;
    pumps_.pop_back();  // stopped before it began
    r->res = 0;
  }
  finished_.push_back(r);
  waker_->signal();
}

void Engine::begin(Request* r) {
  r->retries = 0;
  count(r);
  dispatch(r);
}

void Engine::endPump(Pump* pump) {
  for (auto& running : pumps_) {
    if (running.pump.get() != pump) continue;
    Request* const r = running.request;
    std::swap(running, pumps_.back());
    pumps_.pop_back();
    r->res = 0;
    complete(r);
    return;
  }
}

}  // namespace p2pdma
