// The same bits: the same run twice, and a run that was interrupted and resumed.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

// Every figure that a step reports, times apart.
std::vector<double> figures_of(const StepMetrics& metrics) {
  std::vector<double> figures = {metrics.loss, metrics.router_loss, metrics.lr, metrics.grad_norm};
  for (const LayerMetrics& layer : metrics.layers) {
    figures.insert(figures.end(), layer.losses.begin(), layer.losses.end());
    for (const std::int64_t n : layer.tag_counts) figures.push_back(static_cast<double>(n));
    figures.insert(figures.end(), {layer.top_weight, layer.logit_rms, layer.lse});
  }
  return figures;
}

std::vector<std::vector<double>> steps_of(Session& session, int steps) {
  std::vector<std::vector<double>> all;
  for (int i = 0; i < steps; ++i) all.push_back(figures_of(session.trainer().step(false)));
  return all;
}

// Previous counts, several micro-batches, a bias that moves every 3 steps, sharded state.
configs::RunConfig long_run(const Corpus& corpus, const std::string& change = "") {
  return run_config(
      corpus, invariant_balance(false),
      "optimizer { zero1: true } train { steps: 12 } " + several_micro_batches() + change);
}

TEST(TrainerBits, TheSameRunTwice) {
  const Corpus corpus;
  for (const int ep : expert_parallel_sizes(long_run(corpus))) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    const Mesh mesh = mesh_of(ep);
    Session first(long_run(corpus), mesh);
    Session second(long_run(corpus), mesh);
    EXPECT_EQ(steps_of(first, 4), steps_of(second, 4));
    expect_same_values(second, first);
  }
}

TEST(TrainerBits, RecomputeChangesNoBit) {
  const Corpus corpus;
  const Mesh mesh = mesh_of(expert_parallel_sizes(long_run(corpus)).back());
  Session keep(long_run(corpus), mesh);
  const std::vector<std::vector<double>> expected = steps_of(keep, 2);
  for (const char* level : {"MOE_ACTIVATION", "MOE_LAYER", "LAYER"}) {
    SCOPED_TRACE(level);
    Session again(long_run(corpus, "train { recompute: " + std::string(level) + " }"), mesh);
    EXPECT_EQ(steps_of(again, 2), expected);
    expect_same_values(again, keep);
  }
}

TEST(TrainerBits, InterruptedAndResumed) {
  const Corpus corpus;
  constexpr int kBefore = 4, kAfter = 3;  // the bias moved in step 3 and moves in step 6
  for (const int ep : expert_parallel_sizes(long_run(corpus))) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    const Mesh mesh = mesh_of(ep);
    const configs::RunConfig run = long_run(corpus);
    const std::string folder =
        checkpoint_folder(corpus.folder / ("ep" + std::to_string(ep)), kBefore);
    Session whole(run, mesh);
    steps_of(whole, kBefore);
    save_checkpoint(folder, run, whole.engine().params(), &whole.trainer().optimizer(),
                    whole.trainer().state(), mesh, 1);
    const std::vector<std::vector<double>> expected = steps_of(whole, kAfter);

    Session resumed(run, mesh);
    const TrainState state = load_checkpoint(folder, run, resumed.engine().params(),
                                             resumed.trainer().optimizer(), mesh);
    EXPECT_EQ(state.step, kBefore);
    EXPECT_EQ(state.samples, kBefore * kGlobalBatch);
    EXPECT_FALSE(state.counts.empty());
    resumed.trainer().restore(state);
    EXPECT_EQ(resumed.trainer().steps_done(), kBefore);
    EXPECT_EQ(resumed.trainer().state().counts, state.counts);
    EXPECT_EQ(steps_of(resumed, kAfter), expected);
    expect_same_values(resumed, whole);
    EXPECT_EQ(resumed.trainer().state().counts, whole.trainer().state().counts);
  }
}

}  // namespace
}  // namespace witan::test
