// See pump-thread.h.
#include "pump-thread.h"

#include "lock.h"
#include "thread.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace p2pdma {
namespace {

constexpr size_t kStack = 512 * 1024;
// More requests than this wait for their turn.
constexpr unsigned kEntries = 256;
// The user data of the poll of the eventfd.
constexpr uint64_t kWake = 0;
constexpr int kPauseMs = 1;

}  // namespace

PumpThread::~PumpThread() {
  stop();
  pthread_mutex_destroy(&mutex_);
  pthread_cond_destroy(&opened_);
}

int PumpThread::start() {
  eventFd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (eventFd_ < 0) return -errno;
  const int error = startThread(&thread_, kStack, main, this);
  if (error != 0) return -error;
  started_ = true;
  // A ring is used only by the thread that opened it.
  Lock lock(&mutex_);
  while (openResult_ > 0) pthread_cond_wait(&opened_, &mutex_);
  return openResult_;
}

void PumpThread::give(Request* r, std::unique_ptr<Pump> pump) {
  {
    Lock lock(&mutex_);
    given_.push_back({r, std::move(pump)});
  }
  wake();
}

void PumpThread::reap(std::vector<Request*>* out) {
  Lock lock(&mutex_);
  out->insert(out->end(), over_.begin(), over_.end());
  over_.clear();
}

void PumpThread::stop() {
  if (started_) {
    {
      Lock lock(&mutex_);
      stopping_ = true;
    }
    wake();
    joinThread(thread_);
    started_ = false;
  }
  if (eventFd_ >= 0) close(eventFd_);
  eventFd_ = -1;
}

void PumpThread::wake() {
  const uint64_t one = 1;
  ssize_t ignored = write(eventFd_, &one, sizeof one);
  (void)ignored;
}

void* PumpThread::main(void* self) {
  static_cast<PumpThread*>(self)->run();
  return nullptr;
}

int PumpThread::open() {
  const int error = lane_.ring.open(kEntries, Ring::Size::kNormal, -1);
  if (error != 0) return error;
  for (uint8_t op : {kOpRead, kOpWrite, kOpPollAdd}) {
    if (!lane_.ring.supports(op)) return -ENOSYS;
  }
  return 0;
}

void PumpThread::run() {
  const int result = open();
  {
    Lock lock(&mutex_);
    openResult_ = result;
    pthread_cond_signal(&opened_);
  }
  if (result != 0) return;
  while (take()) step();
  lane_.ring.close();
}

// Starts what was given. False: the thread is to end, and nothing is in flight any more.
bool PumpThread::take() {
  if (woken_) {
    woken_ = false;
    arm();
    std::vector<Running> given;
    {
      Lock lock(&mutex_);
      given.swap(given_);
      halting_ = stopping_;
    }
    for (Running& one : given) {
      if (halting_) one.pump->halt();
      one.pump->start();
      running_.push_back(std::move(one));
    }
    if (halting_) {
      for (Running& one : running_) one.pump->halt();
    }
    putOver();
  }
  return !halting_ || !running_.empty();
}

// From now on the eventfd ends the wait for the kernel, once.
void PumpThread::arm() {
  uint64_t count;
  ssize_t ignored = read(eventFd_, &count, sizeof count);
  (void)ignored;
  if (armed_) return;
  io_uring_sqe* const sqe = lane_.ring.next();
  if (sqe == nullptr) {
    woken_ = true;
    return;
  }
  armed_ = true;
  sqe->opcode = kOpPollAdd;
  sqe->fd = eventFd_;
  sqe->poll_events = POLLIN;
  sqe->user_data = kWake;
}

// Submits what the pumps want, waits until something has ended, and tells the pumps.
void PumpThread::step() {
  const auto prepared = [](Request* r, io_uring_sqe* sqe) { prepareEntry(*r, sqe); };
  const bool paused = !again_.empty();
  const bool taken = lane_.submit(prepared, &refused_, paused ? 0 : 1);
  if (paused || !taken) {
    poll(nullptr, 0, kPauseMs);
    lane_.ring.enter(0);
    woken_ = true;  // while the kernel refuses to take anything, it does not wait for the eventfd either
  }
  lane_.pending.insert(lane_.pending.end(), again_.begin(), again_.end());
  again_.clear();
  Completion c;
  while (lane_.ring.pop(&c)) {
    if (c.userData == kWake) {
      armed_ = false;
      woken_ = true;
      continue;
    }
    lane_.inRing--;
    Request* const r = requestOf(c.userData);
    r->res = c.res;
    ended(r);
  }
  for (Request* r : refused_) {
    if (r != nullptr) {
      ended(r);
      continue;
    }
    armed_ = false;
    woken_ = true;
  }
  refused_.clear();
  putOver();
}

void PumpThread::ended(Request* r) {
  if ((r->res == -EAGAIN || r->res == -EINTR) && !halting_ && r->retries < kMaxRetries) {
    r->retries++;
    again_.push_back(r);
    return;
  }
  r->pump->ended(r);
}

void PumpThread::putOver() {
  bool any = false;
  for (size_t i = 0; i < running_.size();) {
    if (!running_[i].pump->isOver()) {
      i++;
      continue;
    }
    running_[i].request->res = 0;
    {
      Lock lock(&mutex_);
      over_.push_back(running_[i].request);
    }
    std::swap(running_[i], running_.back());
    running_.pop_back();
    any = true;
  }
  if (any) waker_.signal();
}

}  // namespace p2pdma
