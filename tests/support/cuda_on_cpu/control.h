// What tests ask of the stand-in besides CUDA's own API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace witan::cuda_on_cpu {

// The order of blocks, of the threads between two barriers, and of streams. Every order is one that
// a GPU may take, so results must not depend on it.
void set_seed(std::uint64_t seed);

// What was found since the last call. A fault also makes every later call of the runtime fail, as
// an error of a kernel does on a GPU, until it is taken.
std::vector<std::string> take_faults();

std::size_t live_allocations();

// Off at the start. On: arenas leave a red zone behind every tensor, and what they hand out is
// filled again with the pattern of fresh memory, each time after everything enqueued has run. Only
// for arenas that are empty when it changes.
void set_arena_guards(bool on);

// 1 at the start; 0 behaves like a machine without a driver.
void set_device_count(int count);

}  // namespace witan::cuda_on_cpu
