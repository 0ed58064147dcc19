// From the request stream through the ring or the pool to the completion table. See engine.h for who calls what when.
#include "engine.h"

#include "mapping.h"
#include "records.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>

namespace p2pdma {
namespace {

constexpr int32_t kRetryTold = 2;  // in control_[kRetryWanted]: JavaScript has been told
constexpr uint64_t kNoRequest = ~0ull;
constexpr uint8_t kSqeFixedFile = 1u << 0;
constexpr unsigned kMaxThreads = 32;
constexpr unsigned kBigRingEntries = 64;
// The kernel moves no more than this in one transfer (MAX_RW_COUNT).
constexpr size_t kMaxTransfer = 0x7ffff000;
// As long as this turn of the event loop has taken less, it goes on with what is done at once: in nanoseconds.
constexpr int64_t kTurnBudget = 500'000;

int64_t nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

}  // namespace

Engine::Engine(EnvPtr env) : env_(std::move(env)) {}

int Engine::open(Napi::Env napi, const Wishes& wishes, Shared shared) {
  if (wishes.loop) waker_ = openLoopWaker(env_, this);
  if (!waker_) waker_ = openThreadWaker(napi, this);
  if (!waker_) return -ECANCELED;
  const int error = wishes.ring ? openRing(wishes.entries) : 0;
  if (error != 0) {
    waker_->close();
    return error;
  }
  sq_ = shared.requests.Data();
  sqWords_ = shared.requests.ElementLength();
  cq_ = shared.completions.Data();
  cqRecords_ = shared.completions.ElementLength() / kCompletionWords;
  control_ = shared.control.Data();
  const napi_value held[] = {shared.requests, shared.completions, shared.control, shared.callback};
  for (size_t i = 0; i < 4; i++) napi_create_reference(napi, held[i], 1, &refs_[i]);
  napi_async_init(napi, nullptr, Napi::String::New(napi, "p2pdma.engine"), &async_);
  return 0;
}

int Engine::openRing(unsigned entries) {
  const int eventFd = waker_->watch();
  if (eventFd < 0) return eventFd;
  const int error = lane_.ring.open(entries, Ring::Size::kNormal, eventFd);
  if (error != 0) return error;
  for (uint8_t op : {kOpNop, kOpReadv, kOpWritev, kOpFsync, kOpAsyncCancel, kOpRead, kOpWrite}) {
    if (lane_.ring.supports(op)) continue;
    lane_.ring.close();
    return -ENOSYS;
  }
  env_->counters.rings++;
  fileSlots_.assign(lane_.ring.fileSlots(), -1);
  return 0;
}

Request* Engine::slot(uint32_t index) {
  while (slots_.size() <= index) slots_.push_back(std::make_unique<Request>());
  return slots_[index].get();
}

void Engine::take() {
  const size_t words = static_cast<size_t>(control_[kQueued]);
  control_[kQueued] = 0;
  size_t i = 0;
  while (i + kHeaderWords <= words && words <= sqWords_) {
    const double* w = sq_ + i;
    const size_t n = static_cast<size_t>(w[4]);
    if (i + kHeaderWords + n > words) break;
    i += kHeaderWords + n;
    Request* r = slot(static_cast<uint32_t>(w[0]));
    const uint32_t code = static_cast<uint32_t>(w[1]);
    r->slot = static_cast<uint32_t>(w[0]);
    r->op = static_cast<Op>(code % kFlagsFrom);
    r->flags = code / kFlagsFrom;
    r->fd = static_cast<int>(w[2]);
    r->offset = static_cast<int64_t>(w[3]);
    r->retries = 0;
    r->extra = 0;
    r->iov.clear();
    r->mappings.clear();
    w += kHeaderWords;
    switch (r->op) {
      case Op::kRead:
      case Op::kWrite:
      case Op::kPipeRead:
      case Op::kPipeWrite: {
        size_t room = kMaxTransfer;
        for (size_t s = 0; s + kSegmentWords <= n && r->iov.size() < IOV_MAX && room > 0; s += kSegmentWords) {
          const size_t length = std::min(static_cast<size_t>(w[s + 1]), room);
          r->iov.push_back({reinterpret_cast<void*>(static_cast<uintptr_t>(w[s])), length});
          room -= length;
          const int mapping = static_cast<int>(w[s + 2]);
          if (mapping >= 0) {
            retainMapping(*env_, mapping);
            r->mappings.push_back(mapping);
          }
        }
        break;
      }
      case Op::kPassthrough: {
        r->command = {};
        if (n < kPassthroughWords) break;
        NvmeCommand& c = r->command;
        c.opcode = static_cast<uint8_t>(w[0]);
        c.nsid = static_cast<uint32_t>(w[1]);
        c.cdw2 = static_cast<uint32_t>(w[2]);
        c.cdw3 = static_cast<uint32_t>(w[3]);
        c.cdw10 = static_cast<uint32_t>(w[4]);
        c.cdw11 = static_cast<uint32_t>(w[5]);
        c.cdw12 = static_cast<uint32_t>(w[6]);
        c.cdw13 = static_cast<uint32_t>(w[7]);
        c.cdw14 = static_cast<uint32_t>(w[8]);
        c.cdw15 = static_cast<uint32_t>(w[9]);
        c.timeoutMs = static_cast<uint32_t>(w[10]);
        c.addr = static_cast<uint64_t>(w[11]);
        c.dataLen = static_cast<uint32_t>(w[12]);
        const int mapping = static_cast<int>(w[13]);
        if (mapping >= 0) {
          retainMapping(*env_, mapping);
          r->mappings.push_back(mapping);
        }
        break;
      }
      case Op::kAllocate:
        r->length = n > 0 ? static_cast<int64_t>(w[0]) : 0;
        r->mode = n > 1 ? static_cast<int>(w[1]) : 0;
        break;
      case Op::kOpen:
        r->mode = n > 0 ? static_cast<int>(w[0]) : 0;
        r->path.assign(reinterpret_cast<const char*>(w + 2), n > 2 ? std::min(static_cast<size_t>(w[1]), (n - 2) * sizeof *w) : 0);
        break;
      case Op::kPump:
        takePump(r, w, n);
        break;
      case Op::kClose:
        // From here on open(2) may return the same number again.
        forgetFd(*env_, r->fd);
        break;
      default:
        break;
    }
    count(r);
    dispatch(r);
  }
}

void Engine::count(Request* r) {
  r->active = true;
  inFlight_++;
  env_->counters.inFlight++;
  env_->counters.submitted++;
}

void Engine::dispatch(Request* r) {
  if (quiet_) {
    if (r->op == Op::kClose) perform(r);
    forget(r);
    return;
  }
  if (r->op == Op::kPump) return startPump(r);
  if ((r->flags & kFlagHere) != 0) {
    perform(r);
    finished_.push_back(r);
    if (!looksAgain_) waker_->signal();
    return;
  }
  const bool rw = r->op == Op::kRead || r->op == Op::kWrite;
  if (lane_.ring.isOpen() && (r->flags & kFlagThread) == 0) {
    if (rw || r->op == Op::kSync || r->op == Op::kNop) {
      lane_.pending.push_back(r);
      return;
    }
    if (r->op == Op::kPassthrough && (r->flags & kFlagUringCmd) != 0 && openBigRing()) {
      bigLane_.pending.push_back(r);
      return;
    }
  }
  if (!pool_) pool_ = std::make_unique<Pool>(*waker_, kMaxThreads);
  const unsigned before = pool_->threads();
  if (!pool_->start(r)) perform(r);  // no thread can be started: this one does it
  else {
    env_->counters.threads += pool_->threads() - before;
    return;
  }
  finished_.push_back(r);
  waker_->signal();
}

bool Engine::openBigRing() {
  if (!bigRingTried_) {
    bigRingTried_ = true;
    const int eventFd = waker_->watch();
    if (eventFd >= 0 && bigLane_.ring.open(kBigRingEntries, Ring::Size::kBig, eventFd) == 0) {
      if (bigLane_.ring.supports(kOpUringCmd)) env_->counters.rings++;
      else bigLane_.ring.close();
    }
  }
  return bigLane_.ring.isOpen();
}

// The slot of a file, which gets one now if it has none; -1 means that it is used by its fd. A file gets its slot with its
// second transfer: registering it costs more than one transfer saves. A device that was opened exclusively must be free again
// the moment it is closed.
int Engine::registeredSlot(int fd) {
  int empty = -1;
  for (size_t i = 0, seen = 0; i < fileSlots_.size() && (seen < filesTaken_ || empty < 0); i++) {
    if (fileSlots_[i] == fd) return static_cast<int>(i);
    if (fileSlots_[i] >= 0) seen++;
    else if (empty < 0) empty = static_cast<int>(i);
  }
  if (filesSeen_.insert(fd).second) return -1;
  const auto file = env_->fds.find(fd);
  if (empty < 0 || file == env_->fds.end() || (file->second && !lane_.ring.releasesFilesAtOnce())) return -1;
  if (lane_.ring.setFile(static_cast<unsigned>(empty), fd) != 0) return -1;
  fileSlots_[empty] = fd;
  filesTaken_++;
  env_->counters.registeredFiles++;
  return empty;
}

void Engine::unregisterFile(int fd) {
  filesSeen_.erase(fd);
  for (size_t i = 0; i < fileSlots_.size() && filesTaken_ > 0; i++) {
    if (fileSlots_[i] != fd) continue;
    lane_.ring.setFile(static_cast<unsigned>(i), -1);
    fileSlots_[i] = -1;
    filesTaken_--;
    env_->counters.registeredFiles--;
  }
}

void Engine::prepare(Request* r, io_uring_sqe* sqe) {
  prepareEntry(*r, sqe);
  if (r->op == Op::kPassthrough || r->op == Op::kNop) return;
  const int slot = registeredSlot(r->fd);
  if (slot < 0) return;
  sqe->fd = slot;
  sqe->flags |= kSqeFixedFile;
}

void Engine::submit() {
  if (control_[kRetryWanted] != 0) return;
  submit(lane_);
  submit(bigLane_);
  if (control_[kRetryWanted] != 0) deliver();
}

void Engine::submit(Lane& lane) {
  const auto prepared = [this](Request* r, io_uring_sqe* sqe) { prepare(r, sqe); };
  const int64_t before = lane.enters;
  if (!lane.submit(prepared, &finished_)) control_[kRetryWanted] = 1;
  env_->counters.enters += lane.enters - before;
}

// The request has its final answer, or is tried again: after a pause, or in another way.
void Engine::finish(Request* r) {
  const bool repeats = r->op != Op::kOpen && r->retries < kMaxRetries;
  if ((r->res == -EAGAIN || r->res == -EINTR) && !quiet_ && repeats) {
    r->retries++;
    again_.push_back(r);
    control_[kRetryWanted] = 1;
    return;
  }
  // The generic device does not support URING_CMD on this kernel: the ioctl does the same.
  if (r->op == Op::kPassthrough && (r->flags & kFlagUringCmd) != 0 && r->res == -EOPNOTSUPP && !quiet_) {
    r->flags &= ~kFlagUringCmd;
    dispatch(r);
    return;
  }
  if (r->pump == nullptr || quiet_) return complete(r);
  Pump* const pump = r->pump;
  forget(r);
  pump->ended(r);
  if (pump->isOver()) endPump(pump);
}

// A request of JavaScript has its answer.
void Engine::complete(Request* r) {
  forget(r);
  if (quiet_) return discard(r);
  if (r->op == Op::kOpen && r->res >= 0) {
    env_->fds[r->res] = (r->offset & O_EXCL) != 0;
    env_->counters.fds++;
  }
  int32_t* c = cq_ + static_cast<size_t>(cqCount_++) * kCompletionWords;
  c[0] = static_cast<int32_t>(r->slot);
  c[1] = r->res;
  c[2] = static_cast<int32_t>(r->extra & 0xffffffff);
  c[3] = static_cast<int32_t>(r->extra >> 32);
}

// Nobody will ask for the answer.
void Engine::discard(Request* r) {
  if (r->op == Op::kOpen && r->res >= 0) ::close(r->res);
}

// The kernel has finished the request: release its memory.
void Engine::forget(Request* r) {
  if (!r->active) return;
  r->active = false;
  for (int mapping : r->mappings) releaseMapping(*env_, mapping);
  r->mappings.clear();
  inFlight_--;
  env_->counters.inFlight--;
}

// Returns true if the completion table was full before the ring was empty.
bool Engine::reap(Lane& lane) {
  if (!lane.ring.isOpen()) return false;
  Completion c;
  while (cqCount_ < cqRecords_) {
    if (!lane.ring.pop(&c)) {
      // This is not left for later, even if it brings no completion for us: the eventfd, which onWake clears, is
      // signalled only for the first piece of deferred work. One call does about 20 pieces (from 6.13 on).
      const int ran = lane.ring.runDeferredWork();
      if (ran > 0) continue;
      if (ran < 0) control_[kRetryWanted] = 1;
      return false;
    }
    if (c.userData == kNoRequest) continue;
    lane.inRing--;
    Request* r = requestOf(c.userData);
    r->res = c.res;
    r->extra = c.extra;
    finish(r);
  }
  return true;
}

void Engine::drain() {
  const std::shared_ptr<Engine> self = shared_from_this();  // JavaScript may close it
  bool more;
  do {
    looksAgain_ = true;
    more = reap(lane_) || reap(bigLane_);
    if (pool_) pool_->reap(&finished_);
    if (pumpThread_) pumpThread_->reap(&finished_);
    while (!finished_.empty() && cqCount_ < cqRecords_) {
      Request* r = finished_.back();
      finished_.pop_back();
      finish(r);
    }
    looksAgain_ = false;
    if (!finished_.empty()) more = true;
    if (cqCount_ > 0 || control_[kRetryWanted] == 1) deliver();
  } while (more && !quiet_);
  if (!quiet_ && inFlight_ == 0 && control_[kQueued] == 0) waker_->keepAlive(false);
}

// One call into JavaScript for everything that was reaped.
void Engine::deliver() {
  napi_env napi = env_->napi;
  const uint32_t count = cqCount_;
  cqCount_ = 0;
  if (control_[kRetryWanted] == 1) control_[kRetryWanted] = kRetryTold;
  if (count > 0) env_->counters.callbacks++;
  napi_handle_scope scope;
  if (napi_open_handle_scope(napi, &scope) != napi_ok) return;
  napi_value callback, receiver, argument, result;
  napi_get_reference_value(napi, refs_[3], &callback);
  napi_get_global(napi, &receiver);
  napi_create_uint32(napi, count, &argument);
  if (napi_make_callback(napi, async_, receiver, callback, 1, &argument, &result) == napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(napi, &error);
    napi_fatal_exception(napi, error);
  }
  napi_close_handle_scope(napi, scope);
}

void Engine::wake() { waker_->keepAlive(true); }

void Engine::flush() {
  const std::shared_ptr<Engine> self = shared_from_this();
  take();
  submit();
  drain();
}

void Engine::retry() {
  control_[kRetryWanted] = 0;
  std::vector<Request*> again;
  again.swap(again_);
  for (Request* r : again) dispatch(r);
  flush();
}

void Engine::onTurn() {
  const std::shared_ptr<Engine> self = shared_from_this();
  const int64_t until = nanoseconds() + kTurnBudget;
  for (;;) {
    looksAgain_ = true;
    if (control_[kQueued] > 0) take();
    looksAgain_ = false;
    if (!lane_.pending.empty() || !bigLane_.pending.empty()) submit();
    if (quiet_ || finished_.empty()) return;
    // What was done here has its answer already, with which JavaScript may ask for more.
    drain();
    if (quiet_ || control_[kQueued] == 0) return;
    if (nanoseconds() >= until) break;
  }
  // The rest is taken in the next turn, before which the event loop must not sleep.
  waker_->signal();
}

void Engine::onWake() {
  const std::shared_ptr<Engine> self = shared_from_this();
  // The kernel signals once more for the completions that deferred work brings, although they are reaped in the same call. So
  // the signals are cleared after the work, not before, or half of all calls would find nothing. What came in meanwhile, its
  // signal cleared with the others, is found by looking again.
  drain();
  if (quiet_) return;
  waker_->clear();
  drain();
  // A pump has more to do, or what had no room in the ring has room now.
  if (!quiet_ && (!pumps_.empty() || !waker_->knowsTurns())) submit();
}

void Engine::cancelAll(Lane& lane) {
  const bool big = &lane == &bigLane_;
  Ring& ring = lane.ring;
  const auto cancel = [&](Request* r) {
    if (!r->active || (r->op == Op::kPassthrough) != big) return;
    io_uring_sqe* sqe = ring.next();
    if (sqe == nullptr && ring.submit() >= 0) sqe = ring.next();
    if (sqe == nullptr) return;
    sqe->opcode = kOpAsyncCancel;
    sqe->fd = -1;
    sqe->addr = reinterpret_cast<uintptr_t>(r);
    sqe->user_data = kNoRequest;
  };
  for (const auto& r : slots_) cancel(r.get());
  for (auto& running : pumps_) running.pump->eachRequest(cancel);
  ring.submit();
}

// Blocks until the kernel has given back every request of this ring. If a device hangs, this hangs too until the
// kernel's timeout for the device: memory that hardware may still write must not be reused.
void Engine::waitFor(Lane& lane) {
  Ring& ring = lane.ring;
  if (!ring.isOpen()) return;
  for (Request* r : lane.pending) forget(r);
  lane.pending.clear();
  if (lane.inRing > 0) cancelAll(lane);
  while (lane.inRing > 0) {
    Completion c;
    while (lane.inRing > 0 && ring.pop(&c)) {
      if (c.userData == kNoRequest) continue;
      lane.inRing--;
      Request* r = requestOf(c.userData);
      r->res = c.res;
      finish(r);
    }
    if (lane.inRing == 0) break;
    if (ring.unsubmitted() > 0) ring.submit();
    const int error = ring.enter(1);
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) break;
  }
  ring.close();
  env_->counters.rings--;
}

