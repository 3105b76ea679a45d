// One step with every kind of attention at 1 to 4 ranks, in every mesh, against the same step on
// one rank.
#include <gtest/gtest.h>

#include <string>

#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

constexpr double kTolerance = 1e-12;  // float64

void expect_every_mesh(const std::string& attention) {
  SCOPED_TRACE(attention);
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  configs::RunConfig run = run_config(corpus, "balance { z_loss { coefficient: 0.05 } }",
                                      "runtime { precision: FLOAT64 }");
  run.mutable_model()->clear_attention();
  ASSERT_TRUE(google::protobuf::TextFormat::MergeFromString(
      "model { attention { " + attention + " } }", &run));
  Session whole(run, alone);
  const StepMetrics expected = whole.trainer().gradients(false);
  for (const int ep : expert_parallel_sizes(run)) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    const Mesh mesh = mesh_of(ep);
    Session part(run, mesh);
    expect_metrics_near(part.trainer().gradients(false), expected, kTolerance);
    expect_gradients_near(part, whole, kTolerance);
  }
}

TEST(TrainerArchitectures, EveryMeshGivesTheStepOfOneRank) {
  expect_every_mesh("heads: 4 kv_heads: 2 head_dim: 6 qk_norm: true qk_norm_scope: PROJECTION");
  expect_every_mesh(
      "heads: 3 latent { q_lora_rank: 5 kv_lora_rank: 7 nope_head_dim: 3 rope_head_dim: 4 "
      "v_head_dim: 5 } rope_scaling { yarn { factor: 4 original_max_seq_len: 8 } }");
  expect_every_mesh(
      "heads: 2 latent { kv_lora_rank: 7 nope_head_dim: 3 rope_head_dim: 4 v_head_dim: 5 "
      "rope_interleaved: false }");
}

}  // namespace
}  // namespace witan::test
