// What one scope costs, off and on. Run by hand (docs/benchmarks.md).
#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "core/base/profile.h"

namespace {

constexpr int kScopes = 1 << 20;
constexpr int kRounds = 15;

double ns_per_scope() {
  const std::int64_t begin = witan::profile_clock_ns();
  for (int i = 0; i < kScopes; ++i) {
    const witan::ProfileScope scope("bench");
    asm volatile("" ::: "memory");  // or an empty loop is all that remains
  }
  return static_cast<double>(witan::profile_clock_ns() - begin) / kScopes;
}

double median(std::array<double, kRounds> values) {
  std::nth_element(values.begin(), values.begin() + kRounds / 2, values.end());
  return values[kRounds / 2];
}

}  // namespace

int main() {
  std::array<double, kRounds> off{}, on{};
  for (int round = 0; round < kRounds; ++round) {
    off[static_cast<std::size_t>(round)] = ns_per_scope();
    witan::start_profiling(1 << 16);
    on[static_cast<std::size_t>(round)] = ns_per_scope();
    witan::stop_profiling();
  }
  std::printf("one scope: %.2f ns off, %.1f ns on (medians of %d rounds)\n", median(off),
              median(on), kRounds);
}
