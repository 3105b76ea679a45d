#include "tests/parallel/exchange_cases.h"

#include <gtest/gtest.h>

#include "core/model/exchange_plan.h"

namespace witan {

const std::vector<PermuteCase> kTorchtitanPermute = {
    {2, {2, 3, 1, 4}, {0, 1, 5, 2, 3, 4, 6, 7, 8, 9}, {3, 7}},
    {2, {0, 3, 2, 0}, {3, 4, 0, 1, 2}, {2, 3}},
    {3, {2, 2, 2, 2, 2, 2}, {0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11}, {6, 6}},
    {1, {4, 2, 5}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {4, 2, 5}},
    {3, {3, 5, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {10}},
};

const AllToAllCase kMaxTextAllToAll = {
    {{1, 2, 0, 3}, {4, 0, 1, 2}, {0, 3, 2, 1}, {2, 1, 4, 0}},
    {{0, 1, 3, 3}, {0, 4, 4, 5}, {0, 0, 3, 5}, {0, 2, 3, 7}},
    {{1, 2, 0, 3}, {4, 0, 1, 2}, {0, 3, 2, 1}, {2, 1, 4, 0}},
    {{0, 0, 0, 0}, {1, 2, 0, 3}, {5, 2, 1, 5}, {5, 5, 3, 6}},
    {{1, 4, 0, 2}, {2, 0, 3, 1}, {0, 1, 2, 4}, {3, 2, 1, 0}},
};

void check_permute_case(const PermuteCase& example) {
  Arena arena;
  ExchangePlan plan;
  // Rows of one slot each, which every rank sends in the order of the experts.
  std::vector<SlotCode> codes;
  plan.rows_from.assign(static_cast<std::size_t>(example.ranks), 0);
  const auto experts = example.rank_major_counts.size() / plan.rows_from.size();
  for (std::size_t i = 0; i < example.rank_major_counts.size(); ++i) {
    codes.insert(codes.end(), static_cast<std::size_t>(example.rank_major_counts[i]),
                 SlotCode::of(static_cast<std::int64_t>(i % experts), true));
    plan.rows_from[i / experts] += example.rank_major_counts[i];
  }
  plan.slots_from = plan.rows_from;
  plan_receive(codes, static_cast<std::int64_t>(experts), arena, plan);
  const auto* row = plan.row_of_slot.as<std::int32_t>();
  EXPECT_EQ(std::vector<std::int32_t>(row, row + plan.slots), example.permuted_indices);
  ASSERT_EQ(plan.expert_offsets.size(), example.tokens_per_expert.size() + 1);
  for (std::size_t expert = 0; expert < example.tokens_per_expert.size(); ++expert) {
    EXPECT_EQ(plan.expert_offsets[expert + 1] - plan.expert_offsets[expert],
              example.tokens_per_expert[expert]);
  }
}

void check_all_to_all_case(const AllToAllCase& example) {
  const std::size_t ranks = example.sizes_src_by_dst.size();
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    // Tokens of this rank, in an order that the plan has to undo: the last destination first.
    std::vector<std::int32_t> indices;
    for (std::size_t peer = ranks; peer-- > 0;) {
      indices.insert(indices.end(), static_cast<std::size_t>(example.sizes_src_by_dst[rank][peer]),
                     static_cast<std::int32_t>(peer));
    }
    Arena arena;
    ExchangePlan plan;
    begin_plan(view_of(indices.data(), {static_cast<std::int64_t>(indices.size()), 1}), plan);
    SlotCodes sent;
    plan_send(indices, static_cast<std::int64_t>(ranks), static_cast<int>(ranks), RowsPer::kRank, 0,
              arena, sent, plan);
    EXPECT_EQ(plan.rows_to, example.send_sizes[rank]);

    std::vector<SlotCode> codes;
    plan.rows_from.clear();
    for (const auto& row : example.sizes_src_by_dst) {
      plan.rows_from.push_back(row[rank]);
      codes.insert(codes.end(), static_cast<std::size_t>(row[rank]), SlotCode::of(0, true));
    }
    plan.slots_from = plan.rows_from;
    EXPECT_EQ(plan.rows_from, example.recv_sizes[rank]);
    plan_receive(codes, 1, arena, plan);
    EXPECT_EQ(plan.rows, static_cast<std::int64_t>(codes.size()));

    // Rows lie by peer on both sides.
    std::int64_t send_begin = 0;
    std::int64_t recv_begin = 0;
    for (std::size_t peer = 0; peer < ranks; ++peer) {
      EXPECT_EQ(send_begin, example.input_offsets[rank][peer]);
      EXPECT_EQ(recv_begin, example.output_offsets[peer][rank]);
      send_begin += plan.rows_to[peer];
      recv_begin += plan.rows_from[peer];
    }
  }
}

}  // namespace witan
