// The tables that engine.ts and the engine share: how their records lie. test/native/engine.test.ts compares both sides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace p2pdma {

// Records of the request stream, as float64 words (engine.ts writes them):
//   slot, op + flags * 256, fd, offset, n, then n words
//     read, write:  (address, length, mapping) per segment
//     passthrough:  opcode, nsid, cdw2, cdw3, cdw10..cdw15, timeout, address, length, mapping
//     allocate:     length, mode
// The code's low bits are the op, the others its flags.
constexpr uint32_t kFlagsFrom = 256;
constexpr size_t kHeaderWords = 5;
constexpr size_t kSegmentWords = 3;
constexpr size_t kPassthroughWords = 14;
// Records of the completion table, as int32 words: slot, result, low and high half of the extra result.
constexpr size_t kCompletionWords = 4;

// What the third table tells beside the length of the request stream: `kRetryWanted` is set when retry() is wanted
// after a pause, and changed when JavaScript has been called for it. Until then nothing is submitted.
constexpr size_t kQueued = 0;
constexpr size_t kRetryWanted = 1;

}  // namespace p2pdma
