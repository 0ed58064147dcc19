// Threads of the addon beside the JS thread.
#pragma once

#include <pthread.h>

#include <cstddef>

namespace p2pdma {

// Starts a thread that gets no signals, because JavaScript handles them. Returns 0 or an errno.
int startThread(pthread_t* thread, size_t stackBytes, void* (*main)(void*), void* argument);

void joinThread(pthread_t thread);

}  // namespace p2pdma
