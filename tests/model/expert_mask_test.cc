// Experts by token tag: the table, and what it makes of logits and of the expert bias.
#include "core/model/expert_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/balance/balancer.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

using Experts = std::vector<std::int32_t>;

std::string refusal(const std::string& list) {
  try {
    parse_experts(list, 6);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(ExpertMask, ListsOfExperts) {
  EXPECT_EQ(parse_experts("", 6), Experts{});
  EXPECT_EQ(parse_experts("3", 6), Experts{3});
  EXPECT_EQ(parse_experts("4-5,0-1, 1 , 3 - 3", 6), (Experts{0, 1, 3, 4, 5}));
  EXPECT_EQ(refusal("2-6"), "found \"2-6\"; the last expert is 5");
  for (const char* list : {"a", "1-", "-1", "3-2", "1,,2", "1,", ",1", "1 2", " ", "1;2"}) {
    EXPECT_EQ(refusal(list),
              "found \"" + std::string(list) + "\"; expected numbers and ranges like \"0-3,8\"");
  }
}

configs::MoeConfig moe_of(const std::string& allowed) {
  return model_config("moe { experts: 5 allowed_experts { " + allowed + " } }").moe();
}

TEST(ExpertMask, LogitsOfOtherExpertsAreMinusInfinity) {
  const ExpertMask mask(
      moe_of("tag { name: 'x' experts: '0' } tag { name: 'y' experts: '1-2' } open_to_all: '4'"));
  std::vector<std::int32_t> tags = {1, 0};
  std::vector<double> z(10, 1.0);
  Batch batch;
  batch.tags = view_of(tags.data(), {2});
  mask.apply({}, batch, view(z, {2, 5}));
  EXPECT_EQ(z, (std::vector<double>{-HUGE_VAL, 1, 1, -HUGE_VAL, 1, 1, -HUGE_VAL, -HUGE_VAL,
                                    -HUGE_VAL, 1}));
  EXPECT_EQ(experts_without_tag(moe_of("tag { name: 'x' experts: '0-2' } open_to_all: '4'")),
            Experts{3});
  EXPECT_TRUE(experts_without_tag(configs::MoeConfig()).empty());
  EXPECT_THROW(mask.apply({}, Batch{}, view(z, {2, 5})), Error) << "the tags are missing";
}

// Experts 0 and 1 are those of the common tag, 2 and 3 of the rare one, 4 is open to both. With the
// mean of all as its aim every expert of the common tag would fall for ever.
TEST(ExpertMask, BiasesMoveTowardsTheEvenShareOfTheTags) {
  const ExpertMask mask(
      moe_of("tag { name: 'x' experts: '0-1' } tag { name: 'y' experts: '2-3' } open_to_all: '4'"));
  const std::vector<std::int64_t> counts = {50, 30, 0, 0, 10, 0, 0, 2, 4, 3};
  EXPECT_EQ(mask.even_counts(counts), (std::vector<double>{30, 30, 3, 3, 33}));
  std::vector<double> bias(5, 0.0);
  update_expert_bias({}, 1.0, counts, mask, view(bias, {5}));
  EXPECT_EQ(bias, (std::vector<double>{-1, 0, 1, -1, 1}));
  configs::ExpertBias proportional;
  proportional.set_move(configs::ExpertBias::PROPORTIONAL);
  bias.assign(5, 0.0);
  update_expert_bias(proportional, 3.0, counts, mask, view(bias, {5}));
  EXPECT_NEAR(bias[0], -2.0, 1e-12);
  EXPECT_NEAR(bias[2], 1.0, 1e-12);
  EXPECT_NEAR(bias[4], 3.0 * 20 / 33, 1e-12);
  bias.assign(5, 0.0);
  update_expert_bias({}, 1.0, std::vector<std::int64_t>(10, 0), mask, view(bias, {5}));
  EXPECT_EQ(bias, std::vector<double>(5, 0.0)) << "nothing was routed";
}

}  // namespace
}  // namespace witan::test
