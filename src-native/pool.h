// The thread engine. It has its own threads, started as needed, because the four of libuv's pool serve everybody.
#pragma once

#include "request.h"
#include "waker.h"

#include <pthread.h>

#include <deque>
#include <vector>

namespace p2pdma {

class Pool {
 public:
  Pool(Waker& waker, unsigned maxThreads);
  ~Pool();

  // Called on the JS thread. False: no thread could be started.
  bool start(Request* r);
  // Called on the JS thread: moves everything that has finished to `out`.
  void reap(std::vector<Request*>* out);
  // Called on the JS thread: waits for the running system calls and ends the threads. Requests that had not begun go to `dropped`.
  void stop(std::vector<Request*>* dropped);
  unsigned threads() const { return static_cast<unsigned>(threads_.size()); }

 private:
  static void* main(void* self);
  void run();

  Waker& waker_;
  const unsigned maxThreads_;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  std::deque<Request*> queue_;
  std::vector<Request*> done_;
  std::vector<pthread_t> threads_;
  unsigned idle_ = 0;
  bool stopping_ = false;
};

}  // namespace p2pdma
