#include "launch/bench/spread.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace witan {
namespace {

TEST(Spread, MedianAndQuartilesOfAnyOrder) {
  const Spread odd = spread_of({5.0, 1.0, 4.0, 2.0, 3.0});
  EXPECT_DOUBLE_EQ(odd.low, 2.0);
  EXPECT_DOUBLE_EQ(odd.median, 3.0);
  EXPECT_DOUBLE_EQ(odd.high, 4.0);
  EXPECT_EQ(odd.count, 5);
  const Spread even = spread_of({4.0, 1.0, 3.0, 2.0});
  EXPECT_DOUBLE_EQ(even.low, 1.75);
  EXPECT_DOUBLE_EQ(even.median, 2.5);
  EXPECT_DOUBLE_EQ(even.high, 3.25);
}

TEST(Spread, OfOneSampleAndOfNone) {
  const Spread one = spread_of({7.0});
  EXPECT_DOUBLE_EQ(one.low, 7.0);
  EXPECT_DOUBLE_EQ(one.median, 7.0);
  EXPECT_DOUBLE_EQ(one.high, 7.0);
  EXPECT_THROW(spread_of({}), Error);
}

}  // namespace
}  // namespace witan
