#include "launch/bench/phase_times.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace witan {
namespace {

void spend(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST(PhaseTimes, TimeBelongsToTheInnermostScope) {
  PhaseTimes times;
  for (int turn = 0; turn < 3; ++turn) {
    times.record([] {
      const ProfileScope outer("outer");
      spend(4);
      for (int i = 0; i < 2; ++i) {
        const ProfileScope inner("inner");
        spend(10);
      }
    });
  }
  const std::vector<PhaseTimes::Phase> phases = times.phases();
  ASSERT_EQ(phases.size(), 2U);
  EXPECT_EQ(phases[0].name, "inner");
  EXPECT_EQ(phases[1].name, "outer");
  EXPECT_EQ(phases[0].seconds.count, 3);
  EXPECT_NEAR(phases[0].share + phases[1].share, 1.0, 1e-12);
  EXPECT_GT(phases[0].share, 0.5);
  EXPECT_GE(phases[0].seconds.median, 0.020);
  EXPECT_GE(phases[1].seconds.median, 0.004);
  EXPECT_LT(phases[1].seconds.median, phases[0].seconds.median);
}

TEST(PhaseTimes, NothingIsRecordedOutside) {
  PhaseTimes times;
  times.record([] {});
  { const ProfileScope scope("outside"); }
  EXPECT_TRUE(times.phases().empty());
}

}  // namespace
}  // namespace witan
