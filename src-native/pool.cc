// Threads that make blocking system calls, and the system call of each kind of request.
#include "pool.h"

#include "lock.h"
#include "thread.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace p2pdma {
namespace {

constexpr size_t kStack = 512 * 1024;

// Nothing that may run on a pool thread touches JavaScript.
template <typename F>
int64_t restart(F call) {
  int64_t n;
  do {
    n = call();
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

// How long a thread waits for a pipe at most: an engine that closes waits for its threads.
constexpr int64_t kPipeWaitMs = 100;

// What a pipe is made to hold: the most that every user may ask for, unless an administrator says otherwise.
constexpr int kPipeHolds = 1024 * 1024;

int64_t nowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Reads or writes what a pipe or a socket allows without waiting, whatever its flags are. Those belong to every process that has
// the same file open, so O_NONBLOCK is not set.
int64_t moveNow(bool reading, bool pipe, int fd, char* memory, size_t bytes) {
  if (!pipe) {
    const int64_t n = restart([&] {
      return reading ? recv(fd, memory, bytes, MSG_DONTWAIT) : send(fd, memory, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    });
    if (n != -ENOTSOCK) return n;
  }
  const iovec all = {memory, bytes};
  // The offset -1 stands for no offset; the call takes it in two parts.
  const int64_t n =
      restart([&] { return syscall(reading ? SYS_preadv2 : SYS_pwritev2, fd, &all, 1, -1L, -1L, RWF_NOWAIT); });
  if (n != -EOPNOTSUPP && n != -ENOSYS && n != -EINVAL) return n;
  // A pipe before Linux 6.4, or one that was spliced. When poll(2) says that it is ready, a read does not wait, nor does a write
  // of so few bytes, unless another process that shares the end comes first.
  pollfd ready = {fd, static_cast<short>(reading ? POLLIN : POLLOUT), 0};
  if (poll(&ready, 1, 0) == 0) return -EAGAIN;
  return restart([&] { return reading ? read(fd, memory, bytes) : write(fd, memory, std::min<size_t>(bytes, PIPE_BUF)); });
}

// Reads a pipe or a socket until the memory is full, or writes all of it, but waits no longer than kPipeWaitMs. Returns the bytes
// moved, which may be 0, or -errno if there were none; `ended` is set where a read finds the end.
int64_t movePipe(bool reading, int fd, char* memory, size_t bytes, uint64_t* ended) {
  // Only a pipe has an answer. With more room each side has to wait for the other less often; where that is refused, it stays as
  // it is.
  const int holds = fcntl(fd, F_GETPIPE_SZ);
  if (holds >= 0 && holds < kPipeHolds) fcntl(fd, F_SETPIPE_SZ, kPipeHolds);
  const int64_t until = nowMs() + kPipeWaitMs;
  size_t moved = 0;
  while (moved < bytes) {
    const int64_t n = moveNow(reading, holds >= 0, fd, memory + moved, bytes - moved);
    if (n > 0) {
      moved += static_cast<size_t>(n);
      continue;
    }
    if (n == 0) {
      *ended = 1;
      break;
    }
    if (n != -EAGAIN) return moved > 0 ? static_cast<int64_t>(moved) : n;
    // A thread that waits in the call itself could not be told to stop.
    const int64_t left = until - nowMs();
    if (left <= 0) break;
    pollfd ready = {fd, static_cast<short>(reading ? POLLIN : POLLOUT), 0};
    if (poll(&ready, 1, static_cast<int>(left)) < 0 && errno != EINTR) return -errno;
  }
  return static_cast<int64_t>(moved);
}

}  // namespace

void perform(Request* r) {
  const int fd = r->fd;
  const iovec* iov = r->iov.data();
  const int count = static_cast<int>(r->iov.size());
  int64_t n = 0;
  switch (r->op) {
    case Op::kRead:
      n = restart([&] { return preadv(fd, iov, count, r->offset); });
      break;
    case Op::kWrite:
      n = restart([&] { return pwritev(fd, iov, count, r->offset); });
      break;
    case Op::kSync:
      n = restart([&] { return fsync(fd); });
      break;
    case Op::kPassthrough:
      n = restart([&] {
        return ioctl(fd, (r->flags & kFlagAdmin) ? kNvmeIoctlAdmin64 : kNvmeIoctlIo64, &r->command);
      });
      r->extra = r->command.result;
      break;
    case Op::kAllocate:
      n = restart([&] { return fallocate(fd, r->mode, r->offset, r->length); });
      break;
    case Op::kOpen:
      n = openQuietly(r->path.c_str(), static_cast<int>(r->offset), static_cast<mode_t>(r->mode));
      break;
    case Op::kTruncate:
      n = restart([&] { return ftruncate(fd, r->offset); });
      break;
    case Op::kClose:
      n = close(fd) == 0 || errno == EINTR ? 0 : -errno;
      break;
    case Op::kPipeRead:
    case Op::kPipeWrite:
      if (count > 0) n = movePipe(r->op == Op::kPipeRead, fd, static_cast<char*>(iov->iov_base), iov->iov_len, &r->extra);
      break;
    case Op::kNop:
    case Op::kPump:  // never given to a thread
      break;
  }
  r->res = static_cast<int32_t>(n);
}

Pool::Pool(Waker& waker, unsigned maxThreads) : waker_(waker), maxThreads_(maxThreads) {}

Pool::~Pool() {
  pthread_mutex_destroy(&mutex_);
  pthread_cond_destroy(&wake_);
}

bool Pool::start(Request* r) {
  bool grow;
  {
    Lock lock(&mutex_);
    queue_.push_back(r);
    grow = queue_.size() > idle_ && threads_.size() < maxThreads_;
    if (!grow) pthread_cond_signal(&wake_);
  }
  if (!grow) return true;
  pthread_t thread;
  const int error = startThread(&thread, kStack, main, this);
  if (error == 0) {
    threads_.push_back(thread);
    return true;
  }
  Lock lock(&mutex_);
  pthread_cond_signal(&wake_);
  if (!threads_.empty()) return true;  // the threads that exist will do it
  queue_.pop_back();
  return false;
}

void Pool::reap(std::vector<Request*>* out) {
  Lock lock(&mutex_);
  out->insert(out->end(), done_.begin(), done_.end());
  done_.clear();
}

void Pool::stop(std::vector<Request*>* dropped) {
  {
    Lock lock(&mutex_);
    stopping_ = true;
    dropped->insert(dropped->end(), queue_.begin(), queue_.end());
    queue_.clear();
    pthread_cond_broadcast(&wake_);
  }
  for (pthread_t thread : threads_) joinThread(thread);
  threads_.clear();
}

void* Pool::main(void* self) {
  static_cast<Pool*>(self)->run();
  return nullptr;
}

void Pool::run() {
  pthread_mutex_lock(&mutex_);
  for (;;) {
    while (queue_.empty() && !stopping_) {
      idle_++;
      pthread_cond_wait(&wake_, &mutex_);
      idle_--;
    }
    if (stopping_) break;
    Request* r = queue_.front();
    queue_.pop_front();
    pthread_mutex_unlock(&mutex_);
    perform(r);
    pthread_mutex_lock(&mutex_);
    const bool first = done_.empty();
    done_.push_back(r);
    if (first) waker_.signal();
  }
  pthread_mutex_unlock(&mutex_);
}

}  // namespace p2pdma
