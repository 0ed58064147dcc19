// The layout of the tables that engine.ts and the engine share. test/native/engine.test.ts compares both sides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace p2pdma {

// The records of the request stream, as float64 words that engine.ts writes:
//   slot, op + flags * 256, fd, offset, n, then n words
//     read, write:  (address, length, mapping) per segment; a pipe’s read and write have one segment
//     passthrough:  opcode, nsid, cdw2, cdw3, cdw10..cdw15, timeout, address, length, mapping
//     allocate:     length, mode
//     open:         mode, length of the path, the path in UTF-8; the header has the flags as its offset
//     pump:         length, chunk, depth, address, stride, slots, mapping, address of its state, then per destination
//                   fd, flags, offset; the header has the same of the source
// The low bits of the code are the op, the others are its flags.
constexpr uint32_t kFlagsFrom = 256;
constexpr size_t kHeaderWords = 5;
constexpr size_t kSegmentWords = 3;
constexpr size_t kPassthroughWords = 14;
constexpr size_t kPumpWords = 8;
constexpr size_t kPumpEndWords = 3;
// The records of the completion table, as int32 words: slot, result, low and high half of the extra result.
constexpr size_t kCompletionWords = 4;

// The third table has the length of the request stream and `kRetryWanted`, which is set when JavaScript is to call retry()
// after a pause, and changed once JavaScript has been told. Until retry() is called, nothing is submitted.
constexpr size_t kQueued = 0;
constexpr size_t kRetryWanted = 1;

// The state of a pump, as float64 words. C++ writes it while the pump runs, except `kPumpStop`, which JavaScript sets.
constexpr size_t kPumpMoved = 0;         // the bytes from the beginning on, without a gap, that every destination has
constexpr size_t kPumpStop = 1;          // not 0: the pump begins no more reads
constexpr size_t kPumpFailedLeg = 2;     // -1: nothing failed; 0: a read failed; from 1: a write to this destination failed
constexpr size_t kPumpFailedAt = 3;      // where the chunk that did not move in full begins, from the beginning of the range
constexpr size_t kPumpFailedResult = 4;  // the result of its transfer: a count that is too small, or a negative errno
// Then, for each leg with the source first: transfers that have ended, the bytes that they moved, transfers in flight.
constexpr size_t kPumpLegs = 5;
constexpr size_t kPumpLegWords = 3;

}  // namespace p2pdma
