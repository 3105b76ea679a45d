// The time model: by hand where one part decides, and how it answers to a machine and a layout.
// Against measured runs: tests/bench/plan_accuracy.py.
#include "launch/plan/step_time.h"

#include "configs/load_machine.h"
#include "tests/plan/plan_case.h"

namespace witan::test {
namespace {

constexpr const char* kRank =
    "name: 'm' memory: 80 f32_tflops: 1 memory_bandwidth: 1000 operation_us: 0 ";

configs::RunConfig mixtral(const std::string& more = "") {
  return planned_run(kMixtral8x7B,
                     "data { seq_len: 4096 } train { global_batch: 16 micro_batch: 1 } " + more);
}

StepTime time_of(const configs::RunConfig& run, const PlanLayout& layout, const std::string& text,
                 double imbalance = 1.0) {
  return plan_step_time(PlanSubject(run), layout, machine(kRank, text), imbalance);
}

PlanLayout ranks(int count, int expert_parallel, int per_node, std::int64_t micro_batches) {
  PlanLayout layout;
  layout.ranks = count;
  layout.ranks_per_node = per_node;
  layout.expert_parallel = expert_parallel;
  layout.micro_batches = micro_batches;
  return layout;
}

// With memory for nothing a step is arithmetic alone.
TEST(StepTime, ArithmeticByHand) {
  const std::string fast =
      "memory_bandwidth: 1e6 matrix_efficiency: 0.5 attention_efficiency: 0.25";
  const StepTime time = time_of(mixtral(), ranks(1, 1, 1, 16), fast);
  const Flops flops = count_flops(PlanSubject(mixtral()));
  const double tokens = 16.0 * 4096;
  const double matrices = 3.0 * (flops.forward() - flops.attention) * tokens / 0.5e12;
  const double attention = 3.5 * flops.attention * tokens / 0.25e12;
  EXPECT_NEAR(time.seconds, matrices + attention, 0.01 * time.seconds);
  EXPECT_NEAR(time.mfu, flops.training() * tokens / time.seconds / 1e12, 1e-9);
  EXPECT_NEAR(time.tokens_per_second, tokens / time.seconds, 1e-6);
  double sum = 0.0;
  for (const TimePart& part : time.parts) sum += part.seconds;
  EXPECT_NEAR(sum, time.seconds, 1e-9 * time.seconds);
}

TEST(StepTime, LatencyAndBandwidthOfTheExchangeByHand) {
  const std::string links =
      "ranks: 8 ranks_per_node: 4 intra_node { bandwidth: 10 latency_us: 0 }"
      "inter_node { bandwidth: 2 latency_us: 1000 }";
  const configs::RunConfig run = mixtral();
  const PlanLayout layout = ranks(8, 8, 4, 2);
  const StepTime time = time_of(run, layout, links);
  double near = 0.0, far = 0.0, messages = 0.0;
  for (const TrafficPart& part : plan_traffic(PlanSubject(run), layout)) {
    if (part.group != "expert") continue;
    near += part.near_bytes;
    far += part.far_bytes;
    messages += part.messages * part.far_bytes / part.bytes();
  }
  EXPECT_GT(near, 0.0);
  EXPECT_NEAR(time.of("dispatch and combine"), near / 10e9 + far / 2e9 + messages * 1e-3,
              1e-6 * time.of("dispatch and combine"));
  EXPECT_EQ(time_of(run, ranks(1, 1, 1, 16), "").of("dispatch and combine"), 0.0);
}

TEST(StepTime, AnswersToLayoutAndLoad) {
  const std::string links = "ranks: 8 ranks_per_node: 8 intra_node { bandwidth: 100 }";
  const configs::RunConfig run = mixtral();
  PlanLayout layout = ranks(8, 8, 8, 2);
  const StepTime even = time_of(run, layout, links);
  const StepTime uneven = time_of(run, layout, links, 1.5);
  EXPECT_GT(uneven.of("experts"), 1.4 * even.of("experts"));
  EXPECT_EQ(uneven.of("attention"), even.of("attention"));
  layout.recompute = Recompute::kLayer;
  const StepTime again = time_of(run, layout, links);
  EXPECT_NEAR(again.of("experts") / even.of("experts"), 4.0 / 3.0, 0.05);
  EXPECT_NEAR(again.of("dispatch and combine") / even.of("dispatch and combine"), 1.5, 0.01);
  EXPECT_LT(again.mfu, even.mfu) << "recomputed work does not count";
  // Replicas reduce the experts' gradients, expert-parallel ranks do not.
  EXPECT_GT(time_of(run, ranks(8, 1, 8, 2), links).of("gradient reduction"),
            5.0 * even.of("gradient reduction"));
}

// Rows travel while the shared expert works.
TEST(StepTime, SharedExpertHidesTheDispatch) {
  const std::string links = "ranks: 4 ranks_per_node: 4 intra_node { bandwidth: 100 }";
  const configs::RunConfig run =
      planned_run(kQwenMoe, "data { seq_len: 1024 } train { global_batch: 4 micro_batch: 1 }");
  const PlanLayout layout = ranks(4, 4, 4, 1);
  const StepTime time = time_of(run, layout, links);
  double all = 0.0, rest = 0.0;
  for (const TrafficPart& part : plan_traffic(PlanSubject(run), layout)) {
    if (part.group != "expert") continue;
    const double seconds = part.bytes() / 100e9 + part.messages * 5e-6;
    all += seconds;
    const bool behind = part.kind == "dispatch" || part.kind == "combine backward";
    if (!behind) rest += seconds;
  }
  EXPECT_GT(time.of("shared expert"), all);
  EXPECT_NEAR(time.of("dispatch and combine"), rest, 1e-9 * all);
}

}  // namespace
}  // namespace witan::test
