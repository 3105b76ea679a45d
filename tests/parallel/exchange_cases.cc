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
  plan_receive(example.rank_major_counts, example.ranks, arena, plan);
  const auto* arrival = plan.arrival_of_row.as<std::int32_t>();
  EXPECT_EQ(std::vector<std::int32_t>(arrival, arrival + plan.received), example.permuted_indices);
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
    begin_plan(view_of(indices.data(), {static_cast<std::int64_t>(indices.size()), 1}), arena,
               plan);
    std::vector<std::int64_t> counts(ranks);
    plan_send(indices, static_cast<std::int64_t>(ranks), static_cast<int>(ranks), counts, plan);
    EXPECT_EQ(plan.send_counts, example.send_sizes[rank]);

    std::vector<std::int64_t> column;
    for (const auto& row : example.sizes_src_by_dst) column.push_back(row[rank]);
    plan_receive(column, static_cast<int>(ranks), arena, plan);
    EXPECT_EQ(plan.recv_counts, example.recv_sizes[rank]);

    // Rows lie by peer on both sides.
    std::int64_t send_begin = 0;
    std::int64_t recv_begin = 0;
    for (std::size_t peer = 0; peer < ranks; ++peer) {
      EXPECT_EQ(send_begin, example.input_offsets[rank][peer]);
      EXPECT_EQ(recv_begin, example.output_offsets[peer][rank]);
      send_begin += plan.send_counts[peer];
      recv_begin += plan.recv_counts[peer];
    }
  }
}

}  // namespace witan
