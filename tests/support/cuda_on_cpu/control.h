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

// How often the host has waited for a stream or an event, copies to pageable memory included. Not
// counted: looking at an event, growing and freeing memory.
std::uint64_t host_waits();

// Off at the start. On: arenas leave a red zone behind every tensor, and what they hand out is
// filled again with the pattern of fresh memory, each time after everything enqueued has run. Only
// for arenas that are empty when it changes.
void set_arena_guards(bool on);

// 1 at the start, or what the environment variable WITAN_STAND_IN_GPUS says; 0 behaves like a
// machine without a driver, or with `driver_version` (12040: 12.4) like one whose driver is too
// old.
void set_device_count(int count, int driver_version = 0);

// Memory of the GPUs, and what the host lets be pinned. At the start what the environment variables
// WITAN_STAND_IN_GPU_MEMORY (a list by number, the last for all that follow) and
// WITAN_STAND_IN_PINNED_MEMORY say, else 256 MiB a GPU and no limit.
void set_device_memory(std::size_t bytes);
void set_pinned_memory(std::size_t bytes);
std::size_t pinned_memory_in_use();

}  // namespace witan::cuda_on_cpu
