// Caches of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace witan {

// A level of the memory, and how much each thread reads so that it comes from there.
struct MemoryLevel {
  std::string name;  // "L2"
  std::int64_t bytes_per_thread = 0;
};

// Half of each core's own caches; the shared cache and memory with sizes well beyond the level
// before. `threads`: of all ranks of this machine.
std::vector<MemoryLevel> memory_levels(int threads);

}  // namespace witan
