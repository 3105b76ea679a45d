// Who finds a place at an expert: published cases, small examples, and what must hold always.
#include "core/model/capacity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/model/balance_golden.h"
#include "tests/model/capacity_golden.h"

namespace witan::test {
namespace {

constexpr std::int32_t kNone = ops::kNoChoice;

TEST(Capacity, DeepSpeedsCases) {
  check_deepspeed_topk(
      read_json(std::string(WITAN_SOURCE_DIR) + "/tests/model/fixtures/deepspeed_topk.json"));
}

TEST(Capacity, PoliciesDifferInWhoComesFirst) {
  // Every token prefers expert 0, then 1; one place each (4 pairs over 2 experts, factor 1/2).
  const std::vector<double> s = {0.6, 0.4, 0.8, 0.2};
  const auto with = [&](const std::string& policy) {
    return kept_choices("factor: 0.5 policy: " + policy, 2, 2, s);
  };
  using Choices = std::vector<std::int32_t>;
  EXPECT_EQ(with("TOKEN_MAJOR"), (Choices{0, 1, kNone, kNone}));
  EXPECT_EQ(with("CHOICE_MAJOR"), (Choices{0, 1, kNone, kNone}));
  EXPECT_EQ(with("PROBABILITY"), (Choices{kNone, 1, 0, kNone}));
  EXPECT_EQ(with("BATCH_PRIORITY"), (Choices{kNone, kNone, 0, 1}));
  // A second choice of the first token against the first choice of the second one.
  EXPECT_EQ(kept_choices("factor: 0.5 policy: TOKEN_MAJOR", 2, 2, {0.6, 0.4, 0.2, 0.8}),
            (Choices{0, 1, kNone, kNone}));
  EXPECT_EQ(kept_choices("factor: 0.5 policy: CHOICE_MAJOR", 2, 2, {0.6, 0.4, 0.2, 0.8}),
            (Choices{0, kNone, 1, kNone}));
}

TEST(Capacity, IsNeverExceededAndUsedUp) {
  for (const char* policy : {"TOKEN_MAJOR", "CHOICE_MAJOR", "PROBABILITY", "BATCH_PRIORITY"}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      constexpr std::int64_t kTokens = 40, kExperts = 7, kTopK = 3, kPlaces = 9;
      std::vector<double> s = normal_values(kTokens * kExperts, seed);
      for (double& x : s) x = std::exp(x);
      const std::string field = std::string("min_capacity: 9 factor: 0.01 policy: ") + policy;
      const std::vector<std::int32_t> out = kept_choices(field, kExperts, kTopK, s);
      const std::vector<std::int32_t> all = kept_choices("factor: 1000", kExperts, kTopK, s);
      for (std::int32_t e = 0; e < kExperts; ++e) {
        const auto wanted = std::count(all.begin(), all.end(), e);
        EXPECT_EQ(std::count(out.begin(), out.end(), e), std::min<std::int64_t>(wanted, kPlaces))
            << policy << ", expert " << e;
      }
      for (std::size_t i = 0; i < out.size(); ++i) {
        EXPECT_TRUE(out[i] == kNone || out[i] == all[i]);
      }
    }
  }
}

TEST(Capacity, PlacesAreAsDefined) {
  const auto places = [](const std::string& fields, std::int64_t tokens, bool training) {
    configs::MoeConfig config;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "experts: 8 capacity { " + fields + " }", &config));
    const Capacity capacity(config, 2);
    return capacity.limits(training) ? capacity.places(tokens, training) : -1;
  };
  EXPECT_EQ(places("factor: 1", 16, true), 4);
  EXPECT_EQ(places("factor: 1.25", 16, true), 5);
  EXPECT_EQ(places("factor: 1", 17, true), 5);
  EXPECT_EQ(places("factor: 0.1 min_capacity: 3", 16, true), 3);
  EXPECT_EQ(places("factor: 1", 16, false), -1) << "no limit in evaluation";
  EXPECT_EQ(places("factor: 1 evaluation_factor: 2", 16, false), 8);
}

}  // namespace
}  // namespace witan::test
