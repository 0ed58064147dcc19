// The engine of one thread of JavaScript: requests in, completions out, in batches both ways.
#pragma once

#include "env.h"
#include "pool.h"
#include "pump.h"
#include "request.h"
#include "ring.h"
#include "waker.h"

#include <deque>
#include <memory>
#include <vector>

namespace p2pdma {

// In the order in which they run, all on the JS thread unless said otherwise:
//
//   wake      JavaScript is about to queue the first request: keep the event loop alive
//   onTurn    libuv is about to sleep: take the request stream, submit it in one call
//   flush     the same and reap what is done already: JavaScript calls it where no onTurn comes
//   (kernel, pool threads)  do the work, signal the waker
//   onWake    reap everything, one callback into JavaScript per batch; what the pumps do next is submitted at once
//   retry     JavaScript calls it a while after it was asked to (EAGAIN): the same once more
//   close     cancel, wait until the kernel is done with all memory; no call comes after this
class Engine final : public Waker::Client, public Pump::Host, public std::enable_shared_from_this<Engine> {
 public:
  struct Shared {
    Napi::Float64Array requests;
    Napi::Int32Array completions;
    Napi::Int32Array control;
    Napi::Function callback;
  };

  struct Wishes {
    bool ring;
    unsigned entries;
    bool loop;  // libuv's loop may be asked for
  };

  explicit Engine(EnvPtr env);

  int open(Napi::Env napi, const Wishes& wishes, Shared shared);
  // Read what JavaScript has written into the request stream.
  void take();
  void wake();
  void flush();
  // After a pause: what the kernel had no room for.
  void retry();
  void onTurn() override;
  void onWake() override;
  // A pump's next request.
  void begin(Request* r) override;
  bool knowsTurns() const { return waker_->knowsTurns(); }
  // Before the fd is closed: its slot would keep the file open.
  void unregisterFile(int fd);
  void close();

  // -1: no ring.
  int64_t ringFlags() const { return lane_.ring.isOpen() ? static_cast<int64_t>(lane_.ring.flags()) : -1; }

 private:
  // A ring, what waits for room in it, and what is in it.
  struct Lane {
    Ring ring;
    std::deque<Request*> pending;
    size_t inRing = 0;
    uint32_t refusals = 0;  // submissions in a row that the kernel did not take
  };

  struct RunningPump {
    Request* request;  // JavaScript's, for the whole of it
    std::unique_ptr<Pump> pump;
  };

  int openRing(unsigned entries);
  bool openBigRing();
  Request* slot(uint32_t index);
  void takePump(Request* r, const double* words, size_t n);
  void startPump(Request* r);
  void count(Request* r);
  void dispatch(Request* r);
  void submit();
  void submit(Lane& lane);
  void refused(Lane& lane, int error);
  void prepareEntry(Request* r, io_uring_sqe* sqe);
  int registeredSlot(int fd);
  void drain();
  bool reap(Lane& lane);
  void finish(Request* r);
  void complete(Request* r);
  void endPump(Pump* pump);
  void deliver();
  void forget(Request* r);
  void quiesce();
  void cancelAll(Lane& lane);
  void waitFor(Lane& lane);

  EnvPtr env_;
  std::shared_ptr<Waker> waker_;
  bool quiet_ = false;  // after quiesce

  Lane lane_;
  Lane bigLane_;  // for URING_CMD, opened when first wanted
  bool bigRingTried_ = false;
  std::vector<int> fileSlots_;  // of lane_'s ring: the fd in each, -1 where empty
  size_t filesTaken_ = 0;
  std::unique_ptr<Pool> pool_;
  std::vector<std::unique_ptr<Request>> slots_;
  std::vector<Request*> finished_;  // scratch
  std::vector<RunningPump> pumps_;
  std::vector<Request*> again_;     // answered EAGAIN or EINTR: once more, after a pause
  size_t inFlight_ = 0;

  // Shared with JavaScript; the references keep the typed arrays alive.
  double* sq_ = nullptr;
  size_t sqWords_ = 0;
  int32_t* cq_ = nullptr;
  size_t cqRecords_ = 0;
  int32_t* control_ = nullptr;
  uint32_t cqCount_ = 0;
  napi_ref refs_[4] = {};
  napi_async_context async_ = nullptr;
};

}  // namespace p2pdma
