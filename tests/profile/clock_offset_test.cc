// Clocks that differ by a known amount are aligned within what the result claims.
#include "launch/profile/clock_offset.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "parallel/mpi_environment.h"

namespace witan {
namespace {

constexpr double kWatchdogSeconds = 60.0;
std::int64_t ahead_ns = 0;

std::int64_t shifted_clock() { return profile_clock_ns() + ahead_ns; }

TEST(ClockOffset, FindsTheShiftOfEachRank) {
  const MpiEnvironment mpi(nullptr, nullptr);
  const auto world = mpi.world(kWatchdogSeconds);
  for (const std::int64_t second : {std::int64_t{1'000'000'000}, std::int64_t{-3'000'000'000}}) {
    ahead_ns = world->rank() * second;
    const ClockOffset found = align_clocks(*world, shifted_clock);
    EXPECT_LE(std::abs(found.offset_ns - ahead_ns), found.uncertainty_ns);
    EXPECT_LT(found.uncertainty_ns, 100'000'000) << "of no use";
  }
}

TEST(ClockOffset, OneClockForANodeStaysOne) {
  const MpiEnvironment mpi(nullptr, nullptr);
  const auto world = mpi.world(kWatchdogSeconds);
  EXPECT_EQ(align_clocks(*world).offset_ns, 0);
}

}  // namespace
}  // namespace witan
