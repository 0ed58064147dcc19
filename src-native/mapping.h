// Memory that JavaScript has as external ArrayBuffers.
#pragma once

#include "env.h"

#include <cstddef>

namespace p2pdma {

// A mapping is kept by JavaScript (until it is unmapped or collected) and by every request in flight. munmap(2) is called on
// the JS thread when the last of them releases it.
struct Mapping {
  EnvPtr env;
  int id = -1;
  void* addr = nullptr;  // null once unmapped
  size_t length = 0;     // as mapped, in pages
  uint32_t inFlight = 0;
  bool heldByJs = true;
  bool finalized = false;  // V8 has released the backing store
};

void retainMapping(Env& env, int id);
void releaseMapping(Env& env, int id);

}  // namespace p2pdma
