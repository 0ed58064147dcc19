// The state of one environment. The addon is context-aware: every worker thread that loads it gets its own Env, and
// threads share nothing of it except under the mutex of the thread pool.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace p2pdma {

struct Mapping;
class Engine;

// The number of things that are open now. Tests and the backend's report of leaks read it.
struct Counters {
  int64_t fds = 0;
  int64_t watched = 0;  // files of /proc that are kept open for their announcements
  int64_t mappings = 0;
  int64_t mappedBytes = 0;
  int64_t rings = 0;
  int64_t registeredFiles = 0;  // slots in use in the file tables of the rings
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
  std::map<int, bool> fds;            // opened by openFile and not yet closed; true: exclusively
  std::set<int> watched;              // opened by openWatched and not yet closed
  std::vector<Mapping*> mappings;     // by mapping id; null where free
  std::vector<int> freeMappings;
  std::vector<std::shared_ptr<Engine>> engines;  // by engine id; null where closed
  int closing = 0;  // wakers whose handles libuv has not closed yet
};

// The finalizer of a mapping may run after the instance data of the environment is gone, so both keep a reference to the Env.
using EnvPtr = std::shared_ptr<Env>;

EnvPtr envOf(napi_env env);
// Must be called before an fd of ours is closed, after which its number may be used again. False: the fd is not ours.
bool forgetFd(Env& env, int fd);
// Makes the environment wait at its end until every handle is closed. It is only for wakers that have handles, because Deno 2.9
// frees such a hook twice.
bool awaitTeardown(Env& env);
void finishTeardown(Env& env);

void initMapping(Napi::Env env, Napi::Object exports);
void initFile(Napi::Env env, Napi::Object exports);
void initEngine(Napi::Env env, Napi::Object exports);

}  // namespace p2pdma
