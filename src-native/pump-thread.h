// The thread that runs an engine's pumps, on a ring of its own: what they move does not wait for JavaScript, and JavaScript
// does not wait for what the kernel does for them.
#pragma once

#include "lane.h"
#include "pump.h"
#include "waker.h"

#include <pthread.h>

#include <memory>
#include <vector>

namespace p2pdma {

//     JS thread                          pump thread
//     give(r, pump) ──── eventfd ──────▶ starts it; submits and waits in one call, again and again
//     reap(&over)   ◀─── waker ───────── r, when its pump is over
class PumpThread final : public Pump::Host {
 public:
  explicit PumpThread(Waker& waker) : waker_(waker) {}
  ~PumpThread();

  // All of these are called on the JS thread.

  // Returns 0 or -errno: there can be no such thread here.
  int start();
  // Runs the pump, whose host this must be. `r` comes back through reap().
  void give(Request* r, std::unique_ptr<Pump> pump);
  // Moves the requests whose pumps are over to `out`.
  void reap(std::vector<Request*>* out);
  // Halts every pump, waits until the kernel no longer uses any of their memory, and ends the thread.
  void stop();

  // Called by the pumps, on the thread.
  void begin(Request* r) override { lane_.pending.push_back(r); }

 private:
  struct Running {
    Request* request;
    std::unique_ptr<Pump> pump;
  };

  static void* main(void* self);
  int open();
  void run();
  void arm();
  void wake();
  bool take();
  void step();
  void ended(Request* r);
  void putOver();

  Waker& waker_;
  pthread_t thread_ = {};
  bool started_ = false;
  int eventFd_ = -1;  // tells the thread that there is something to take

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;  // protects what follows
  pthread_cond_t opened_ = PTHREAD_COND_INITIALIZER;
  int openResult_ = 1;  // 1: not known yet
  std::vector<Running> given_;
  std::vector<Request*> over_;
  bool stopping_ = false;

  // Used by the thread only.
  Lane lane_;
  std::vector<Running> running_;
  std::vector<Request*> refused_;
  std::vector<Request*> again_;  // answered with EAGAIN or EINTR: tried again after a pause
  bool woken_ = true;  // something may have been given
  bool armed_ = false;  // the kernel has the poll of the eventfd, or will get it
  bool halting_ = false;
};

}  // namespace p2pdma
