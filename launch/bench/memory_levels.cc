#include "launch/bench/memory_levels.h"

#include <unistd.h>

#include <algorithm>

namespace witan {
namespace {

constexpr std::int64_t kMegabyte = 1 << 20;

std::int64_t cache_bytes(int name, std::int64_t if_unknown) {
  const std::int64_t bytes = sysconf(name);
  return bytes > 0 ? bytes : if_unknown;
}

}  // namespace

std::vector<MemoryLevel> memory_levels(int threads) {
  const std::int64_t l1 = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 * 1024);
  const std::int64_t l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, kMegabyte);
  const std::int64_t l3 = cache_bytes(_SC_LEVEL3_CACHE_SIZE, 0);
  std::vector<MemoryLevel> levels = {{"L1", l1 / 2}, {"L2", l2 / 2}};
  // All of a virtual machine's processor may be named as its L3: stay small, but beyond L2.
  const std::int64_t in_l3 = std::min(8 * l2, l3 / 2 / threads);
  if (in_l3 > 2 * l2) levels.push_back({"L3", in_l3});
  const std::int64_t in_memory = std::clamp(2 * l3, 256 * kMegabyte, 1024 * kMegabyte);
  levels.push_back({"memory", in_memory / threads});
  return levels;
}

}  // namespace witan
