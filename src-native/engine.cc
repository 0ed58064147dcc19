// Request stream -> ring or pool -> completion table. See engine.h for who calls what when.
#include "engine.h"

#include "mapping.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace p2pdma {
namespace {

// Records of the request stream, as float64 words (engine.ts writes them):
//   slot, op + flags * 256, fd, offset, n, then n words
//     read, write:  (address, length, mapping) per segment
//     passthrough:  opcode, nsid, cdw2, cdw3, cdw10..cdw15, timeout, address, length, mapping
//     allocate:     length, mode
constexpr size_t kHeaderWords = 5;
constexpr size_t kSegmentWords = 3;
constexpr size_t kPassthroughWords = 14;
// Records of the completion table, as int32 words: slot, result, low and high half of the extra result.
constexpr size_t kCompletionWords = 4;

constexpr uint64_t kNoRequest = ~0ull;
constexpr uint8_t kSqeFixedFile = 1u << 0;
constexpr uint8_t kSqeAsync = 1u << 4;
constexpr uint32_t kMaxRetries = 1000;
constexpr unsigned kMaxThreads = 32;
constexpr unsigned kBigRingEntries = 64;
// The kernel caps one transfer here (MAX_RW_COUNT).
constexpr size_t kMaxTransfer = 0x7ffff000;

// IORING_OP_*: an enum in the header, so an older header cannot be asked with #ifdef.
constexpr uint8_t kOpNop = 0;
constexpr uint8_t kOpReadv = 1;
constexpr uint8_t kOpWritev = 2;
constexpr uint8_t kOpFsync = 3;
constexpr uint8_t kOpAsyncCancel = 14;
constexpr uint8_t kOpRead = 22;
constexpr uint8_t kOpWrite = 23;
constexpr uint8_t kOpUringCmd = 46;

}  // namespace

Engine::Engine(EnvPtr env, int id) : env_(std::move(env)), id_(id) {}

Engine::~Engine() = default;

int Engine::open(Napi::Env napi, bool wantRing, unsigned entries, Napi::Float64Array sq, Napi::Int32Array cq,
                 Napi::Int32Array control, Napi::Function callback) {
  eventFd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (eventFd_ < 0) {
    const int error = errno;
    delete this;
    return -error;
  }
  if (wantRing) {
    int error = ring_.open(entries, Ring::Size::kNormal, eventFd_);
    if (error == 0) {
      for (uint8_t op : {kOpNop, kOpReadv, kOpWritev, kOpFsync, kOpAsyncCancel, kOpRead, kOpWrite}) {
        if (!ring_.supports(op)) error = -ENOSYS;
      }
    }
    if (error != 0) {
      ring_.close();
      close(eventFd_);
      delete this;
      return error;
    }
    env_->counters.rings++;
    fileSlots_.assign(ring_.fileSlots(), -1);
  }
  sq_ = sq.Data();
  sqWords_ = sq.ElementLength();
  cq_ = cq.Data();
  cqRecords_ = cq.ElementLength() / kCompletionWords;
  control_ = control.Data();
  napi_create_reference(napi, sq, 1, &refs_[0]);
  napi_create_reference(napi, cq, 1, &refs_[1]);
  napi_create_reference(napi, control, 1, &refs_[2]);
  napi_create_reference(napi, callback, 1, &refs_[3]);
  napi_async_init(napi, nullptr, Napi::String::New(napi, "p2pdma.engine"), &async_);

  uv_poll_init(env_->loop, &poll_, eventFd_);
  uv_prepare_init(env_->loop, &prepare_);
  uv_timer_init(env_->loop, &timer_);
  poll_.data = prepare_.data = timer_.data = this;
  openHandles_ = 3;
  uv_poll_start(&poll_, UV_READABLE, onReady);
  uv_prepare_start(&prepare_, onPrepare);
  uv_unref(reinterpret_cast<uv_handle_t*>(&poll_));
  uv_unref(reinterpret_cast<uv_handle_t*>(&prepare_));
  uv_unref(reinterpret_cast<uv_handle_t*>(&timer_));
  return 0;
}

void Engine::wake() { uv_ref(reinterpret_cast<uv_handle_t*>(&poll_)); }