void Engine::quiesce() {
  // What was queued and not yet taken is not begun any more: an environment that ends has released its mappings before
  // this point, and another thread's stack may be in their place by now.
  quiet_ = true;
  take();
  waitFor(lane_);
  env_->counters.registeredFiles -= static_cast<int64_t>(filesTaken_);  // the ring took them with it
  filesTaken_ = 0;
  fileSlots_.clear();
  filesSeen_.clear();
  waitFor(bigLane_);
  if (pool_) {
    std::vector<Request*> dropped;
    env_->counters.threads -= pool_->threads();
    pool_->stop(&dropped);
    for (Request* r : dropped) {
      if (r->op == Op::kClose) perform(r);
      forget(r);
    }
    pool_->reap(&finished_);
    pool_.reset();
  }
  if (pumpThread_) {
    pumpThread_->stop();
    pumpThread_->reap(&finished_);
    pumpThread_.reset();
    env_->counters.threads--;
    env_->counters.rings--;
  }
  for (Request* r : finished_) {
    forget(r);
    discard(r);
  }
  finished_.clear();
  for (Request* r : again_) forget(r);
  again_.clear();
  for (auto& running : pumps_) forget(running.request);
  pumps_.clear();
}

void Engine::close() {
  if (quiet_) return;
  quiesce();
  waker_->close();
  // An environment that ends frees them itself, and may no longer have a scope in which they could be looked at.
  if (env_->tearingDown) return;
  for (napi_ref& ref : refs_) {
    napi_delete_reference(env_->napi, ref);
    ref = nullptr;
  }
  napi_async_destroy(env_->napi, async_);
}

}  // namespace p2pdma
