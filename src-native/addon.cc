// The module's entry: the state of each environment, its teardown, and the debug counters.
#include "engine.h"
#include "env.h"
#include "mapping.h"

#include <unistd.h>

namespace p2pdma {

EnvPtr envOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<EnvPtr*>(data);
}

bool forgetFd(Env& env, int fd) {
  if (env.fds.erase(fd) == 0) return false;
  env.counters.fds--;
  for (const auto& engine : env.engines) {
    if (engine) engine->unregisterFile(fd);
  }
  return true;
}

// The last step of the teardown, when libuv has closed every handle of ours.
void finishTeardown(Env& env) {
  if (!env.tearingDown || env.closing > 0) return;
  for (const auto& [fd, exclusive] : env.fds) close(fd);
  for (int fd : env.watched) close(fd);
  env.fds.clear();
  env.watched.clear();
  env.counters.fds = 0;
  env.counters.watched = 0;
  if (env.hook == nullptr) return;
  napi_async_cleanup_hook_handle hook = env.hook;
  env.hook = nullptr;
  napi_remove_async_cleanup_hook(hook);
}

namespace {

// Runs on the JS thread when a worker is terminated or the process ends. The order matters: first the kernel finishes
// every request (memory of JavaScript's heap is freed after this), then rings and threads go, then fds.
void tearDown(Env& env) {
  env.tearingDown = true;
  for (auto& engine : env.engines) {
    if (engine) engine->close();
    engine = nullptr;
  }
  finishTeardown(env);
}

}  // namespace

bool awaitTeardown(Env& env) {
  if (env.hook != nullptr) return true;
  const auto hook = [](napi_async_cleanup_hook_handle, void* of) { tearDown(*static_cast<Env*>(of)); };
  return napi_add_async_cleanup_hook(env.napi, hook, &env, &env.hook) == napi_ok;
}

namespace {

Napi::Value counters(const Napi::CallbackInfo& info) {
  EnvPtr env = envOf(info.Env());
  Napi::Object out = Napi::Object::New(info.Env());
  const Counters& c = env->counters;
  out.Set("fds", static_cast<double>(c.fds));
  out.Set("watched", static_cast<double>(c.watched));
  out.Set("mappings", static_cast<double>(c.mappings));
  out.Set("mappedBytes", static_cast<double>(c.mappedBytes));
  out.Set("rings", static_cast<double>(c.rings));
  out.Set("registeredFiles", static_cast<double>(c.registeredFiles));
  out.Set("threads", static_cast<double>(c.threads));
  out.Set("inFlight", static_cast<double>(c.inFlight));
  out.Set("enters", static_cast<double>(c.enters));
  out.Set("submitted", static_cast<double>(c.submitted));
  out.Set("callbacks", static_cast<double>(c.callbacks));
  return out;
}

}  // namespace

// The version of the interface between JavaScript and C++. It is raised, here and in lib/native/addon.ts (INTERFACE),
// with each change of a function's arguments or of the shared arrays.
constexpr int kInterface = 7;

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* state = new EnvPtr(new Env);
  (*state)->napi = env;
  napi_set_instance_data(
      env, state, [](napi_env, void* data, void*) { delete static_cast<EnvPtr*>(data); }, nullptr);
  const auto hook = [](void* arg) {
    auto* of = static_cast<EnvPtr*>(arg);
    tearDown(**of);
    delete of;
  };
  napi_add_env_cleanup_hook(env, hook, new EnvPtr(*state));

  initMapping(env, exports);
  initFile(env, exports);
  initEngine(env, exports);
  exports.Set("interface", Napi::Number::New(env, kInterface));
  exports.Set("counters", Napi::Function::New(env, counters));
  return exports;
}

}  // namespace p2pdma

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return p2pdma::init(env, exports); }
NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
