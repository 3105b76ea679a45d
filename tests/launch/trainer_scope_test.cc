// Options whose scope is all ranks' micro-batches, or the whole expert-parallel group: one step at
// 1 to 4 ranks against the same tokens on one rank.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

constexpr double kTolerance = 1e-12;  // float64

constexpr const char* kNoisy =
    "model { moe { router { noisy_top_k { k: 2 } score: SOFTMAX } } } "
    "runtime { precision: FLOAT64 } ";
constexpr const char* kGlobalMicroBatch =
    "balance { importance_cv2 { coefficient: 0.4 scope: GLOBAL_MICRO_BATCH } }"
    "balance { importance_cv2 { coefficient: 0.3 scope: GLOBAL_MICRO_BATCH importance: WEIGHTS } }"
    "balance { load_cv2 { coefficient: 0.5 scope: GLOBAL_MICRO_BATCH } }";

void expect_same_gradients(Session& part, Session& whole) {
  const StepMetrics expected = whole.trainer().gradients(false);
  expect_metrics_near(part.trainer().gradients(false), expected, kTolerance);
  EXPECT_GT(expected.router_loss, 0.0);
  expect_gradients_near(part, whole, kTolerance);
}

// With one micro-batch per rank those of all ranks are the batch.
TEST(TrainerScopes, GlobalMicroBatchesAreSummedOverTheRanks) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const configs::RunConfig run = run_config(corpus, kGlobalMicroBatch, kNoisy);
  for (const int ep : expert_parallel_sizes(run)) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    Session whole(run, alone);
    const Mesh mesh = mesh_of(ep);
    Session part(run, mesh);
    expect_same_gradients(part, whole);
  }
}

// Several ranks and several micro-batches: the gradient is that of the reported loss.
TEST(TrainerScopes, GlobalMicroBatchGradientsAreThoseOfTheReportedLoss) {
  const Corpus corpus;
  const configs::RunConfig run =
      run_config(corpus, kGlobalMicroBatch, kNoisy + several_micro_batches());
  const Mesh mesh = mesh_of(expert_parallel_sizes(run).back());
  Session session(run, mesh);
  const auto loss = [&] {
    const StepMetrics metrics = session.trainer().gradients(false);
    return metrics.loss + metrics.router_loss;
  };
  loss();
  for (const char* name : {"layers.1.moe.router.weight", "layers.2.moe.router.noise"}) {
    const TensorView value = session.value(name);
    const double by_hand =
        session.engine().params().grad(name).as<double>()[3] / session.trainer().loss_tokens();
    constexpr double kStep = 1e-5;
    double* element = value.as<double>() + 3;
    const double before = *element;
    *element = before + kStep;
    const double above = loss();
    *element = before - kStep;
    const double below = loss();
    *element = before;
    loss();
    EXPECT_NEAR(by_hand, (above - below) / (2.0 * kStep), 1e-8) << name;
    EXPECT_GT(std::abs(by_hand), 1e-5) << name << " says nothing";
  }
}

// The counts of a step's only micro-batch are those of the step.
TEST(TrainerScopes, RunningCountsOfOneMicroBatchAreExact) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const auto run = [&](const char* counts, const std::string& change) {
    return run_config(
        corpus, std::string("balance { switch_aux { coefficient: 0.4 counts: ") + counts + " } }",
        "runtime { precision: FLOAT64 } " + change);
  };
  for (const int ep : expert_parallel_sizes(run("EXACT", ""))) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    const Mesh mesh = mesh_of(ep);
    Session whole(run("EXACT", ""), alone);
    Session part(run("RUNNING", ""), mesh);
    expect_same_gradients(part, whole);
    // A second step starts to count anew.
    expect_same_gradients(part, whole);
    Session cut(run("RUNNING", several_micro_batches()), mesh);
    const double expected = whole.trainer().gradients(false).router_loss;
    const double found = cut.trainer().gradients(false).router_loss;
    EXPECT_GT(std::abs(found - expected), 1e-6 * expected) << "documented not to be invariant";
    EXPECT_NEAR(found, expected, 0.2 * expected);
  }
}

// One loss for all layers: the same at any number of ranks and micro-batches.
TEST(TrainerScopes, PooledLayers) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const auto run = [&](const std::string& change) {
    return run_config(corpus,
                      "balance { switch_aux { coefficient: 0.4 pool_layers: true counts: EXACT } }",
                      "runtime { precision: FLOAT64 } " + change);
  };
  Session whole(run(""), alone);
  const Mesh mesh = mesh_of(expert_parallel_sizes(whole.run()).back());
  Session part(run(several_micro_batches()), mesh);
  expect_same_gradients(part, whole);
  const std::vector<LayerMetrics> layers = part.trainer().gradients(false).layers;
  EXPECT_NE(layers[0].counts, layers[1].counts);
  EXPECT_EQ(part.engine().model().moe_layers()[0]->global_fractions(),
            part.engine().model().moe_layers()[1]->global_fractions());
}

// An expert chooses among the tokens of its group: with one group that is the whole batch.
TEST(TrainerScopes, ExpertChoiceOverTheGroup) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const auto run = [&](const char* scope) {
    return run_config(
        corpus, "balance { z_loss { coefficient: 0.05 } }",
        std::string("model { moe { router { expert_choice { k: 2 capacity_factor: 0.8 scope: ") +
            scope +
            " } score: SOFTMAX weights: AS_IS allow_non_causal: true } } }"
            " runtime { precision: FLOAT64 } ");
  };
  const configs::RunConfig group = run("EXPERT_GROUP");
  Session whole(group, alone);
  const Mesh mesh = mesh_of(world().size());
  Session part(group, mesh);
  expect_same_gradients(part, whole);
  const std::vector<std::int64_t> counts = part.trainer().gradients(false).layers.front().counts;
  const auto experts = static_cast<double>(counts.size());
  const auto each = static_cast<std::int64_t>(std::ceil(kGlobalBatch * 9 * 0.8 * 2 / experts));
  EXPECT_EQ(counts, std::vector<std::int64_t>(counts.size(), each));
  if (world().size() == 1) return;
  Session own(run("RANK"), mesh);
  EXPECT_NE(own.trainer().gradients(false).loss, whole.trainer().gradients(false).loss);
}

}  // namespace
}  // namespace witan::test
