// From a request to the ring. See lane.h.
#include "lane.h"

#include "nvme.h"

#include <cstring>

namespace p2pdma {
namespace {

constexpr uint8_t kSqeAsync = 1u << 4;

}  // namespace

void prepareEntry(const Request& r, io_uring_sqe* sqe) {
  sqe->user_data = reinterpret_cast<uintptr_t>(&r);
  sqe->fd = r.fd;
  if ((r.flags & kFlagAsync) != 0) sqe->flags = kSqeAsync;
  switch (r.op) {
    case Op::kRead:
    case Op::kWrite: {
      const bool read = r.op == Op::kRead;
      sqe->off = static_cast<uint64_t>(r.offset);
      if (r.iov.size() == 1) {
        sqe->opcode = read ? kOpRead : kOpWrite;
        sqe->addr = reinterpret_cast<uintptr_t>(r.iov[0].iov_base);
        sqe->len = static_cast<uint32_t>(r.iov[0].iov_len);
      } else {
        sqe->opcode = read ? kOpReadv : kOpWritev;
        sqe->addr = reinterpret_cast<uintptr_t>(r.iov.data());
        sqe->len = static_cast<uint32_t>(r.iov.size());
      }
      break;
    }
    case Op::kSync:
      sqe->opcode = kOpFsync;
      break;
    case Op::kPassthrough: {
      sqe->opcode = kOpUringCmd;
      // cmd_op has the same place as off; the command begins at byte 48 of the 128.
      const uint32_t op = (r.flags & kFlagAdmin) ? kNvmeUringAdmin : kNvmeUringIo;
      memcpy(reinterpret_cast<char*>(sqe) + 8, &op, sizeof op);
      memcpy(reinterpret_cast<char*>(sqe) + 48, &r.command, kNvmeUringCommandSize);
      break;
    }
    default:
      sqe->opcode = kOpNop;
      sqe->fd = -1;
      break;
  }
}

// The kernel takes no more requests now, or will never take any.
bool Lane::refuse(int error, std::vector<Request*>* refused) {
  const bool passing = error == -EAGAIN || error == -EBUSY;
  if (passing && ++refusals_ < kMaxRetries) return false;
  refusals_ = 0;
  uint64_t taken;
  while (ring.takeBack(&taken)) {
    Request* const r = requestOf(taken);
    if (r == nullptr) {
      refused->push_back(r);
      continue;
    }
    inRing--;
    pending.push_back(r);
  }
  for (Request* r : pending) {
    r->res = error;
    r->retries = kMaxRetries;
    refused->push_back(r);
  }
  pending.clear();
  return true;
}

}  // namespace p2pdma
