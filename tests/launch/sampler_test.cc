#include "launch/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

namespace witan {
namespace {

// softmax: 0.4, 0.2, 0.3, 0.1
const std::vector<double> kLogits = {std::log(4.0), std::log(2.0), std::log(3.0), 0.0};

// Share of the unit interval that leads to each token.
std::map<std::int32_t, double> shares(const SamplingOptions& options,
                                      const std::vector<double>& logits = kLogits) {
  constexpr int kSteps = 10000;
  Sampler sampler(options);
  std::map<std::int32_t, double> result;
  for (int i = 0; i < kSteps; ++i) result[sampler(logits, (i + 0.5) / kSteps)] += 1.0 / kSteps;
  return result;
}

TEST(SamplerTest, FollowsTheSoftmax) {
  const auto found = shares({});
  EXPECT_NEAR(found.at(0), 0.4, 1e-9);
  EXPECT_NEAR(found.at(1), 0.2, 1e-9);
  EXPECT_NEAR(found.at(2), 0.3, 1e-9);
  EXPECT_NEAR(found.at(3), 0.1, 1e-9);
}

TEST(SamplerTest, TemperatureDividesTheLogits) {
  SamplingOptions options;
  options.temperature = 0.5;  // squares: 16, 4, 9, 1
  const auto found = shares(options);
  EXPECT_NEAR(found.at(0), 16.0 / 30, 2e-4);
  EXPECT_NEAR(found.at(3), 1.0 / 30, 2e-4);
}

TEST(SamplerTest, TopKKeepsTheLikelyOnes) {
  SamplingOptions options;
  options.top_k = 2;
  const auto found = shares(options);
  EXPECT_EQ(found.size(), 2U);
  EXPECT_NEAR(found.at(0), 4.0 / 7, 2e-4);
  EXPECT_NEAR(found.at(2), 3.0 / 7, 2e-4);
}

TEST(SamplerTest, TopPKeepsTheFewestThatReachIt) {
  SamplingOptions options;
  options.top_p = 0.69;
  EXPECT_EQ(shares(options).size(), 2U);  // 0.4 + 0.3
  options.top_p = 0.71;
  EXPECT_EQ(shares(options).size(), 3U);
  options.top_p = 1e-6;
  EXPECT_EQ(shares(options).size(), 1U);
  options.top_p = 0.5;
  options.top_k = 1;
  EXPECT_EQ(shares(options).size(), 1U);
}

TEST(SamplerTest, TiesGoToTheLowerId) {
  SamplingOptions options;
  options.greedy = true;
  EXPECT_EQ(Sampler(options)(std::vector<double>{1.0, 3.0, 3.0}, 0.9), 1);
  options.greedy = false;
  options.top_k = 1;
  EXPECT_EQ(Sampler(options)(std::vector<double>{1.0, 3.0, 3.0}, 0.9), 1);
}

TEST(SamplerTest, LargeLogitsDoNotOverflow) {
  const auto found = shares({}, {1e4, 1e4, -1e4});
  EXPECT_NEAR(found.at(0), 0.5, 1e-9);
  EXPECT_EQ(found.count(2), 0U);
}

}  // namespace
}  // namespace witan
