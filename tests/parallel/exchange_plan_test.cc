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

// 3 tokens, top-3, 6 experts on 3 ranks.
constexpr std::int32_t kTokens[] = {4, 0, 1, 2, 5, 4, 1, 3, 0};

std::vector<std::int32_t> codes_of(const SlotCodes& sent) {
  std::vector<std::int32_t> codes;
  for (const SlotCode code : sent.codes) {
    codes.push_back(static_cast<std::int32_t>(10 * code.local_expert()) +
                    (code.begins_row() ? 1 : 0));
  }
  return codes;
}

TEST(ExchangePlanTest, OneRowForEachRankOfAToken) {
  Arena arena;
  ExchangePlan plan;
  begin_plan(view_of(kTokens, {3, 3}), plan);
  SlotCodes sent;
  plan_send(kTokens, 6, 3, RowsPer::kRank, 0, arena, sent, plan);
  EXPECT_EQ(plan.rows_to, (Ints{2, 2, 2}));
  EXPECT_EQ(plan.slots_to, (Ints{4, 2, 3}));
  EXPECT_EQ(values(plan.token_of_sent_row), (Indices{0, 2, 1, 2, 0, 1}));
  EXPECT_EQ(values(plan.choice_of_sent_slot), (Indices{1, 2, 6, 8, 3, 7, 0, 4, 5}));
  EXPECT_EQ(codes_of(sent), (Indices{1, 10, 11, 0, 1, 11, 1, 11, 0}));
  // Ranks ascending, also where the choices came in another order.
  EXPECT_EQ(values(plan.sent_rows_of_token_begin), (Indices{0, 2, 4, 6}));
  EXPECT_EQ(values(plan.sent_rows_of_token), (Indices{0, 4, 2, 5, 1, 3}));
}

TEST(ExchangePlanTest, OneRowForEachChoice) {
  Arena arena;
  ExchangePlan plan;
  begin_plan(view_of(kTokens, {3, 3}), plan);
  SlotCodes sent;
  plan_send(kTokens, 6, 3, RowsPer::kChoice, 0, arena, sent, plan);
  EXPECT_EQ(plan.rows_to, (Ints{4, 2, 3}));
  EXPECT_EQ(plan.slots_to, plan.rows_to);
  EXPECT_EQ(values(plan.token_of_sent_row), (Indices{0, 0, 2, 2, 1, 2, 0, 1, 1}));
  EXPECT_EQ(codes_of(sent), (Indices{1, 11, 11, 1, 1, 11, 1, 11, 1}));
  EXPECT_EQ(values(plan.sent_rows_of_token_begin), (Indices{0, 3, 6, 9}));
  EXPECT_EQ(values(plan.sent_rows_of_token), (Indices{6, 0, 1, 4, 7, 8, 2, 5, 3}));
}

TEST(ExchangePlanTest, SlotsByExpertThenRow) {
  Arena arena;
  ExchangePlan plan;
  // Two rows of the first rank, none of the second, one of the third.
  const std::vector<SlotCode> codes = {SlotCode::of(2, true), SlotCode::of(0, false),
                                       SlotCode::of(0, true), SlotCode::of(0, true),
                                       SlotCode::of(2, false)};
  plan.rows_from = {2, 0, 1};
  plan.slots_from = {3, 0, 2};
  plan_receive(codes, 3, arena, plan);
  EXPECT_EQ(plan.rows, 3);
  EXPECT_EQ(plan.slots, 5);
  EXPECT_EQ(plan.expert_offsets, (Ints{0, 3, 3, 5}));
  EXPECT_EQ(values(plan.row_of_slot), (Indices{0, 1, 2, 0, 2}));
  EXPECT_EQ(values(plan.slots_of_row_begin), (Indices{0, 2, 3, 5}));
  EXPECT_EQ(values(plan.slots_of_row), (Indices{3, 0, 1, 2, 4}));
}

TEST(ExchangePlanTest, NoTokensAndNoRows) {
  Arena arena;
  ExchangePlan plan;
  begin_plan(view_of<std::int32_t>(nullptr, {0, 2}), plan);
  SlotCodes sent;
  plan_send({}, 6, 3, RowsPer::kRank, 0, arena, sent, plan);
  EXPECT_EQ(plan.rows_to, Ints(3, 0));
  EXPECT_EQ(values(plan.sent_rows_of_token_begin), Indices{0});
  plan.rows_from.assign(3, 0);
  plan.slots_from.assign(3, 0);
  plan_receive({}, 2, arena, plan);
  EXPECT_EQ(plan.rows, 0);
  EXPECT_EQ(plan.expert_offsets, Ints(3, 0));
  EXPECT_EQ(values(plan.slots_of_row_begin), Indices{0});
}

TEST(ExchangePlanTest, MistakesAreNamed) {
  Arena arena;
  ExchangePlan plan;
  const Indices indices = {0, 4};
  begin_plan(view_of(indices.data(), {2, 1}), plan);
  SlotCodes sent;
  try {
    plan_send(indices, 4, 2, RowsPer::kRank, 0, arena, sent, plan);
    FAIL() << "expert 4 of 4 was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("expert 4 is not one of the 4"), std::string::npos);
  }
  EXPECT_THROW(plan_send(indices, 5, 2, RowsPer::kRank, 0, arena, sent, plan), Error);
  const std::vector<std::int64_t> wide = {0, 1};
  EXPECT_THROW(begin_plan(view_of(wide.data(), {2, 1}), plan), Error);
  EXPECT_THROW(begin_plan(view_of(indices.data(), {2, 0}), plan), Error);
}

// What a rank says about its rows is not believed.
TEST(ExchangePlanTest, CodesThatDoNotFitAreRefused) {
  Arena arena;
  ExchangePlan plan;
  plan.rows_from = {1};
  plan.slots_from = {2};
  const auto receive = [&](const std::vector<SlotCode>& codes) {
    plan_receive(codes, 2, arena, plan);
  };
  receive({SlotCode::of(1, true), SlotCode::of(0, false)});
  EXPECT_THROW(receive({SlotCode::of(1, true)}), Error);
  EXPECT_THROW(receive({SlotCode::of(1, true), SlotCode::of(0, true)}), Error);
  EXPECT_THROW(receive({SlotCode::of(0, false), SlotCode::of(0, true)}), Error);
  EXPECT_THROW(receive({SlotCode::of(2, true), SlotCode::of(0, false)}), Error);
}

}  // namespace
}  // namespace witan
