// The waker that needs nothing but Node-API.
#include "lock.h"
#include "thread.h"
#include "waker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace p2pdma {
namespace {

constexpr size_t kWatcherStack = 256 * 1024;

// Only one call is under way at a time: signals between signal() and the call that follows lead to that same call.
class ThreadWaker final : public Waker {
 public:
  ThreadWaker(napi_env env, Client* client) : env_(env), client_(client) {}

  ~ThreadWaker() override { pthread_mutex_destroy(&mutex_); }

  bool start(const std::shared_ptr<ThreadWaker>& self) {
    // The runtime holds this reference until the function is finalized.
    auto* context = new std::shared_ptr<ThreadWaker>(self);
    napi_value name;
    if (napi_create_string_utf8(env_, "p2pdma.engine", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, context, onFinalize, context, onCall,
                                        &function_) != napi_ok) {
      delete context;
      return false;
    }
    keepAlive(false);
    return true;
  }

  int watch() override {
    if (eventFd_ >= 0) return eventFd_;
    const int fd = eventfd(0, EFD_CLOEXEC);
    if (fd < 0) return -errno;
    eventFd_ = fd;
    const int error = startThread(&thread_, kWatcherStack, watcher, this);
    if (error == 0) return fd;
    eventFd_ = -1;
    ::close(fd);
    return -error;
  }

  bool knowsTurns() const override { return false; }

  void keepAlive(bool wanted) override {
    if (wanted == keptAlive_ || function_ == nullptr) return;
    keptAlive_ = wanted;
    if (wanted) napi_ref_threadsafe_function(env_, function_);
    else napi_unref_threadsafe_function(env_, function_);
  }

  void signal() override {
    if (pending_.exchange(true)) return;
    Lock lock(&mutex_);
    if (function_ != nullptr) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
  }

  // They were cleared before the call.
  void clear() override {}

  void close() override {
    client_ = nullptr;
    unwatch();
    if (napi_threadsafe_function function = forget()) napi_release_threadsafe_function(function, napi_tsfn_abort);
  }

 private:
  static std::shared_ptr<ThreadWaker>* of(void* context) { return static_cast<std::shared_ptr<ThreadWaker>*>(context); }

  static void onCall(napi_env env, napi_value, void* context, void*) {
    // There is no environment: it is ending, and the call has nothing to do.
    if (env == nullptr) return;
    const std::shared_ptr<ThreadWaker> self = *of(context);
    // This is reset before the client looks: a signal that comes while it looks leads to another call.
    self->pending_ = false;
    if (self->client_ != nullptr) self->client_->onWake();
  }

  // Runs after close() or because the environment ends, whichever comes first.
  static void onFinalize(napi_env, void*, void* context) {
    (*of(context))->forget();
    delete of(context);
  }

  // From here on no thread calls the function any more.
  napi_threadsafe_function forget() {
    Lock lock(&mutex_);
    napi_threadsafe_function function = function_;
    function_ = nullptr;
    return function;
  }

  void unwatch() {
    if (eventFd_ < 0) return;
    stopping_ = true;
    const uint64_t one = 1;
    ssize_t ignored = write(eventFd_, &one, sizeof one);
    (void)ignored;
    joinThread(thread_);
    ::close(eventFd_);
    eventFd_ = -1;
  }

  static void* watcher(void* argument) {
    auto* self = static_cast<ThreadWaker*>(argument);
    uint64_t count;
    for (;;) {
      if (read(self->eventFd_, &count, sizeof count) < 0 && errno != EINTR) return nullptr;
      if (self->stopping_) return nullptr;
      self->signal();
    }
  }

  const napi_env env_;
  Client* client_;
  bool keptAlive_ = true;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;  // protects function_
  napi_threadsafe_function function_ = nullptr;
  std::atomic<bool> pending_{false};
  std::atomic<bool> stopping_{false};
  int eventFd_ = -1;
  pthread_t thread_ = {};
};

}  // namespace

std::shared_ptr<Waker> openThreadWaker(napi_env env, Waker::Client* client) {
  const std::shared_ptr<ThreadWaker> waker(new ThreadWaker(env, client));
  return waker->start(waker) ? waker : nullptr;
}

}  // namespace p2pdma
