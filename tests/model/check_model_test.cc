// Contradictions between fields of a model: the field, the value and what would be right.
#include "core/model/check_model.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/model/model_case.h"

namespace witan::test {
namespace {

std::vector<std::string> failures(const configs::ModelConfig& model) {
  std::vector<std::string> found;
  check_model(model, [&](const std::string& field, const std::string& message) {
    found.push_back(field + ": " + message);
  });
  return found;
}

constexpr const char* kGood =
    "vocab_size: 9 d_model: 12 layers: 4 attention { heads: 2 } ffn { d_ff: 4 }"
    "moe { experts: 4 d_ff: 3 router { top_k { k: 2 } } } ";

std::vector<std::string> failures(const std::string& change) {
  configs::ModelConfig model = model_config(kGood);
  model.MergeFrom(model_config(change));
  return failures(model);
}

TEST(CheckModel, AGoodModelHasNoFailures) { EXPECT_TRUE(failures("").empty()); }

TEST(CheckModel, NamesFieldValueAndRemedy) {
  struct Example {
    const char* change;
    const char* message;
  };
  const std::vector<Example> examples = {
      {"attention { kv_heads: 3 }",
       "model.attention.kv_heads: found 3; it must divide attention.heads = 2"},
      {"attention { head_dim: 5 }",
       "model.attention.head_dim: found 5; the rotation of RoPE needs an even number"},
      {"attention { heads: 5 }",
       "model.attention.heads: found 5; without head_dim it must divide d_model = 12"},
      {"attention { heads: 4 }",
       "model.attention.heads: found 4, so d_model / heads = 3; RoPE needs an even number"},
      {"attention { qk_norm_scope: PROJECTION }",
       "model.attention.qk_norm_scope: has no effect without qk_norm: true"},
      {"attention { latent { kv_lora_rank: 4 nope_head_dim: 4 rope_head_dim: 3 v_head_dim: 4 } }",
       "model.attention.latent.rope_head_dim: found 3; the rotation of RoPE needs an even number"},
      {"attention { qk_norm: true latent { kv_lora_rank: 4 nope_head_dim: 4 rope_head_dim: 2 "
       "v_head_dim: 4 } }",
       "model.attention.qk_norm: does not apply to latent attention; remove it: the latents have "
       "norms of their own"},
      {"attention { rope_scaling { yarn { factor: 2 original_max_seq_len: 8 beta_fast: 0.5 } } }",
       "model.attention.rope_scaling.yarn.beta_fast: found 0.5; at least beta_slow = 1"},
      {"attention { rope_scaling { llama3 { factor: 2 original_max_seq_len: 8 low_freq_factor: 4 } "
       "} }",
       "model.attention.rope_scaling.llama3.high_freq_factor: found 4; above low_freq_factor = 4"},
      {"moe { router { top_k { k: 5 } } }",
       "model.moe.router.top_k.k: found 5; at most moe.experts = 4"},
      {"moe { router { group_limited { k: 2 n_group: 3 topk_group: 1 } } }",
       "model.moe.router.group_limited.n_group: found 3; it must divide moe.experts = 4"},
      {"moe { router { group_limited { k: 3 n_group: 2 topk_group: 1 } } }",
       "model.moe.router.group_limited.k: found 3; at most experts in topk_group groups = 2"},
      {"moe { router { top_p { p: 0.5 k_max: 5 } } }",
       "model.moe.router.top_p.k_max: found 5; at most moe.experts = 4"},
      {"moe { router { sinkhorn { k: 1 } } }",
       "model.moe.router.sinkhorn: lets a token's experts depend on later tokens, which a decoder "
       "does not have when it generates; set allow_non_causal: true to train with it all the same"},
      {"moe { router { expert_choice { k: 1 } allow_non_causal: true } }",
       "model.moe.router.expert_choice: weighs a token by its softmax score: needs score: SOFTMAX "
       "and weights: AS_IS"},
      {"moe { router { weights: UNIFORM } }",
       "model.moe.router.weights: UNIFORM leaves the router without a gradient, so it would never "
       "learn whom to choose; it goes with the selections hash and all"},
      {"moe { router { hash { k: 1 } } balance { expert_bias {} } }",
       "model.moe.balance[0].expert_bias: has no effect: this selection does not look at it; "
       "remove "
       "it, or select by top_k, group_limited, top_p or noisy_top_k"},
      {"moe { allowed_experts { open_to_all: '0-1' } }",
       "model.moe.allowed_experts.tag: is empty; name at least one tag"},
      {"moe { allowed_experts { tag { name: 'a' experts: '2-4' } } }",
       "model.moe.allowed_experts.tag[0].experts: found \"2-4\"; the last expert is 3"},
      {"moe { allowed_experts { tag { name: 'a' experts: '1' } tag { name: 'b' experts: '2,3' } } "
       "}",
       "model.moe.allowed_experts.tag[0].experts: tokens of tag \"a\" may use 1 experts; the "
       "selection needs 2"},
      {"moe { allowed_experts { tag { name: 'a' experts: '' } tag { name: 'a' experts: '2' } "
       "open_to_all: '0-1' } }",
       "model.moe.allowed_experts.tag[1].name: \"a\" is there twice"},
      {"moe { router { group_limited { k: 1 n_group: 2 topk_group: 1 group_top: 1 } } "
       "allowed_experts { tag { name: 'a' experts: '0-2' } } }",
       "model.moe.allowed_experts.tag[0].experts: allows 1 of the 2 experts of group 1; "
       "where a selection has groups, a tag has a whole one or nothing of it"},
      {"moe { router { group_limited { k: 1 n_group: 2 topk_group: 2 group_top: 1 } } "
       "allowed_experts { tag { name: 'a' experts: '0-1' } } }",
       "model.moe.allowed_experts.tag[0].experts: allows 1 groups; the selection takes the best "
       "topk_group = 2"},
      {"moe { zero_computation { zero: 0 } }",
       "model.moe.zero_computation: names no expert; give it zero, copy or constant ones"},
      {"moe { router { top_k { k: 7 } } zero_computation { copy: 2 } }",
       "model.moe.router.top_k.k: found 7; at most moe.experts and those of zero_computation = 6"},
      {"moe { router { hierarchical { k: 1 n_group: 2 topk_group: 1 } } zero_computation { zero: 1 "
       "} }",
       "model.moe.zero_computation: hierarchical chooses groups of neighbouring experts, and "
       "experts "
       "that compute nothing belong to none; choose another selection"},
      {"moe { router { hierarchical { k: 3 n_group: 2 topk_group: 1 } } }",
       "model.moe.router.hierarchical.k: found 3; at most experts in a group = 2"},
      {"moe { router { hierarchical { k: 1 n_group: 2 topk_group: 1 } score: SIGMOID } }",
       "model.moe.router.hierarchical: weighs by the softmax of each gate over what it chose: "
       "needs "
       "score: SOFTMAX and weights: RENORMALIZED"},
      {"moe { balance { switch_aux { zero_computation_weight: 0.75 } } }",
       "model.moe.balance[0].switch_aux.zero_computation_weight: there are no zero-computation "
       "experts"},
      {"moe { pattern { list: 4 } }", "model.moe.pattern.list: names layer 4; the last layer is 3"},
      {"moe { pattern { list: 1 every: 2 } }",
       "model.moe.pattern.list: excludes `every` and `first`; keep one of the two forms"},
      {"moe { pattern { first: 4 } }",
       "model.moe.pattern.first: found 4; the last layer is 3, so there would be no MoE layer"},
      {"moe { balance { expert_bias {} } balance { expert_bias {} } }",
       "model.moe.balance[1].expert_bias: is there twice; a layer has one expert bias"},
      {"moe { balance { switch_aux { scope: SEQUENCE counts: EXACT } } }",
       "model.moe.balance[0].switch_aux.counts: applies to scope GLOBAL_BATCH only; remove it or "
       "change the scope"},
      {"moe { balance { switch_aux { load: FIRST_CHOICE } } }",
       "model.moe.balance[0].switch_aux.load: FIRST_CHOICE applies to the scopes MICRO_BATCH and "
       "SEQUENCE; the counts of the whole step are those that were routed"},
      {"moe { router { all {} } balance { switch_aux { scope: SEQUENCE load: FIRST_CHOICE } } }",
       "model.moe.balance[0].switch_aux.load: FIRST_CHOICE needs choices in an order; this "
       "selection has none: use ROUTED"},
      {"moe { balance { switch_aux { counts: RUNNING pool_layers: true } } }",
       "model.moe.balance[0].switch_aux.pool_layers: pools the routed counts of a micro-batch or "
       "of the whole step; it does not go with scope SEQUENCE, counts RUNNING, or another load "
       "than ROUTED"},
      {"moe { balance { switch_aux { mean_over_layers: true pool_layers: true } } }",
       "model.moe.balance[0].switch_aux.mean_over_layers: has no effect: pool_layers takes the "
       "mean over the layers; remove it"},
      {"moe { balance { switch_aux {} } balance { switch_aux { counts: EXACT } } }",
       "model.moe.balance[1].switch_aux: is the second with scope GLOBAL_BATCH; add up their "
       "coefficients in one"},
  };
  for (const Example& example : examples) {
    EXPECT_EQ(failures(example.change), std::vector<std::string>{example.message})
        << example.change;
  }
}

TEST(CheckModel, DenseLayersNeedAWidth) {
  EXPECT_EQ(failures(model_config(
                "vocab_size: 9 d_model: 12 layers: 4 attention { heads: 2 }"
                "moe { experts: 4 d_ff: 3 router { top_k { k: 2 } } pattern { every: 2 } }")),
            std::vector<std::string>{
                "model.ffn: is missing, but 2 layers are dense; add ffn { d_ff: ... }"});
}

TEST(CheckModel, AllMistakesAtOnce) {
  EXPECT_EQ(failures("attention { heads: 5 kv_heads: 3 } moe { router { top_k { k: 5 } } }").size(),
            3u);
}

}  // namespace
}  // namespace witan::test
