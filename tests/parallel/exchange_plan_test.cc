// The arithmetic of an exchange against numbers of torchtitan and MaxText, and its own laws.
#include "core/model/exchange_plan.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/parallel/exchange_cases.h"

namespace witan {
namespace {

using Ints = std::vector<std::int64_t>;
using Indices = std::vector<std::int32_t>;

Indices values(const TensorView& view) {
  return {view.as<std::int32_t>(), view.as<std::int32_t>() + view.size()};
}

TEST(ExchangePlanTest, ReceiverOrderIsTorchtitans) {
  for (const PermuteCase& example : kTorchtitanPermute) check_permute_case(example);
}

TEST(ExchangePlanTest, OffsetsAreMaxTexts) { check_all_to_all_case(kMaxTextAllToAll); }

TEST(ExchangePlanTest, SlotsByExpertThenTokenThenChoice) {
  Arena arena;
  ExchangePlan plan;
  // 3 tokens, top-2, 4 experts on 2 ranks.
  const Indices indices = {2, 0, 0, 3, 2, 1};
  begin_plan(view_of(indices.data(), {3, 2}), arena, plan);
  Ints counts(4);
  plan_send(indices, 4, 2, counts, plan);
  EXPECT_EQ(counts, (Ints{2, 1, 2, 1}));
  EXPECT_EQ(plan.send_counts, (Ints{3, 3}));
  EXPECT_EQ(values(plan.choice_of_slot), (Indices{1, 2, 5, 0, 4, 3}));
  EXPECT_EQ(values(plan.token_of_slot), (Indices{0, 1, 2, 0, 2, 1}));
  EXPECT_EQ(values(plan.slot_of_choice), (Indices{3, 0, 1, 5, 4, 2}));
}

TEST(ExchangePlanTest, NoTokensAndNoRows) {
  Arena arena;
  ExchangePlan plan;
  begin_plan(view_of<std::int32_t>(nullptr, {0, 2}), arena, plan);
  Ints counts(6, -1);
  plan_send({}, 6, 3, counts, plan);
  EXPECT_EQ(counts, Ints(6, 0));
  EXPECT_EQ(plan.send_counts, Ints(3, 0));
  plan_receive(Ints(6, 0), 3, arena, plan);
  EXPECT_EQ(plan.received, 0);
  EXPECT_EQ(plan.recv_counts, Ints(3, 0));
  EXPECT_EQ(plan.expert_offsets, Ints(3, 0));
}

TEST(ExchangePlanTest, MistakesAreNamed) {
  Arena arena;
  ExchangePlan plan;
  const Indices indices = {0, 4};
  begin_plan(view_of(indices.data(), {2, 1}), arena, plan);
  Ints counts(4);
  try {
    plan_send(indices, 4, 2, counts, plan);
    FAIL() << "expert 4 of 4 was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("expert 4 is not one of the 4"), std::string::npos);
  }
  EXPECT_THROW(plan_send(indices, 5, 2, counts, plan), Error);
  const std::vector<std::int64_t> wide = {0, 1};
  EXPECT_THROW(begin_plan(view_of(wide.data(), {2, 1}), arena, plan), Error);
}

}  // namespace
}  // namespace witan
