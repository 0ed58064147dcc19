// The thread engine: threads of its own (libuv's pool has four and serves everybody), made as needed.
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

  // JS thread. False: no thread could be made.
  bool start(Request* r);
  // JS thread: move everything that finished to `out`.
  void reap(std::vector<Request*>* out);
  // JS thread: let running system calls finish, end the threads. What had not begun goes to `dropped`.
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
