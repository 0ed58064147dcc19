// The engine of one JS thread: it takes requests and gives completions, both in batches.
#pragma once

#include "env.h"
#include "lane.h"
#include "pool.h"
#include "pump-thread.h"
#include "pump.h"
#include "request.h"
#include "waker.h"

#include <memory>
#include <set>
#include <vector>

namespace p2pdma {

// These run in this order, all of them on the JS thread unless stated otherwise:
//
//   wake      JavaScript is about to queue the first request: the event loop is kept alive
//   onTurn    libuv is about to sleep: the request stream is taken and submitted in one call
//   flush     does the same, and reaps what is done already: JavaScript calls it where there is no onTurn
//   (kernel, pool threads, pump thread)  do the work and signal the waker
//   onWake    reaps everything, with one call into JavaScript per batch; what the pumps do next is submitted at once
//   retry     does the same once more: JavaScript calls it some time after it was asked to (EAGAIN)
//   close     cancels, and waits until the kernel no longer uses any memory; no call comes after this
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
    bool loop;  // whether libuv's loop may be used
  };

  explicit Engine(EnvPtr env);

  int open(Napi::Env napi, const Wishes& wishes, Shared shared);
  // Reads what JavaScript has written into the request stream.
  void take();
  void wake();
  void flush();
  // After a pause, submits what the kernel had no room for.
  void retry();
  void onTurn() override;
  void onWake() override;
  // Takes the next request of a pump.
  void begin(Request* r) override;
  bool knowsTurns() const { return waker_->knowsTurns(); }
  // Must be called before the fd is closed, because its slot would keep the file open.
  void unregisterFile(int fd);
  void close();

  // The IORING_SETUP flags in use; -1 if there is no ring.
  int64_t ringFlags() const { return lane_.ring.isOpen() ? static_cast<int64_t>(lane_.ring.flags()) : -1; }

 private:
  struct RunningPump {
    Request* request;  // the request of JavaScript for the whole transfer
    std::unique_ptr<Pump> pump;
    bool onThread;  // the pump thread will run it
  };

  int openRing(unsigned entries);
  bool openBigRing();
  Request* slot(uint32_t index);
  bool hasPumpThread();
  void takePump(Request* r, const double* words, size_t n);
  void startPump(Request* r);
  void count(Request* r);
  void dispatch(Request* r);
  void submit();
  void submit(Lane& lane);
  void prepare(Request* r, io_uring_sqe* sqe);
  int registeredSlot(int fd);
  void drain();
  bool reap(Lane& lane);
  void finish(Request* r);
  void complete(Request* r);
  void discard(Request* r);
  void endPump(Pump* pump);
  void deliver();
  void forget(Request* r);
  void quiesce();
  void cancelAll(Lane& lane);
  void waitFor(Lane& lane);

  EnvPtr env_;
  std::shared_ptr<Waker> waker_;
  bool quiet_ = false;  // set by quiesce
  bool looksAgain_ = false;  // whoever calls dispatch() looks at finished_ afterwards, so it needs no signal

  Lane lane_;
  Lane bigLane_;  // for URING_CMD, opened at its first use
  bool bigRingTried_ = false;
  std::vector<int> fileSlots_;  // of lane_'s ring: the fd in each, -1 where empty
  size_t filesTaken_ = 0;
  std::set<int> filesSeen_;  // files that had a transfer
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<PumpThread> pumpThread_;  // started with the first pump that it can run
  bool pumpThreadTried_ = false;
  std::vector<std::unique_ptr<Request>> slots_;
  std::vector<Request*> finished_;  // reused for each batch
  std::vector<RunningPump> pumps_;  // that this object runs
  std::vector<Request*> again_;     // answered with EAGAIN or EINTR: tried again after a pause
  size_t inFlight_ = 0;

  // These arrays are shared with JavaScript; the references keep them alive.
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
