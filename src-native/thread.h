// Threads of ours beside that of JavaScript.
#pragma once

#include <pthread.h>

#include <cstddef>

namespace p2pdma {

// Start one that gets no signals: they are JavaScript's business. 0 or an errno.
int startThread(pthread_t* thread, size_t stackBytes, void* (*main)(void*), void* argument);

void joinThread(pthread_t thread);

}  // namespace p2pdma
