// Memory given to JavaScript as external ArrayBuffers.
#pragma once

#include "env.h"

#include <cstddef>

namespace p2pdma {

// Who holds a mapping: JavaScript (until munmap or garbage collection) and every request in flight.
// munmap(2) happens when the last of them lets go, on the thread of JavaScript.
struct Mapping {
  EnvPtr env;
  int id = -1;
  void* addr = nullptr;  // null once unmapped
  size_t length = 0;     // as mapped, in pages
  uint32_t inFlight = 0;
  bool heldByJs = true;
  bool finalized = false;  // V8 has let go of the backing store
};

void retainMapping(Env& env, int id);
void releaseMapping(Env& env, int id);

}  // namespace p2pdma
