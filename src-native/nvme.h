// NVMe passthrough: the layouts of linux/nvme_ioctl.h, which libc headers may not have in full.
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace p2pdma {

// struct nvme_passthru_cmd64; struct nvme_uring_cmd is the same without `result`.
struct NvmeCommand {
  uint8_t opcode;
  uint8_t flags;
  uint16_t rsvd1;
  uint32_t nsid;
  uint32_t cdw2;
  uint32_t cdw3;
  uint64_t metadata;
  uint64_t addr;
  uint32_t metadataLen;
  uint32_t dataLen;
  uint32_t cdw10;
  uint32_t cdw11;
  uint32_t cdw12;
  uint32_t cdw13;
  uint32_t cdw14;
  uint32_t cdw15;
  uint32_t timeoutMs;
  uint32_t rsvd2;
  uint64_t result;
};
static_assert(sizeof(NvmeCommand) == 80, "nvme_passthru_cmd64 is 80 bytes");
static_assert(offsetof(NvmeCommand, addr) == 24, "ABI");
static_assert(offsetof(NvmeCommand, timeoutMs) == 64, "ABI");
static_assert(offsetof(NvmeCommand, result) == 72, "ABI");

constexpr size_t kNvmeUringCommandSize = 72;
constexpr unsigned long kNvmeIoctlAdmin64 = _IOWR('N', 0x47, NvmeCommand);
constexpr unsigned long kNvmeIoctlIo64 = _IOWR('N', 0x48, NvmeCommand);
constexpr uint32_t kNvmeUringIo = _IOC(_IOC_READ | _IOC_WRITE, 'N', 0x80, kNvmeUringCommandSize);
constexpr uint32_t kNvmeUringAdmin = _IOC(_IOC_READ | _IOC_WRITE, 'N', 0x82, kNvmeUringCommandSize);

}  // namespace p2pdma
