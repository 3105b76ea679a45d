// Stretched rotary frequencies against the formulas as transformers computes them.
#include "core/ops/rope_scaling.h"

#include <gtest/gtest.h>

#include <cmath>

namespace witan::ops {
namespace {

using Kind = RopeScaling::Kind;

void expect_near(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i] / expected[i], 1.0, 2e-6) << i;  // theirs are float32
  }
}

// transformers 5.23.0, ROPE_INIT_FUNCTIONS["yarn"] and ["llama3"], head_dim 16.
TEST(RopeScaling, YarnAsTransformersComputesIt) {
  RopeScaling scaling;
  scaling.kind = Kind::kYarn;
  scaling.factor = 40.0;
  scaling.original_length = 4096.0;
  expect_near(rope_frequencies(10000.0, 16, scaling),
              {1.0, 0.316227764, 0.100000001, 0.0239147246, 0.00512499968, 0.000849862176,
               2.49999994e-05, 7.90569447e-06});
  scaling.factor = 4.0;
  scaling.original_length = 32.0;
  scaling.fast = 8.0;
  scaling.slow = 0.5;
  scaling.truncate = false;
  expect_near(rope_frequencies(500.0, 16, scaling),
              {1.0, 0.344428301, 0.105305612, 0.0243123118, 0.0111803403, 0.00514142821,
               0.00236435398, 0.00108727964});
}

TEST(RopeScaling, Llama3AsTransformersComputesIt) {
  RopeScaling scaling;
  scaling.kind = Kind::kLlama3;
  scaling.factor = 8.0;
  scaling.original_length = 8192.0;
  scaling.fast = 4.0;
  scaling.slow = 1.0;
  expect_near(rope_frequencies(500000.0, 16, scaling),
              {1.0, 0.193922758, 0.0376060307, 0.00729266508, 0.000524846022, 3.42810235e-05,
               6.64786967e-06, 1.28917316e-06});
}

TEST(RopeScaling, LinearDividesAndNoneDoesNot) {
  RopeScaling scaling;
  const std::vector<double> plain = rope_frequencies(100.0, 4, scaling);
  expect_near(plain, {1.0, 0.1});
  scaling.kind = Kind::kLinear;
  scaling.factor = 8.0;
  expect_near(rope_frequencies(100.0, 4, scaling), {0.125, 0.0125});
}

TEST(RopeScaling, MscaleGrowsWithTheFactorOnly) {
  EXPECT_EQ(yarn_mscale(0.5, 2.0), 1.0);
  EXPECT_DOUBLE_EQ(yarn_mscale(40.0, 1.0), 0.1 * std::log(40.0) + 1.0);
}

}  // namespace
}  // namespace witan::ops
