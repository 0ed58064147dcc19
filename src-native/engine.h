// The engine of one thread of JavaScript: requests in, completions out, in batches both ways.
#pragma once

#include "env.h"
#include "pool.h"
#include "request.h"
#include "ring.h"

#include <deque>
#include <memory>
#include <vector>

namespace p2pdma {

// Hooks in the order in which they run, all on the JS thread unless said otherwise:
//
//   wake      JS is about to queue the first request: keep the event loop alive
//   onPrepare once per turn of the loop, before it sleeps: take the request stream, submit it in one call
//   (kernel, pool threads)  do the work, signal the eventfd
//   onReady   eventfd readable: reap everything, one callback into JS per batch
//   quiesce   teardown: cancel, wait until the kernel is done with all memory
//   closeHandles -> libuv closes poll, prepare and timer -> the engine deletes itself
class Engine {
 public:
  Engine(EnvPtr env, int id);

  int open(Napi::Env napi, bool wantRing, unsigned entries, Napi::Float64Array sq, Napi::Int32Array cq,
           Napi::Int32Array control, Napi::Function callback);
  void wake();
  // Read what JavaScript has written into the request stream.
  void take();
  // Before the fd is closed: its slot would keep the file open.
  void unregisterFile(int fd);
  void quiesce();
  void closeHandles();

  bool hasRing() const { return ring_.isOpen(); }
  const Ring& ring() const { return ring_; }
  size_t inFlight() const { return inFlight_; }

 private:
  ~Engine();
  static void onPrepare(uv_prepare_t* handle);
  static void onReady(uv_poll_t* handle, int status, int events);
  static void onRetry(uv_timer_t* handle);
  static void onClosed(uv_handle_t* handle);

  Request* slot(uint32_t index);
  void dispatch(Request* r);
  void submit();
  void submitRing(Ring& ring, std::deque<Request*>& pending, size_t* inRing);
  void prepareEntry(Request* r, io_uring_sqe* sqe);
  int registeredSlot(int fd);
  void armRetry();
  void drain();
  bool reapRing(Ring& ring, size_t* inRing);
  bool finish(Request* r);
  void deliver();
  void forget(Request* r);
  void cancelAll(Ring& ring, bool big);
  void waitFor(Ring& ring, std::deque<Request*>& pending, size_t* inRing, bool big);
  bool openBigRing();

  EnvPtr env_;
  const int id_;
  int eventFd_ = -1;
  uv_poll_t poll_;
  uv_prepare_t prepare_;
  uv_timer_t timer_;
  int openHandles_ = 0;
  bool closing_ = false;
  bool quiet_ = false;  // after quiesce

  Ring ring_;
  Ring bigRing_;  // for URING_CMD, opened when first wanted
  bool bigRingTried_ = false;
  std::vector<int> fileSlots_;  // of ring_: the fd in each, -1 where empty
  size_t filesTaken_ = 0;
  std::unique_ptr<Pool> pool_;
  std::vector<std::unique_ptr<Request>> slots_;
  std::deque<Request*> pending_;     // for ring_, not yet in it
  std::deque<Request*> pendingBig_;
  std::vector<Request*> finished_;   // scratch
  size_t inRing_ = 0;
  size_t inBigRing_ = 0;
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
