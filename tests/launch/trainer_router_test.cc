// One step with every registered router at 1 to 4 ranks, in every mesh, against the same step on
// one rank. A selection that looks at a whole micro-batch is compared with one rank that has the
// same micro-batches one after the other.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "core/model/check_model.h"
#include "core/model/router.h"
#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

constexpr double kTolerance = 1e-12;  // float64

// The router of an entry, with what it needs besides: scores, weights, balancing that it obeys.
std::string router_of(const RouterEntry& entry) {
  const bool expert_choice = entry.selection == configs::RouterConfig::kExpertChoice;
  const bool two_gates = entry.selection == configs::RouterConfig::kHierarchical;
  std::string example = entry.example;
  if (two_gates) {
    example = "hierarchical { k: 2 n_group: 2 topk_group: 1 }";
  }
  if (entry.selection == configs::RouterConfig::kTopP) example = "top_p { p: 0.6 k_max: 3 }";
  if (entry.selection == configs::RouterConfig::kGroupLimited) {
    example = "group_limited { k: 2 n_group: 2 topk_group: 1 }";  // divides 6 and 8 experts
  }
  return "model { moe { router { " + example + " input_jitter: 0.1 allow_non_causal: true score: " +
         (expert_choice ? "SOFTMAX weights: AS_IS"
          : two_gates   ? "SOFTMAX"
                        : "SQRT_SOFTPLUS") +
         " } } } runtime { precision: FLOAT64 } ";
}

// Each half of the experts belongs to the tokens of one dataset.
std::string experts_by_tag(const configs::RunConfig& run) {
  const std::int64_t experts = run.model().moe().experts();
  const std::string middle = std::to_string(experts / 2);
  return "model { moe { allowed_experts { tag { name: 'a' experts: '0-" +
         std::to_string(experts / 2 - 1) + "' } tag { name: 'b' experts: '" + middle + "-" +
         std::to_string(experts - 1) + "' } } } } ";
}

bool accepted(const configs::ModelConfig& model) {
  bool good = true;
  check_model(model, [&](const std::string&, const std::string&) { good = false; });
  return good;
}

TEST(TrainerRouters, EveryMeshGivesTheStepOfOneRank) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string balance =
      "balance { switch_aux { coefficient: 0.3 scope: SEQUENCE } }"
      "balance { z_loss { coefficient: 0.05 } }";
  const std::string per_rank =
      "train { micro_batch: " + std::to_string(kGlobalBatch / world().size()) + " } ";
  const std::string by_tag = experts_by_tag(run_config(corpus, ""));
  const std::string zero_computation =
      "model { moe { zero_computation { zero: 1 copy: 1 constant: 2 } } } ";
  int combinations = 0;
  for (const RouterEntry& entry : registered_routers()) {
    for (const std::string& tags : {std::string(), by_tag, zero_computation}) {
      const configs::RunConfig run = run_config(corpus, balance, router_of(entry) + tags);
      if (!accepted(run.model())) continue;
      const bool per_token = selects_causally(run.model().moe().router());
      Session whole(
          per_token ? run : run_config(corpus, balance, router_of(entry) + tags + per_rank), alone);
      const StepMetrics expected = whole.trainer().gradients(false);
      for (const int ep : expert_parallel_sizes(run)) {
        SCOPED_TRACE(std::string(entry.name) + ", EP " + std::to_string(ep) + " " + tags);
        const Mesh mesh = mesh_of(ep);
        Session part(run, mesh);
        expect_metrics_near(part.trainer().gradients(false), expected, kTolerance);
        expect_gradients_near(part, whole, kTolerance);
      }
      ++combinations;
    }
  }
  // Groups and zero-computation experts exclude each other.
  EXPECT_EQ(combinations, 3 * static_cast<int>(registered_routers().size()) - 2);
}

TEST(TrainerRouters, ExpertsByTagAtEveryMesh) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string balance =
      "balance { switch_aux { coefficient: 0.3 scope: GLOBAL_BATCH } }"
      "balance { expert_bias { rate: 0.02 } }";
  for (const char* selection : {"top_k { k: 2 }", "top_p { p: 0.6 k_max: 3 }"}) {
    std::string change = "runtime { precision: FLOAT64 } model { moe { router { " +
                         std::string(selection) + " } } } ";
    change += experts_by_tag(run_config(corpus, "", ""));
    const configs::RunConfig run = run_config(corpus, balance, change);
    Session whole(run, alone);
    StepMetrics expected;
    for (int step = 0; step < 3; ++step) expected = whole.trainer().step(false);
    const LayerMetrics& layer = expected.layers.front();
    const auto experts = static_cast<std::ptrdiff_t>(layer.counts.size());
    const auto none = [&](std::ptrdiff_t begin) {
      const auto first = layer.tag_counts.begin() + begin;
      return std::all_of(first, first + experts / 2, [](std::int64_t n) { return n == 0; });
    };
    EXPECT_TRUE(none(experts / 2)) << "tag a has the first half";
    EXPECT_TRUE(none(experts)) << "tag b has the second half";
    const std::string bias = "layers.1.moe.router.expert_bias";
    for (const int ep : expert_parallel_sizes(run)) {
      SCOPED_TRACE(std::string(selection) + ", EP " + std::to_string(ep));
      const Mesh mesh = mesh_of(ep);
      Session part(run, mesh);
      StepMetrics metrics;
      for (int step = 0; step < 3; ++step) metrics = part.trainer().step(false);
      expect_metrics_near(metrics, expected, 1e-9);
      expect_norm_near(bias, part.value(bias), whole.value(bias), kTolerance);
    }
  }
}

// A capacity is one of a rank's micro-batch.
TEST(TrainerRouters, CapacityDropsTheSameWithTheSamePartition) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string per_rank =
      "train { micro_batch: " + std::to_string(kGlobalBatch / world().size()) + " } ";
  for (const char* policy : {"TOKEN_MAJOR", "CHOICE_MAJOR", "PROBABILITY", "BATCH_PRIORITY"}) {
    const std::string change =
        std::string(
            "runtime { precision: FLOAT64 } model { moe { capacity { factor: 0.8 policy: ") +
        policy + " } } } ";
    Session whole(run_config(corpus, "", change + per_rank), alone);
    const StepMetrics expected = whole.trainer().gradients(false);
    EXPECT_GT(expected.layers.front().dropped, 0.0);
    for (const int ep : expert_parallel_sizes(whole.run())) {
      SCOPED_TRACE(std::string(policy) + ", EP " + std::to_string(ep));
      const Mesh mesh = mesh_of(ep);
      Session part(run_config(corpus, "", change), mesh);
      const StepMetrics metrics = part.trainer().gradients(false);
      expect_metrics_near(metrics, expected, kTolerance);
      EXPECT_EQ(metrics.layers.front().dropped, expected.layers.front().dropped);
      expect_gradients_near(part, whole, kTolerance);
    }
  }
}

}  // namespace
}  // namespace witan::test