Request* Engine::slot(uint32_t index) {
  while (slots_.size() <= index) slots_.push_back(std::make_unique<Request>());
  return slots_[index].get();
}

void Engine::take() {
  const size_t words = static_cast<size_t>(control_[0]);
  control_[0] = 0;
  size_t i = 0;
  while (i + kHeaderWords <= words && words <= sqWords_) {
    const double* w = sq_ + i;
    const size_t n = static_cast<size_t>(w[4]);
    if (i + kHeaderWords + n > words) break;
    i += kHeaderWords + n;
    Request* r = slot(static_cast<uint32_t>(w[0]));
    const uint32_t code = static_cast<uint32_t>(w[1]);
    r->slot = static_cast<uint32_t>(w[0]);
    r->op = static_cast<Op>(code & 0xff);
    r->flags = code >> 8;
    r->fd = static_cast<int>(w[2]);
    r->offset = static_cast<int64_t>(w[3]);
    r->retries = 0;
    r->extra = 0;
    r->active = true;
    r->iov.clear();
    r->mappings.clear();
    w += kHeaderWords;
    switch (r->op) {
      case Op::kRead:
      case Op::kWrite: {
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
      case Op::kClose:
        // From here on the number may be given out again by open(2).
        forgetFd(*env_, r->fd);
        break;
      default:
        break;
    }
    inFlight_++;
    env_->counters.inFlight++;
    env_->counters.submitted++;
    dispatch(r);
  }
}

void Engine::dispatch(Request* r) {
  const bool rw = r->op == Op::kRead || r->op == Op::kWrite;
  if (ring_.isOpen() && (r->flags & kFlagThread) == 0) {
    if (rw || r->op == Op::kSync || r->op == Op::kNop) {
      pending_.push_back(r);
      return;
    }
    if (r->op == Op::kPassthrough && (r->flags & kFlagUringCmd) != 0 && openBigRing()) {
      pendingBig_.push_back(r);
      return;
    }
  }
  if (!pool_) pool_ = std::make_unique<Pool>(eventFd_, kMaxThreads);
  const unsigned before = pool_->threads();
  if (!pool_->start(r)) perform(r);  // no thread to be had: better late than never
  else {
    env_->counters.threads += pool_->threads() - before;
    return;
  }
  finished_.push_back(r);
  const uint64_t one = 1;
  ssize_t ignored = write(eventFd_, &one, sizeof one);
  (void)ignored;
}

bool Engine::openBigRing() {
  if (!bigRingTried_) {
    bigRingTried_ = true;
    if (bigRing_.open(kBigRingEntries, Ring::Size::kBig, eventFd_) == 0) {
      if (bigRing_.supports(kOpUringCmd)) env_->counters.rings++;
      else bigRing_.close();
    }
  }
  return bigRing_.isOpen();
}

// The slot of a file, given one now if need be; -1: it is used by its fd. A device opened exclusively must be free
// again the moment it is closed.
int Engine::registeredSlot(int fd) {
  int empty = -1;
  for (size_t i = 0, seen = 0; i < fileSlots_.size() && (seen < filesTaken_ || empty < 0); i++) {
    if (fileSlots_[i] == fd) return static_cast<int>(i);
    if (fileSlots_[i] >= 0) seen++;
    else if (empty < 0) empty = static_cast<int>(i);
  }
  const auto file = env_->fds.find(fd);
  if (empty < 0 || file == env_->fds.end() || (file->second && !ring_.releasesFilesAtOnce())) return -1;
  if (ring_.setFile(static_cast<unsigned>(empty), fd) != 0) return -1;
  fileSlots_[empty] = fd;
  filesTaken_++;
  env_->counters.registeredFiles++;
  return empty;
}

void Engine::unregisterFile(int fd) {
  for (size_t i = 0; i < fileSlots_.size() && filesTaken_ > 0; i++) {
    if (fileSlots_[i] != fd) continue;
    ring_.setFile(static_cast<unsigned>(i), -1);
    fileSlots_[i] = -1;
    filesTaken_--;
    env_->counters.registeredFiles--;
  }
}

void Engine::prepareEntry(Request* r, io_uring_sqe* sqe) {
  sqe->user_data = r->slot;
  sqe->fd = r->fd;
  if ((r->flags & kFlagAsync) != 0) sqe->flags = kSqeAsync;
  if (r->op != Op::kPassthrough && r->op != Op::kNop) {
    const int slot = registeredSlot(r->fd);
    if (slot >= 0) {
      sqe->fd = slot;
      sqe->flags |= kSqeFixedFile;
    }
  }
  switch (r->op) {
    case Op::kRead:
    case Op::kWrite: {
      const bool read = r->op == Op::kRead;
      sqe->off = static_cast<uint64_t>(r->offset);
      if (r->iov.size() == 1) {
        sqe->opcode = read ? kOpRead : kOpWrite;
        sqe->addr = reinterpret_cast<uintptr_t>(r->iov[0].iov_base);
        sqe->len = static_cast<uint32_t>(r->iov[0].iov_len);
      } else {
        sqe->opcode = read ? kOpReadv : kOpWritev;
        sqe->addr = reinterpret_cast<uintptr_t>(r->iov.data());
        sqe->len = static_cast<uint32_t>(r->iov.size());
      }
      break;
    }
    case Op::kSync:
      sqe->opcode = kOpFsync;
      break;
    case Op::kPassthrough: {
      sqe->opcode = kOpUringCmd;
      // cmd_op shares its place with off; the command begins at byte 48 of the 128.
      const uint32_t op = (r->flags & kFlagAdmin) ? kNvmeUringAdmin : kNvmeUringIo;
      memcpy(reinterpret_cast<char*>(sqe) + 8, &op, sizeof op);
      memcpy(reinterpret_cast<char*>(sqe) + 48, &r->command, kNvmeUringCommandSize);
      break;
    }
    default:
      sqe->opcode = kOpNop;
      sqe->fd = -1;
      break;
  }
}

void Engine::submitRing(Ring& ring, std::deque<Request*>& pending, size_t* inRing) {
  for (;;) {
    // Never more in the ring than completions it can hold.
    while (!pending.empty() && *inRing < ring.capacity()) {
      io_uring_sqe* sqe = ring.next();
      if (sqe == nullptr) break;
      prepareEntry(pending.front(), sqe);
      pending.pop_front();
      ++*inRing;
    }
    if (ring.unsubmitted() == 0) return;
    env_->counters.enters++;
    const int taken = ring.submit();
    if (taken < 0 || ring.unsubmitted() > 0) {
      armRetry();
      return;
    }
    if (pending.empty() || *inRing >= ring.capacity()) return;
  }
}

void Engine::submit() {
  if (ring_.isOpen()) submitRing(ring_, pending_, &inRing_);
  if (bigRing_.isOpen()) submitRing(bigRing_, pendingBig_, &inBigRing_);
}

void Engine::armRetry() {
  if (!closing_ && !uv_is_active(reinterpret_cast<uv_handle_t*>(&timer_))) uv_timer_start(&timer_, onRetry, 1, 0);
}

// True: done for good. False: it goes round once more.
bool Engine::finish(Request* r) {
  if ((r->res == -EAGAIN || r->res == -EINTR) && !quiet_ && r->retries < kMaxRetries) {
    r->retries++;
    return false;
  }
  // The generic device knows no URING_CMD on this kernel: the ioctl does the same.
  if (r->op == Op::kPassthrough && (r->flags & kFlagUringCmd) != 0 && r->res == -EOPNOTSUPP && !quiet_) {
    r->flags &= ~kFlagUringCmd;
    dispatch(r);
    return true;
  }
  forget(r);
  if (!quiet_) {
    int32_t* c = cq_ + static_cast<size_t>(cqCount_++) * kCompletionWords;
    c[0] = static_cast<int32_t>(r->slot);
    c[1] = r->res;
    c[2] = static_cast<int32_t>(r->extra & 0xffffffff);
    c[3] = static_cast<int32_t>(r->extra >> 32);
  }
  return true;
}

// The kernel is done with it: let go of its memory.
void Engine::forget(Request* r) {
  if (!r->active) return;
  r->active = false;
  for (int mapping : r->mappings) releaseMapping(*env_, mapping);
  r->mappings.clear();
  inFlight_--;
  env_->counters.inFlight--;
}

// True when the completion table is full before the ring is empty.
bool Engine::reapRing(Ring& ring, size_t* inRing) {
  if (!ring.isOpen()) return false;
  Completion c;
  while (cqCount_ < cqRecords_) {
    if (!ring.pop(&c)) {
      // Not left for later, even if it is no completion of ours: the eventfd, which has been read, is signalled only
      // for the first of the deferred work. One call does about 20 of them (from 6.13 on).
      if (!ring.hasDeferredWork()) return false;
      if (ring.enter(0) == 0) continue;
      armRetry();
      return false;
    }
    if (c.userData == kNoRequest) continue;
    --*inRing;
    Request* r = slot(static_cast<uint32_t>(c.userData));
    r->res = c.res;
    r->extra = c.extra;
    if (!finish(r)) {
      (&ring == &ring_ ? pending_ : pendingBig_).push_back(r);
      armRetry();
    }
  }
  return true;
}

void Engine::drain() {
  bool more;
  do {
    more = reapRing(ring_, &inRing_);
    if (!more) more = reapRing(bigRing_, &inBigRing_);
    if (pool_) pool_->reap(&finished_);
    while (!finished_.empty() && cqCount_ < cqRecords_) {
      Request* r = finished_.back();
      finished_.pop_back();
      if (!finish(r)) dispatch(r);
    }
    if (!finished_.empty()) more = true;
    if (cqCount_ > 0) deliver();
  } while (more && !closing_);
  if (closing_) return;
  if (inFlight_ == 0 && control_[0] == 0) uv_unref(reinterpret_cast<uv_handle_t*>(&poll_));
}

// One call into JavaScript for everything reaped.
void Engine::deliver() {
  napi_env napi = env_->napi;
  const uint32_t count = cqCount_;
  cqCount_ = 0;
  env_->counters.callbacks++;
  napi_handle_scope scope;
  if (napi_open_handle_scope(napi, &scope) != napi_ok) return;
  napi_value callback, receiver, argument, result;
  napi_get_reference_value(napi, refs_[3], &callback);
  napi_get_global(napi, &receiver);
  napi_create_uint32(napi, count, &argument);
  const napi_status status = napi_make_callback(napi, async_, receiver, callback, 1, &argument, &result);
  if (status == napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(napi, &error);
    napi_fatal_exception(napi, error);
  }
  napi_close_handle_scope(napi, scope);
}

void Engine::onPrepare(uv_prepare_t* handle) {
  auto* self = static_cast<Engine*>(handle->data);
  if (self->control_[0] > 0) self->take();
  if (!self->pending_.empty() || !self->pendingBig_.empty() || self->ring_.unsubmitted() > 0) self->submit();
}

void Engine::onReady(uv_poll_t* handle, int, int) {
  auto* self = static_cast<Engine*>(handle->data);
  uint64_t count;
  ssize_t ignored = read(self->eventFd_, &count, sizeof count);
  (void)ignored;
  self->drain();
}

// Its only purpose is that the loop turns, and onPrepare runs, although nothing else happens.
void Engine::onRetry(uv_timer_t* handle) {
  auto* self = static_cast<Engine*>(handle->data);
  self->drain();
}

void Engine::cancelAll(Ring& ring, bool big) {
  for (const auto& r : slots_) {
    if (!r->active || (r->op == Op::kPassthrough) != big) continue;
    io_uring_sqe* sqe = ring.next();
    if (sqe == nullptr) {
      if (ring.submit() < 0) return;
      sqe = ring.next();
      if (sqe == nullptr) return;
    }
    sqe->opcode = kOpAsyncCancel;
    sqe->fd = -1;
    sqe->addr = r->slot;
    sqe->user_data = kNoRequest;
  }
  ring.submit();
}

// Block until the kernel has given back every request of this ring. A device that hangs makes this
// hang until the kernel times the device out: memory that hardware may still write must not be reused.
void Engine::waitFor(Ring& ring, std::deque<Request*>& pending, size_t* inRing, bool big) {
  if (!ring.isOpen()) return;
  for (Request* r : pending) forget(r);
  pending.clear();
  if (*inRing > 0) cancelAll(ring, big);
  while (*inRing > 0) {
    Completion c;
    while (*inRing > 0 && ring.pop(&c)) {
      if (c.userData == kNoRequest) continue;
      --*inRing;
      Request* r = slot(static_cast<uint32_t>(c.userData));
      r->res = c.res;
      finish(r);
    }
    if (*inRing == 0) break;
    if (ring.unsubmitted() > 0) ring.submit();
    const int error = ring.enter(1);
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) break;
  }
  ring.close();
  env_->counters.rings--;
}

