// See thread.h.
#include "thread.h"

#include "old-symbols.h"

#include <signal.h>

P2PDMA_OLD(pthread_attr_setstacksize);
P2PDMA_OLD(pthread_create);
P2PDMA_OLD(pthread_join);
P2PDMA_OLD(pthread_sigmask);

namespace p2pdma {

int startThread(pthread_t* thread, size_t stackBytes, void* (*main)(void*), void* argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, stackBytes);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(thread, &attr, main, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attr);
  return error;
}

void joinThread(pthread_t thread) { pthread_join(thread, nullptr); }

}  // namespace p2pdma
