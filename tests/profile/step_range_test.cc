// The argument of --profile.
#include "launch/profile/step_range.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"

namespace witan {
namespace {

TEST(StepRange, FirstAndLastAreBothIncluded) {
  const StepRange range = resolve(parse_step_range("10:20"), 0, 20);
  EXPECT_EQ(range.first, 10);
  EXPECT_EQ(range.last, 20);
  EXPECT_EQ(resolve(parse_step_range("7:7"), 6, 7).last, 7);
}

TEST(StepRange, ACountStartsBehindTheWarmUpOfThisProcess) {
  const StepRange range = resolve(parse_step_range("5"), 100, 1000);
  EXPECT_EQ(range.first, 104);
  EXPECT_EQ(range.last, 108);
}

TEST(StepRange, RefusesWhatIsNoRange) {
  for (const char* text : {"", ":", "0", "-3", "3:2", "0:4", "1:2:3", "a:b", "5 ", "1:", ":5",
                           "2.5", "99999999999999999999"}) {
    EXPECT_THROW(parse_step_range(text), UserError) << '"' << text << '"';
  }
}

TEST(StepRange, RefusesStepsThatTheRunDoesNotDo) {
  EXPECT_THROW(resolve(parse_step_range("10:20"), 10, 100), UserError) << "step 10 is over";
  EXPECT_THROW(resolve(parse_step_range("10:20"), 0, 19), UserError);
  EXPECT_THROW(resolve(parse_step_range("5"), 0, 7), UserError);
  EXPECT_EQ(resolve(parse_step_range("5"), 0, 8).last, 8);
}

}  // namespace
}  // namespace witan