void Engine::quiesce() {
  if (quiet_) return;
  take();
  quiet_ = true;
  waitFor(ring_, pending_, &inRing_, false);
  env_->counters.registeredFiles -= static_cast<int64_t>(filesTaken_);  // they went with the ring
  filesTaken_ = 0;
  fileSlots_.clear();
  waitFor(bigRing_, pendingBig_, &inBigRing_, true);
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
  for (Request* r : finished_) forget(r);
  finished_.clear();
}

void Engine::closeHandles() {
  if (closing_) return;
  closing_ = true;
  for (napi_ref& ref : refs_) {
    napi_delete_reference(env_->napi, ref);
    ref = nullptr;
  }
  napi_async_destroy(env_->napi, async_);
  env_->closing++;
  uv_poll_stop(&poll_);
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), onClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), onClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&timer_), onClosed);
}

void Engine::onClosed(uv_handle_t* handle) {
  auto* self = static_cast<Engine*>(handle->data);
  if (--self->openHandles_ > 0) return;
  close(self->eventFd_);
  EnvPtr env = self->env_;
  env->closing--;
  delete self;
  finishTeardown(*env);
}

namespace {

Engine* engineArg(const Napi::CallbackInfo& info) {
  EnvPtr env = envOf(info.Env());
  const uint32_t id = info[0].As<Napi::Number>().Uint32Value();
  return id < env->engines.size() ? env->engines[id] : nullptr;
}

}  // namespace

