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
//     pump:         length, chunk, depth, address, stride, slots, mapping, address of its state, then per destination
//                   fd, flags, offset; the header has the same of the source
// The code's low bits are the op, the others its flags.
constexpr uint32_t kFlagsFrom = 256;
constexpr size_t kHeaderWords = 5;
constexpr size_t kSegmentWords = 3;
constexpr size_t kPassthroughWords = 14;
constexpr size_t kPumpWords = 8;
constexpr size_t kPumpEndWords = 3;
// Records of the completion table, as int32 words: slot, result, low and high half of the extra result.
constexpr size_t kCompletionWords = 4;

// What the third table tells beside the length of the request stream: `kRetryWanted` is set when retry() is wanted
// after a pause, and changed when JavaScript has been called for it. Until then nothing is submitted.
constexpr size_t kQueued = 0;
constexpr size_t kRetryWanted = 1;

// The state of a pump, as float64 words: C++ writes it while the pump runs, but for `kPumpStop`, which JavaScript sets.
constexpr size_t kPumpMoved = 0;         // bytes that every destination has, from the beginning on without a gap
constexpr size_t kPumpStop = 1;          // not 0: no further read is to begin
constexpr size_t kPumpFailedLeg = 2;     // -1: all is well; 0: a read; from 1: a write to this destination
constexpr size_t kPumpFailedAt = 3;      // of the chunk that did not move in full, from the beginning of the range
constexpr size_t kPumpFailedResult = 4;  // of its transfer: a count that is too small, or a negative errno
// Then per leg, the source first: transfers that ended, bytes that they moved, transfers in flight.
constexpr size_t kPumpLegs = 5;
constexpr size_t kPumpLegWords = 3;

}  // namespace p2pdma
