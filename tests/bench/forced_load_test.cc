#include "launch/bench/forced_load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.h"
#include "core/tensor/tensor.h"

namespace witan {
namespace {

struct Case {
  ForcedLoad::Load load;
  std::int64_t tokens;
};

std::vector<std::int32_t> routed(ForcedLoad& hook, const Case& test) {
  std::vector<std::int32_t> indices(static_cast<std::size_t>(test.tokens * test.load.top_k), -1);
  hook.on_route(3, {}, view_of(indices.data(), {test.tokens, test.load.top_k}), test.load.experts);
  return indices;
}

class ForcedLoadTest : public testing::TestWithParam<Case> {};

TEST_P(ForcedLoadTest, EveryTokenHasDifferentExperts) {
  const Case test = GetParam();
  ForcedLoad hook(test.load, test.tokens, 5);
  const std::vector<std::int32_t> indices = routed(hook, test);
  for (std::int64_t t = 0; t < test.tokens; ++t) {
    const auto begin = indices.begin() + t * test.load.top_k;
    const std::set<std::int32_t> chosen(begin, begin + test.load.top_k);
    ASSERT_EQ(static_cast<std::int64_t>(chosen.size()), test.load.top_k) << "token " << t;
    ASSERT_GE(*chosen.begin(), 0);
    ASSERT_LT(*chosen.rbegin(), test.load.experts);
  }
}

TEST_P(ForcedLoadTest, TheLoadIsWhatWasAskedFor) {
  const Case test = GetParam();
  ForcedLoad hook(test.load, test.tokens, 5);
  std::vector<std::int64_t> counts(static_cast<std::size_t>(test.load.experts), 0);
  for (const std::int32_t expert : routed(hook, test)) ++counts[static_cast<std::size_t>(expert)];
  EXPECT_EQ(counts, hook.counts());
  const std::vector<double> shares = expert_shares(test.load);
  const auto choices = static_cast<double>(test.tokens * test.load.top_k);
  double sum = 0.0;
  for (std::size_t e = 0; e < counts.size(); ++e) {
    EXPECT_NEAR(static_cast<double>(counts[e]), shares[e] * choices, 1.0) << "expert " << e;
    sum += shares[e];
  }
  EXPECT_NEAR(sum, 1.0, 1e-12);
  const double mean = 1.0 / static_cast<double>(test.load.experts);
  EXPECT_NEAR(*std::max_element(shares.begin(), shares.end()) / mean - 1.0, test.load.max_vio,
              1e-9);
}

INSTANTIATE_TEST_SUITE_P(Loads, ForcedLoadTest,
                         testing::Values(Case{{8, 2}, 4096}, Case{{64, 8, 4.0}, 1024},
                                         Case{{64, 8, 4.0, 12}, 1024}, Case{{64, 2, 31.0}, 300},
                                         Case{{8, 2, 3.0}, 100}, Case{{8, 2, 1.0, 4}, 101},
                                         Case{{6, 1, 0.5}, 7}, Case{{8, 8}, 5}, Case{{8, 2}, 1},
                                         Case{{8, 2, 1.0}, 0}));

TEST(ForcedLoad, WhichExpertsMeetIsRandomAndDependsOnTheSeed) {
  const Case test{{8, 2}, 512};
  ForcedLoad a(test.load, test.tokens, 1);
  ForcedLoad b(test.load, test.tokens, 2);
  const std::vector<std::int32_t> first = routed(a, test);
  EXPECT_NE(first, routed(b, test));
  EXPECT_EQ(first, routed(a, test));
  std::set<std::pair<std::int32_t, std::int32_t>> pairs;
  for (std::size_t i = 0; i < first.size(); i += 2) {
    pairs.insert(std::minmax(first[i], first[i + 1]));
  }
  EXPECT_GT(pairs.size(), 12U) << "of 28 possible ones";
}

TEST(ForcedLoad, RefusesWhatCannotBe) {
  EXPECT_THROW(ForcedLoad({8, 2, 4.0}, 16, 1), UserError);       // more than every token
  EXPECT_THROW(ForcedLoad({64, 8, 4.0, 13}, 16, 1), UserError);  // more than all choices
  EXPECT_NO_THROW(ForcedLoad({8, 2, 3.0}, 16, 1));
}

TEST(ForcedLoad, RefusesAnotherShape) {
  ForcedLoad hook({8, 2}, 16, 1);
  const Tensor indices({15, 2}, DType::kInt32);
  EXPECT_THROW(hook.on_route(0, {}, indices, 8), Error);
  const Tensor right({16, 2}, DType::kInt32);
  EXPECT_THROW(hook.on_route(0, {}, right, 4), Error);
}

}  // namespace
}  // namespace witan
