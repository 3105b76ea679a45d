// What an arena of a GPU leaves between its tensors: nothing. The stand-in for the CUDA runtime
// (tests/support/cuda_on_cpu) has functions of its own in place of these, to find a step out of a
// tensor into its neighbour and reads of what an earlier step left behind.
#pragma once

#include <cstddef>

namespace witan {

// Bytes behind every tensor.
std::size_t arena_guard_bytes() noexcept;

// A tensor of `bytes` at `data` is handed out, in `reserved` bytes of its arena.
void arena_hands_out(void* data, std::size_t bytes, std::size_t reserved);

}  // namespace witan
