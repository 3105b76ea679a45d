#include "launch/profile/clock_offset.h"

#include <algorithm>
#include <limits>

namespace witan {
namespace {
constexpr int kRounds = 50;
}  // namespace

ClockOffset align_clocks(Communicator& world, std::int64_t (*clock)()) {
  std::int64_t low = std::numeric_limits<std::int64_t>::min();
  std::int64_t high = std::numeric_limits<std::int64_t>::max();
  for (int round = 0; round < kRounds; ++round) {
    world.barrier();  // so that all come to the measured one at about the same time
    const std::int64_t entered = clock();
    world.barrier();
    const std::int64_t left = clock();
    std::int64_t leader[2] = {entered, left};  // rank 0's
    world.broadcast(view_of(leader, {2}), 0).wait();
    low = std::max(low, entered - leader[1]);
    high = std::min(high, left - leader[0]);
  }
  ClockOffset result;
  result.uncertainty_ns = (high - low) / 2;
  if (low > 0 || high < 0) result.offset_ns = low + result.uncertainty_ns;
  return result;
}

}  // namespace witan
