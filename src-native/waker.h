// Calls the JS thread from any other thread, and from the kernel through an eventfd.
//
//                                       LoopWaker: libuv polls the eventfd
//     other threads ─ signal() ───┐   ┌───────────────────────────────────┐
//                                 ├──▶┤                                   ├──▶ onWake, on the thread of JavaScript
//     kernel ──────── eventfd ────┘   └───────────────────────────────────┘
//                                       ThreadWaker: a thread reads it, and calls a threadsafe function
//
// The second needs only Node-API. The first needs a third less CPU time for each small transfer, because it wakes one
// thread instead of two: it is used where the runtime has libuv.
#pragma once

#include "env.h"

#include <memory>

namespace p2pdma {

class Waker {
 public:
  class Client {
   public:
    // There may be completions to reap.
    virtual void onWake() = 0;
    // LoopWaker: the event loop is about to sleep.
    virtual void onTurn() = 0;

   protected:
    ~Client() = default;
  };

  virtual ~Waker() = default;
  // All of these are called on the JS thread, except signal().

  // Returns the eventfd, which is watched from now on, or -errno.
  virtual int watch() = 0;
  // Whether onTurn is called; if not, JavaScript has to call flush().
  virtual bool knowsTurns() const = 0;
  // Sets whether the event loop waits for calls that may come.
  virtual void keepAlive(bool wanted) = 0;
  // Called on any thread.
  virtual void signal() = 0;
  // Called in onWake: there is no further call for the signals so far. What was done before them is visible from now on.
  virtual void clear() = 0;
  // After this there are no more calls.
  virtual void close() = 0;
};

// Null if this kind of waker is not available here.
std::shared_ptr<Waker> openLoopWaker(const EnvPtr& env, Waker::Client* client);
std::shared_ptr<Waker> openThreadWaker(napi_env env, Waker::Client* client);

}  // namespace p2pdma
