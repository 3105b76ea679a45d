#include "parallel/watchdog.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace witan {
namespace {

TEST(WatchdogTest, LimitAndNoLimit) {
  EXPECT_FALSE(Watchdog(2.0).expired(1.9));
  EXPECT_TRUE(Watchdog(2.0).expired(2.1));
  EXPECT_FALSE(Watchdog(0.0).expired(1e9));
}

TEST(WatchdogTest, AShortenedWaitHoldsForAll) {
  shorten_waits(0.5);
  EXPECT_TRUE(Watchdog(0.0).expired(0.6));
  EXPECT_TRUE(Watchdog(300.0).expired(0.6));
  EXPECT_FALSE(Watchdog(300.0).expired(0.4));
  shorten_waits(std::numeric_limits<double>::infinity());
  EXPECT_FALSE(Watchdog(300.0).expired(0.6));
}

TEST(WatchdogTest, TheMessageNamesTheCall) {
  const std::vector<int> sends = {3, 0, 7};
  const std::vector<int> receives(40, 1);
  CollectiveCall call{
      .operation = "all_to_all_v", .communicator = "expert", .rank = 1, .size = 3, .sequence = 17};
  EXPECT_EQ(describe(call), "all_to_all_v on communicator 'expert' (rank 1 of 3, operation 17)");
  call.send_counts = sends;
  call.recv_counts = receives;
  EXPECT_EQ(describe(call),
            "all_to_all_v on communicator 'expert' (rank 1 of 3, operation 17, sends 3 0 7, "
            "receives 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 ...)");
}

TEST(WatchdogDeathTest, BarksAndEnds) {
  const Watchdog watchdog(1.0);
  EXPECT_EXIT(watchdog.bark({.operation = "barrier", .communicator = "world"}, 1.5),
              ::testing::ExitedWithCode(kWatchdogExitCode), "waited 1.5 s in barrier");
}

}  // namespace
}  // namespace witan
