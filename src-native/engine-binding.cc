// The functions of the engine that JavaScript calls; engine.ts is the other side.
#include "engine.h"
#include "records.h"

#include <cerrno>
#include <climits>
#include <memory>
#include <utility>

namespace p2pdma {
namespace {

std::shared_ptr<Engine> engineArg(const Napi::CallbackInfo& info) {
  EnvPtr env = envOf(info.Env());
  const uint32_t id = info[0].As<Napi::Number>().Uint32Value();
  return id < env->engines.size() ? env->engines[id] : nullptr;
}

}  // namespace

// openEngine({ ring, entries, loop }, requests, completions, control, onCompletions) returns an engine id or -errno.
static Napi::Value openEngine(const Napi::CallbackInfo& info) {
  EnvPtr env = envOf(info.Env());
  if (env->tearingDown) return Napi::Number::New(info.Env(), -ECANCELED);
  const std::shared_ptr<Engine> engine(new Engine(env));
  const auto asked = info[0].As<Napi::Object>();
  const Engine::Wishes wishes = {asked.Get("ring").ToBoolean(), asked.Get("entries").ToNumber().Uint32Value(),
                                 asked.Get("loop").ToBoolean()};
  const Engine::Shared shared = {info[1].As<Napi::Float64Array>(), info[2].As<Napi::Int32Array>(),
                                 info[3].As<Napi::Int32Array>(), info[4].As<Napi::Function>()};
  const int error = engine->open(info.Env(), wishes, shared);
  if (error != 0) return Napi::Number::New(info.Env(), error);
  env->engines.push_back(engine);
  return Napi::Number::New(info.Env(), static_cast<double>(env->engines.size() - 1));
}

// wake(id): the request stream, which was empty, has a request now.
static void wake(const Napi::CallbackInfo& info) {
  if (const auto engine = engineArg(info)) engine->wake();
}

// knowsTurns(id): true if the engine sees the end of each turn of the event loop; false if JavaScript has to call flush().
static Napi::Value knowsTurns(const Napi::CallbackInfo& info) {
  const auto engine = engineArg(info);
  return Napi::Boolean::New(info.Env(), engine && engine->knowsTurns());
}

// flush(id): a turn of the event loop has ended. Everything that is queued goes to the kernel in one call.
static void flush(const Napi::CallbackInfo& info) {
  if (const auto engine = engineArg(info)) engine->flush();
}

// retry(id): the pause that was asked for is over.
static void retry(const Napi::CallbackInfo& info) {
  if (const auto engine = engineArg(info)) engine->retry();
}

// take(id): empties the request stream, which is full. The requests are still submitted at the end of the turn.
static void take(const Napi::CallbackInfo& info) {
  if (const auto engine = engineArg(info)) engine->take();
}

// closeEngine(id): cancels the requests that are in flight, and waits for them.
static void closeEngine(const Napi::CallbackInfo& info) {
  const auto engine = engineArg(info);
  if (!engine) return;
  envOf(info.Env())->engines[info[0].As<Napi::Number>().Uint32Value()] = nullptr;
  engine->close();
}

// ringFlags(id): the IORING_SETUP flags in use, or -1 if there is no ring.
static Napi::Value ringFlags(const Napi::CallbackInfo& info) {
  const auto engine = engineArg(info);
  return Napi::Number::New(info.Env(), engine ? static_cast<double>(engine->ringFlags()) : -1);
}

// The numbers that must be the same in engine.ts.
static Napi::Object layout(Napi::Env env) {
  const std::pair<const char*, double> facts[] = {
      {"opRead", static_cast<double>(Op::kRead)},
      {"opWrite", static_cast<double>(Op::kWrite)},
      {"opSync", static_cast<double>(Op::kSync)},
      {"opPassthrough", static_cast<double>(Op::kPassthrough)},
      {"opAllocate", static_cast<double>(Op::kAllocate)},
      {"opTruncate", static_cast<double>(Op::kTruncate)},
      {"opClose", static_cast<double>(Op::kClose)},
      {"opNop", static_cast<double>(Op::kNop)},
      {"opPump", static_cast<double>(Op::kPump)},
      {"opPipeRead", static_cast<double>(Op::kPipeRead)},
      {"opPipeWrite", static_cast<double>(Op::kPipeWrite)},
      {"opOpen", static_cast<double>(Op::kOpen)},
      {"flagAsync", kFlagAsync},
      {"flagAdmin", kFlagAdmin},
      {"flagUringCmd", kFlagUringCmd},
      {"flagThread", kFlagThread},
      {"flagHere", kFlagHere},
      {"flagsFrom", kFlagsFrom},
      {"headerWords", static_cast<double>(kHeaderWords)},
      {"segmentWords", static_cast<double>(kSegmentWords)},
      {"passthroughWords", static_cast<double>(kPassthroughWords)},
      {"pumpWords", static_cast<double>(kPumpWords)},
      {"pumpEndWords", static_cast<double>(kPumpEndWords)},
      {"pumpMoved", static_cast<double>(kPumpMoved)},
      {"pumpStop", static_cast<double>(kPumpStop)},
      {"pumpFailedLeg", static_cast<double>(kPumpFailedLeg)},
      {"pumpFailedAt", static_cast<double>(kPumpFailedAt)},
      {"pumpFailedResult", static_cast<double>(kPumpFailedResult)},
      {"pumpLegs", static_cast<double>(kPumpLegs)},
      {"pumpLegWords", static_cast<double>(kPumpLegWords)},
      {"completionWords", static_cast<double>(kCompletionWords)},
      {"queued", static_cast<double>(kQueued)},
      {"retryWanted", static_cast<double>(kRetryWanted)},
      {"maxSegments", IOV_MAX},
  };
  Napi::Object out = Napi::Object::New(env);
  for (const auto& [name, value] : facts) out.Set(name, value);
  return out;
}

void initEngine(Napi::Env env, Napi::Object exports) {
  exports.Set("layout", layout(env));
  exports.Set("openEngine", Napi::Function::New(env, openEngine));
  exports.Set("wake", Napi::Function::New(env, wake));
  exports.Set("knowsTurns", Napi::Function::New(env, knowsTurns));
  exports.Set("flush", Napi::Function::New(env, flush));
  exports.Set("retry", Napi::Function::New(env, retry));
  exports.Set("take", Napi::Function::New(env, take));
  exports.Set("closeEngine", Napi::Function::New(env, closeEngine));
  exports.Set("ringFlags", Napi::Function::New(env, ringFlags));
}

}  // namespace p2pdma
