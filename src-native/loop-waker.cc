// The waker of a runtime that has libuv. Its functions are looked up, so that the addon loads where there is none.
#include "waker.h"

#include <dlfcn.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstdint>

namespace p2pdma {
namespace {

// napi_get_uv_event_loop among them: it is no part of what every runtime with Node-API has.
struct Uv {
  decltype(&napi_get_uv_event_loop) loop;
  decltype(&uv_poll_init) pollInit;
  decltype(&uv_poll_start) pollStart;
  decltype(&uv_prepare_init) prepareInit;
  decltype(&uv_prepare_start) prepareStart;
  decltype(&uv_ref) ref;
  decltype(&uv_unref) unref;
  decltype(&uv_close) close;
  bool complete = true;

  Uv() {
    find(&loop, "napi_get_uv_event_loop");
    find(&pollInit, "uv_poll_init");
    find(&pollStart, "uv_poll_start");
    find(&prepareInit, "uv_prepare_init");
    find(&prepareStart, "uv_prepare_start");
    find(&ref, "uv_ref");
    find(&unref, "uv_unref");
    find(&close, "uv_close");
  }

 private:
  template <typename F>
  void find(F* function, const char* name) {
    *function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
    if (*function == nullptr) complete = false;
  }
};

const Uv& uv() {
  static const Uv found;
  return found;
}

template <typename T>
uv_handle_t* handle(T* of) {
  return reinterpret_cast<uv_handle_t*>(of);
}

class LoopWaker final : public Waker {
 public:
  LoopWaker(EnvPtr env, Client* client) : env_(std::move(env)), client_(client) {}
  ~LoopWaker() override { ::close(eventFd_); }

  // The handles hold it until libuv has closed them.
  bool start(const std::shared_ptr<LoopWaker>& self) {
    eventFd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    uv_loop_t* loop = nullptr;
    if (eventFd_ < 0 || uv().loop(env_->napi, &loop) != napi_ok) return false;
    if (uv().pollInit(loop, &poll_, eventFd_) != 0) return false;
    uv().prepareInit(loop, &prepare_);
    poll_.data = prepare_.data = this;
    self_ = self;
    handles_ = 2;
    uv().pollStart(&poll_, UV_READABLE, onReady);
    uv().prepareStart(&prepare_, onPrepare);
    uv().unref(handle(&poll_));
    uv().unref(handle(&prepare_));
    return true;
  }

  int watch() override { return eventFd_; }
  bool knowsTurns() const override { return true; }

  void keepAlive(bool wanted) override {
    if (wanted) uv().ref(handle(&poll_));
    else uv().unref(handle(&poll_));
  }

  void signal() override {
    const uint64_t one = 1;
    ssize_t ignored = write(eventFd_, &one, sizeof one);
    (void)ignored;
  }

  void close() override {
    if (client_ == nullptr) return;
    client_ = nullptr;
    env_->closing++;
    uv().close(handle(&poll_), onClosed);
    uv().close(handle(&prepare_), onClosed);
  }

 private:
  static void onReady(uv_poll_t* poll, int, int) {
    auto* self = static_cast<LoopWaker*>(poll->data);
    uint64_t count;
    ssize_t ignored = read(self->eventFd_, &count, sizeof count);
    (void)ignored;
    self->client_->onWake();
  }

  static void onPrepare(uv_prepare_t* prepare) { static_cast<LoopWaker*>(prepare->data)->client_->onTurn(); }

  static void onClosed(uv_handle_t* closed) {
    auto* self = static_cast<LoopWaker*>(closed->data);
    if (--self->handles_ > 0) return;
    const EnvPtr env = self->env_;
    env->closing--;
    self->self_.reset();
    finishTeardown(*env);
  }

  const EnvPtr env_;
  Client* client_;
  int eventFd_ = -1;
  int handles_ = 0;
  uv_poll_t poll_;
  uv_prepare_t prepare_;
  std::shared_ptr<LoopWaker> self_;
};

}  // namespace

std::shared_ptr<Waker> openLoopWaker(const EnvPtr& env, Waker::Client* client) {
  if (!uv().complete || !awaitTeardown(*env)) return nullptr;
  const auto waker = std::make_shared<LoopWaker>(env, client);
  return waker->start(waker) ? waker : nullptr;
}

}  // namespace p2pdma
