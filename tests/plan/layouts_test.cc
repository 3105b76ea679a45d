// The search over layouts: what it tries, that the best fits, and what it says where nothing does.
#include "launch/plan/layouts.h"

#include <algorithm>
#include <ctime>

#include "launch/plan/plan.h"
#include "tests/plan/plan_case.h"

namespace witan::test {
namespace {

configs::MachineConfig nodes(int ranks, double memory) {
  configs::MachineConfig config = machine(
      "name: 'm' ranks_per_node: 8 f32_tflops: 67 bf16_tflops: 989 memory_bandwidth: 3000 memory: 1"
      " intra_node { bandwidth: 360 } inter_node { bandwidth: 45 } bf16_activation_bytes: 2");
  config.set_ranks(ranks);
  config.set_memory(memory);
  return config;
}

configs::RunConfig mixtral(int batch) {
  return planned_run(kMixtral8x7B,
                     "data { seq_len: 4096 } runtime { precision: BF16 }"
                     "train { global_batch: " +
                         std::to_string(batch) + " }");
}

TEST(Layouts, TriesEveryOneAndSorts) {
  const PlanSubject subject(mixtral(64), 2);
  const LayoutSearch search = search_layouts(subject, nodes(16, 1e6), 1.0);
  // EP 1, 2, 4, 8; micro-batches 1, 2, 4; four levels.
  EXPECT_EQ(search.tried, 4 * 3 * 4);
  EXPECT_EQ(search.fitting.size(), 48U);
  EXPECT_FALSE(search.need);
  for (std::size_t i = 0; i + 1 < search.fitting.size(); ++i) {
    EXPECT_LE(search.fitting[i].time.seconds, search.fitting[i + 1].time.seconds);
  }
  for (const PlannedLayout& planned : search.fitting) {
    EXPECT_EQ(planned.layout.micro_batch * planned.layout.micro_batches * 16, 64);
    const StepTime again = plan_step_time(subject, planned.layout, nodes(16, 1e6), 1.0);
    EXPECT_EQ(again.seconds, planned.time.seconds);
  }
}

TEST(Layouts, OnlyWhatFits) {
  const PlanSubject subject(mixtral(128), 2);
  const configs::MachineConfig small = nodes(64, 100.0);
  const LayoutSearch search = search_layouts(subject, small, 1.0);
  ASSERT_FALSE(search.fitting.empty());
  EXPECT_LT(static_cast<std::int64_t>(search.fitting.size()), search.tried);
  for (const PlannedLayout& planned : search.fitting) {
    EXPECT_LE(planned.memory.total(), 100'000'000'000);
    EXPECT_GT(planned.layout.expert_parallel, 1) << "all experts do not fit on one rank";
  }
}

TEST(Layouts, WhatWouldBeNeeded) {
  const PlanSubject subject(mixtral(8), 2);
  const LayoutSearch search = search_layouts(subject, nodes(8, 100.0), 1.0);
  EXPECT_TRUE(search.fitting.empty());
  ASSERT_TRUE(search.need);
  EXPECT_GT(search.need->least.memory.total(), 100'000'000'000);
  EXPECT_EQ(search.need->least.layout.recompute, Recompute::kLayer);
  EXPECT_EQ(search.need->least.layout.expert_parallel, 8);
  ASSERT_TRUE(search.need->fits) << "with more ranks the optimizer's state is shared by more";
  EXPECT_GT(search.need->fits->ranks, 8);
  EXPECT_TRUE(fits(plan_memory(subject, *search.need->fits, 1.0), nodes(8, 100.0)));

  const LayoutSearch never = search_layouts(subject, nodes(8, 10.0), 1.0);
  ASSERT_TRUE(never.need);
  EXPECT_FALSE(never.need->fits) << "weights and gradients of the dense tensors alone are more";
  const std::string text = plan_text(make_plan(mixtral(8), nodes(8, 10.0), 8, 1.0), 3);
  EXPECT_NE(text.find("DOES NOT FIT in 10.0 GB a rank"), std::string::npos) << text;
  EXPECT_NE(text.find("every rank holds all dense tensors"), std::string::npos) << text;
}

// A model of DeepSeek-V3's size on 2048 ranks.
TEST(Layouts, UnderASecond) {
  const configs::RunConfig run = planned_run(
      "vocab_size: 129280 d_model: 7168 layers: 61 ffn { d_ff: 18432 } attention { heads: 128 }"
      "moe { experts: 256 d_ff: 2048 shared_d_ff: 2048 pattern { first: 3 } router {"
      "  score: SIGMOID group_limited { k: 8 n_group: 8 topk_group: 4 } } }",
      "data { seq_len: 4096 } train { global_batch: 16384 } runtime { precision: BF16 }");
  const std::clock_t cpu = std::clock();
  const Plan plan = make_plan(run, nodes(2048, 192.0), 1, 1.2);
  const double seconds = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 1.0) << "of the processor, whatever else runs";
  EXPECT_GT(plan.search.tried, 100);
}

}  // namespace
}  // namespace witan::test