// openEngine(ring, entries, sq, cq, control, onCompletions): engine id or -errno.
static Napi::Value openEngine(const Napi::CallbackInfo& info) {
  EnvPtr env = envOf(info.Env());
  if (env->tearingDown) return Napi::Number::New(info.Env(), -ECANCELED);
  const int id = static_cast<int>(env->engines.size());
  auto* engine = new Engine(env, id);
  const int error = engine->open(info.Env(), info[0].As<Napi::Boolean>().Value(), info[1].As<Napi::Number>().Uint32Value(),
                                 info[2].As<Napi::Float64Array>(), info[3].As<Napi::Int32Array>(),
                                 info[4].As<Napi::Int32Array>(), info[5].As<Napi::Function>());
  if (error != 0) return Napi::Number::New(info.Env(), error);
  env->engines.push_back(engine);
  return Napi::Number::New(info.Env(), id);
}

// wake(id): something was queued after nothing was.
static void wake(const Napi::CallbackInfo& info) {
  if (Engine* engine = engineArg(info)) engine->wake();
}

// take(id): empty the request stream, which is full. Submission still waits for the end of the turn.
static void take(const Napi::CallbackInfo& info) {
  if (Engine* engine = engineArg(info)) engine->take();
}

// closeEngine(id): with requests in flight it cancels them and waits.
static void closeEngine(const Napi::CallbackInfo& info) {
  Engine* engine = engineArg(info);
  if (engine == nullptr) return;
  EnvPtr env = envOf(info.Env());
  env->engines[info[0].As<Napi::Number>().Uint32Value()] = nullptr;
  engine->quiesce();
  engine->closeHandles();
}

// ringFlags(id): the IORING_SETUP flags in use, or -1 without a ring.
static Napi::Value ringFlags(const Napi::CallbackInfo& info) {
  Engine* engine = engineArg(info);
  const bool ring = engine != nullptr && engine->hasRing();
  return Napi::Number::New(info.Env(), ring ? static_cast<double>(engine->ring().flags()) : -1);
}

void initEngine(Napi::Env env, Napi::Object exports) {
  exports.Set("openEngine", Napi::Function::New(env, openEngine));
  exports.Set("wake", Napi::Function::New(env, wake));
  exports.Set("take", Napi::Function::New(env, take));
  exports.Set("closeEngine", Napi::Function::New(env, closeEngine));
  exports.Set("ringFlags", Napi::Function::New(env, ringFlags));
}

}  // namespace p2pdma
