// The waker for a runtime that has libuv. Its functions are looked up, so that the addon also loads where there is no libuv.
#include "old-symbols.h"
#include "waker.h"

#include <dlfcn.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

P2PDMA_OLD(dlsym);

namespace p2pdma {
namespace {

// Handles, for a caller who does not know their size: the numbers of their kinds and the calls on them are part of libuv's ABI.
using Handle = void;
constexpr int kPoll = 8;
constexpr int kPrepare = 9;
constexpr int kReadable = 1;

struct Uv {
  // This function is part of Node-API, but not every runtime has it.
  napi_status (*loop)(napi_env, void** loop);
  size_t (*handleSize)(int kind);
  int (*pollInit)(void* loop, Handle*, int fd);
  int (*pollStart)(Handle*, int events, void (*)(Handle*, int status, int events));
  int (*prepareInit)(void* loop, Handle*);
  int (*prepareStart)(Handle*, void (*)(Handle*));
  void (*ref)(Handle*);
  void (*unref)(Handle*);
  void (*close)(Handle*, void (*)(Handle*));
  bool complete = true;

  Uv() {
    find(&loop, "napi_get_uv_event_loop");
    find(&handleSize, "uv_handle_size");
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

class LoopWaker final : public Waker {
 public:
  LoopWaker(EnvPtr env, Client* client, const Uv& uv) : env_(std::move(env)), client_(client), uv_(uv) {}

  ~LoopWaker() override {
    if (eventFd_ >= 0) ::close(eventFd_);
    free(poll_);
    free(prepare_);
  }

  // The handles keep this object until libuv has closed them.
  bool start(const std::shared_ptr<LoopWaker>& self) {
    eventFd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    poll_ = calloc(1, uv_.handleSize(kPoll));
    prepare_ = calloc(1, uv_.handleSize(kPrepare));
    void* loop = nullptr;
    if (eventFd_ < 0 || poll_ == nullptr || prepare_ == nullptr || uv_.loop(env_->napi, &loop) != napi_ok) return false;
    if (uv_.pollInit(loop, poll_, eventFd_) != 0) return false;
    uv_.prepareInit(loop, prepare_);
    data(poll_) = data(prepare_) = this;
    self_ = self;
    open_ = 2;
    uv_.pollStart(poll_, kReadable, onReady);
    uv_.prepareStart(prepare_, onPrepare);
    uv_.unref(poll_);
    uv_.unref(prepare_);
    return true;
  }

  int watch() override { return eventFd_; }
  bool knowsTurns() const override { return true; }

  void keepAlive(bool wanted) override {
    if (wanted) uv_.ref(poll_);
    else uv_.unref(poll_);
  }

  void signal() override {
    const uint64_t one = 1;
    ssize_t ignored = write(eventFd_, &one, sizeof one);
    (void)ignored;
  }

  void clear() override {
    uint64_t count;
    ssize_t ignored = read(eventFd_, &count, sizeof count);
    (void)ignored;
  }

  void close() override {
    if (client_ == nullptr) return;
    client_ = nullptr;
    env_->closing++;
    uv_.close(poll_, onClosed);
    uv_.close(prepare_, onClosed);
  }

 private:
  // The first field of every handle is a pointer that belongs to its user.
  static void*& data(Handle* handle) { return *static_cast<void**>(handle); }
  static LoopWaker* of(Handle* handle) { return static_cast<LoopWaker*>(data(handle)); }

  // As long as nobody has called clear(), libuv calls this again.
  static void onReady(Handle* poll, int, int) { of(poll)->client_->onWake(); }

  static void onPrepare(Handle* prepare) { of(prepare)->client_->onTurn(); }

  static void onClosed(Handle* closed) {
    LoopWaker* self = of(closed);
    if (--self->open_ > 0) return;
    const EnvPtr env = self->env_;
    env->closing--;
    self->self_.reset();
    finishTeardown(*env);
  }

  const EnvPtr env_;
  Client* client_;
  const Uv uv_;
  int eventFd_ = -1;
  int open_ = 0;  // handles that libuv has not closed yet
  Handle* poll_ = nullptr;
  Handle* prepare_ = nullptr;
  std::shared_ptr<LoopWaker> self_;
};

}  // namespace

std::shared_ptr<Waker> openLoopWaker(const EnvPtr& env, Waker::Client* client) {
  const Uv uv;
  if (!uv.complete || !awaitTeardown(*env)) return nullptr;
  const std::shared_ptr<LoopWaker> waker(new LoopWaker(env, client, uv));
  return waker->start(waker) ? waker : nullptr;
}

}  // namespace p2pdma
