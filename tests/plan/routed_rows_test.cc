// Expected rows of an exchange against random choices that are counted one by one.
#include "launch/plan/routed_rows.h"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "tests/plan/plan_case.h"

namespace witan::test {
namespace {

constexpr int kTokens = 40'000;

struct Routing {
  const char* router;
  int experts, pool_groups, groups;  // groups 0: experts are chosen among all
  int top_k;
};

// Share of tokens with an expert on the first of `ranks` ranks.
double simulated(const Routing& routing, int ranks) {
  std::mt19937_64 random(7);
  const int own = routing.experts / ranks;
  int hits = 0;
  for (int t = 0; t < kTokens; ++t) {
    std::vector<int> pool;
    const int groups = std::max(1, routing.groups);
    std::vector<int> order(static_cast<std::size_t>(groups));
    for (int g = 0; g < groups; ++g) order[static_cast<std::size_t>(g)] = g;
    std::shuffle(order.begin(), order.end(), random);
    order.resize(static_cast<std::size_t>(std::max(1, routing.pool_groups)));
    const int size = routing.experts / groups;
    for (const int group : order) {
      for (int e = 0; e < size; ++e) pool.push_back(group * size + e);
    }
    std::shuffle(pool.begin(), pool.end(), random);
    hits += std::any_of(pool.begin(), pool.begin() + routing.top_k,
                        [&](int expert) { return expert < own; })
                ? 1
                : 0;
  }
  return static_cast<double>(hits) / kTokens;
}

PlanSubject subject_of(const Routing& routing, const std::string& more = "") {
  return PlanSubject(planned_run(
      "vocab_size: 64 d_model: 8 layers: 1 attention { heads: 1 } moe { d_ff: 4 experts: " +
          std::to_string(routing.experts) + " router { " + routing.router + " } }",
      "data { seq_len: 100 } " + more));
}

constexpr Routing kRoutings[] = {{"top_k { k: 2 }", 8, 0, 0, 2},
                                 {"top_k { k: 1 }", 8, 0, 0, 1},
                                 {"top_k { k: 6 }", 8, 0, 0, 6},
                                 {"group_limited { k: 4 n_group: 8 topk_group: 4 }", 32, 4, 8, 4},
                                 {"group_limited { k: 5 n_group: 4 topk_group: 2 }", 16, 2, 4, 5}};

TEST(RoutedRows, ProbabilityOfARank) {
  for (const Routing& routing : kRoutings) {
    for (const int ranks : {1, 2, 4, 8}) {
      EXPECT_NEAR(rank_probability(subject_of(routing), ranks), simulated(routing, ranks), 0.01)
          << routing.router << " over " << ranks << " ranks";
    }
  }
}

TEST(RoutedRows, NearFarAndImbalance) {
  const PlanSubject subject = subject_of(kRoutings[0]);
  PlanLayout layout;
  layout.ranks = layout.expert_parallel = 8;
  layout.ranks_per_node = 4;
  const RoutedRows even = routed_rows(subject, layout, 1.0);
  // A rank has one expert of eight: a quarter of the tokens want it.
  EXPECT_EQ(even.tokens, 100);
  EXPECT_EQ(even.slots, 200);
  EXPECT_EQ(even.rows, 200);
  EXPECT_EQ(even.sent_near, 75);
  EXPECT_EQ(even.sent_far, 100);
  const RoutedRows uneven = routed_rows(subject, layout, 1.5);
  EXPECT_EQ(uneven.slots, 300);
  EXPECT_EQ(uneven.rows, 300);
  EXPECT_EQ(uneven.sent_near, 75) << "this rank's own tokens stay as many";
  // Nobody gets more than every token of every rank.
  EXPECT_EQ(routed_rows(subject, layout, 100.0).rows, 800);
}

TEST(RoutedRows, CapacityAndRowsPerChoice) {
  PlanLayout layout;
  layout.ranks = layout.ranks_per_node = layout.expert_parallel = 4;
  const PlanSubject capped = subject_of(kRoutings[0], "model { moe { capacity { factor: 1 } } }");
  EXPECT_EQ(routed_rows(capped, layout, 3.0).slots, 200);
  const PlanSubject choices =
      subject_of(kRoutings[0], "parallel { exchange { rows: PER_CHOICE } }");
  EXPECT_EQ(routed_rows(choices, layout, 1.0).rows, 200);
  EXPECT_EQ(routed_rows(choices, layout, 1.0).sent_near, 150);
}

}  // namespace
}  // namespace witan::test
