// Per-environment state. The addon is context-aware: every worker thread that loads it gets an Env
// of its own, and nothing here is shared between threads except by the thread pool's own mutex.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace p2pdma {

struct Mapping;
class Engine;

// What is open now. Read by tests and by the backend's leak report.
struct Counters {
  int64_t fds = 0;
  int64_t mappings = 0;
  int64_t mappedBytes = 0;
  int64_t rings = 0;
  int64_t registeredFiles = 0;  // slots taken in rings' file tables
  int64_t threads = 0;
  int64_t inFlight = 0;
  int64_t enters = 0;       // io_uring_enter calls that submitted something
  int64_t submitted = 0;    // requests taken from JavaScript
  int64_t callbacks = 0;    // calls into JavaScript, each with a batch of completions
};

struct Env {
  napi_env napi = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
  bool tearingDown = false;
  Counters counters;
  std::map<int, bool> fds;            // opened through openFile, not yet closed; true: exclusively
  std::vector<Mapping*> mappings;     // by mapping id; null where free
  std::vector<int> freeMappings;
  std::vector<std::shared_ptr<Engine>> engines;  // by engine id; null where closed
  int closing = 0;  // wakers whose handles libuv still closes
};

// A mapping's finalizer may run after the environment's instance data is gone: both hold the Env.
using EnvPtr = std::shared_ptr<Env>;

EnvPtr envOf(napi_env env);
// An fd of ours is about to be closed, and its number given out again. False: it is none of ours.
bool forgetFd(Env& env, int fd);
// The environment waits at its end until every handle is closed. Only for who has some: Deno 2.9 frees such a hook twice.
bool awaitTeardown(Env& env);
void finishTeardown(Env& env);

void initMapping(Napi::Env env, Napi::Object exports);
void initFile(Napi::Env env, Napi::Object exports);
void initEngine(Napi::Env env, Napi::Object exports);

}  // namespace p2pdma
