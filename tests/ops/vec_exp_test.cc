// The vector exponential, at the level of this test's own compile flags; the others are covered by
// the ops that use them.
#define WITAN_ISA vec_exp_test
#include "core/ops/cpu/vec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace witan {
namespace {

namespace kernels = cpu::WITAN_ISA;

float exp_of(float x) { return kernels::exp(kernels::broadcast(x))[0]; }

TEST(VecExp, StaysWithinTwoUnitsInTheLastPlace) {
  double worst = 0.0;
  for (int i = -87'000; i <= 88'700; ++i) {
    const float x = static_cast<float>(i) * 1e-3F;
    const double exact = std::exp(static_cast<double>(x));
    const double unit = std::nextafter(static_cast<float>(exact), INFINITY) -
                        static_cast<double>(static_cast<float>(exact));
    worst = std::max(worst, std::abs(static_cast<double>(exp_of(x)) - exact) / unit);
  }
  EXPECT_LT(worst, 2.0);
}

TEST(VecExp, HandlesTheEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0.0F), 1.0F);
  EXPECT_EQ(exp_of(-infinity), 0.0F);
  EXPECT_EQ(exp_of(infinity), infinity);
  EXPECT_EQ(exp_of(-1e30F), 0.0F);
  EXPECT_EQ(exp_of(1e30F), infinity);
  EXPECT_EQ(exp_of(-104.0F), 0.0F);
  EXPECT_EQ(exp_of(88.73F), infinity);
  EXPECT_LT(exp_of(88.7228F), infinity);
  EXPECT_TRUE(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace witan
