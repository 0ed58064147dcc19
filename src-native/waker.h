// Calls the thread of JavaScript from any other, and from the kernel through an eventfd.
//
//                                       LoopWaker: libuv polls the eventfd
//     pool threads ── signal() ───┐   ┌───────────────────────────────────┐
//                                 ├──▶┤                                   ├──▶ onWake, on the thread of JavaScript
//     kernel ──────── eventfd ────┘   └───────────────────────────────────┘
//                                       ThreadWaker: a thread reads it, and calls a threadsafe function
//
// The second needs Node-API alone. The first costs a third less CPU time for each small transfer, for it wakes one
// thread and not two: it is taken where the runtime has libuv.
#pragma once

#include "env.h"

#include <memory>

namespace p2pdma {

class Waker {
 public:
  class Client {
   public:
    // There may be something to reap.
    virtual void onWake() = 0;
    // LoopWaker: the event loop is about to sleep.
    virtual void onTurn() = 0;

   protected:
    ~Client() = default;
  };

  virtual ~Waker() = default;
  // All on the JS thread, but for signal().

  // The eventfd, watched from now on; or -errno.
  virtual int watch() = 0;
  // Is onTurn called? Else JavaScript has to see to it.
  virtual bool knowsTurns() const = 0;
  // Does the event loop wait for what may come?
  virtual void keepAlive(bool wanted) = 0;
  // Any thread.
  virtual void signal() = 0;
  // No call comes after this.
  virtual void close() = 0;
};

// Null: it cannot be had here.
std::shared_ptr<Waker> openLoopWaker(const EnvPtr& env, Waker::Client* client);
std::shared_ptr<Waker> openThreadWaker(napi_env env, Waker::Client* client);

}  // namespace p2pdma
