// One step's gradients of every kind of layer, router and balancer on GPUs against those of the
// CPU.
#include <gtest/gtest.h>

#include <string>

#include "core/model/balance/balancer.h"
#include "core/model/check_model.h"
#include "core/model/router.h"
#include "tests/cuda/trainer_cuda_case.h"

namespace witan::test {
namespace {

using CudaLayers = OnGpus;

// The router of an entry, with what it needs besides.
std::string router_of(const RouterEntry& entry) {
  std::string example = entry.example;
  std::string score = "SQRT_SOFTPLUS";
  if (entry.selection == configs::RouterConfig::kHierarchical) {
    example = "hierarchical { k: 2 n_group: 2 topk_group: 1 }";
    score = "SOFTMAX";
  }
  if (entry.selection == configs::RouterConfig::kExpertChoice) score = "SOFTMAX weights: AS_IS";
  if (entry.selection == configs::RouterConfig::kTopP) example = "top_p { p: 0.6 k_max: 3 }";
  if (entry.selection == configs::RouterConfig::kGroupLimited) {
    example = "group_limited { k: 2 n_group: 2 topk_group: 1 }";
  }
  return "model { moe { router { " + example +
         " input_jitter: 0.1 allow_non_causal: true score: " + score + " } } } ";
}

bool accepted(const configs::ModelConfig& model) {
  bool good = true;
  check_model(model, [&](const std::string&, const std::string&) { good = false; });
  return good;
}

TEST_F(CudaLayers, EveryRouter) {
  const Corpus corpus;
  const std::string balance =
      "balance { switch_aux { coefficient: 0.3 scope: SEQUENCE } }"
      "balance { z_loss { coefficient: 0.05 } }";
  const std::string by_tag =
      "model { moe { allowed_experts { tag { name: 'a' experts: '0-3' } "
      "tag { name: 'b' experts: '4-7' } } } } ";
  const std::string zero_computation =
      "model { moe { zero_computation { zero: 1 copy: 1 constant: 2 } } } ";
  int combinations = 0;
  for (const RouterEntry& entry : registered_routers()) {
    for (const std::string& more : {std::string(), by_tag, zero_computation}) {
      const std::string change = router_of(entry) + more;
      if (!accepted(run_config(corpus, balance, change).model())) continue;
      SCOPED_TRACE(std::string(entry.name) + " " + more);
      expect_same_gradients(corpus, balance, change);
      ++combinations;
    }
  }
  EXPECT_GE(combinations, static_cast<int>(registered_routers().size()) + 8);
}

// Losses that read scores, logits or expected loads where some logits are minus infinity.
TEST_F(CudaLayers, BalancingOfBarredExperts) {
  const Corpus corpus;
  const std::string noisy = "router { noisy_top_k { k: 2 } score: SOFTMAX } ";
  for (const std::string& balance :
       {std::string("balance { load_cv2 { coefficient: 0.4 } }"),
        std::string("balance { entropy { coefficient: 0.3 } } balance { importance_cv2 { "
                    "coefficient: 0.4 } } balance { switch_aux { coefficient: 0.5 load: UNBIASED } "
                    "}")}) {
    SCOPED_TRACE(balance);
    expect_same_gradients(corpus, balance,
                          "model { moe { " + noisy +
                              "allowed_experts { tag { name: 'a' experts: '0-3' } "
                              "tag { name: 'b' experts: '4-7' } } } } ");
  }
}

// An expert chooses among the tokens of its group, whose scores are gathered on the device.
TEST_F(CudaLayers, ExpertChoiceOverTheGroup) {
  expect_same_gradients(Corpus(), "",
                        several_micro_batches() +
                            "model { moe { router { expert_choice { k: 2 capacity_factor: 0.8 "
                            "scope: EXPERT_GROUP } score: SOFTMAX weights: AS_IS "
                            "allow_non_causal: true } } }");
}

TEST_F(CudaLayers, EveryBalancer) {
  const Corpus corpus;
  for (const BalancerEntry& entry : registered_balancers()) {
    SCOPED_TRACE(entry.name);
    const bool load = entry.kind == configs::BalancerConfig::kLoadCv2;
    std::string example = entry.example;
    if (entry.kind == configs::BalancerConfig::kDeviceBalance) {
      example = "device_balance { coefficient: 0.5 groups: 2 }";
    }
    expect_same_gradients(
        corpus, "balance { " + example + " }",
        load ? "model { moe { router { noisy_top_k { k: 2 } score: SOFTMAX } } }" : "");
  }
}

// The losses of Shazeer's and of V-MoE's layers together, with their sums over the ranks, and f of
// the load without bias.
TEST_F(CudaLayers, LossesOnScoresAndExpectedLoads) {
  const Corpus corpus;
  const std::string scope = " { coefficient: 0.4 scope: GLOBAL_MICRO_BATCH } }";
  const std::string balance =
      "balance { importance_cv2" + scope + " balance { load_cv2" + scope +
      "balance { importance_cv2 { coefficient: 0.3 importance: WEIGHTS } }"
      "balance { switch_aux { coefficient: 0.3 scope: MICRO_BATCH load: UNBIASED } }"
      "balance { switch_aux { coefficient: 0.2 load: UNBIASED scope: SEQUENCE } }"
      "balance { entropy { coefficient: 0.1 } } balance { expert_bias { rate: 0.01 } }";
  for (const char* noise : {"FIXED", "LEARNED"}) {
    SCOPED_TRACE(noise);
    const std::string router = "noisy_top_k { k: 2 noise: " + std::string(noise) + " }";
    expect_same_gradients(corpus, balance,
                          "model { moe { router { " + router +
                              " input_jitter: 0.1 allow_non_causal: true } } } "
                              "train { recompute: LAYER }");
  }
}

// Input jitter sets equal tokens apart: which of their weights is larger by a rounding error is not
// the same on both devices.
TEST_F(CudaLayers, EveryCapacity) {
  const Corpus corpus;
  for (const char* change : {
           "capacity { pad_to_capacity: true min_capacity: 9 factor: 0.8 }",
           "capacity { pad_to_capacity: true policy: CHOICE_MAJOR factor: 0.8 }",
           "capacity { pad_to_capacity: true policy: PROBABILITY factor: 0.6 "
           "  renormalize_after_drop: true }",
           "capacity { pad_to_capacity: true policy: BATCH_PRIORITY factor: 0.8 }",
           "capacity { policy: PROBABILITY factor: 0.8 }",
           "capacity { policy: BATCH_PRIORITY factor: 0.6 renormalize_after_drop: true }",
           // With experts that compute nothing, with fewer choices, and with barred experts.
           "capacity { pad_to_capacity: true factor: 0.8 } "
           "zero_computation { zero: 1 copy: 1 constant: 2 }",
           "capacity { pad_to_capacity: true factor: 0.8 } "
           "router { top_p { p: 0.6 k_max: 3 } score: SOFTMAX }",
           "capacity { pad_to_capacity: true factor: 0.8 } "
           "allowed_experts { tag { name: 'a' experts: '0-3' } tag { name: 'b' experts: '4-7' } }",
       }) {
    SCOPED_TRACE(change);
    expect_same_gradients(corpus, invariant_balance(true),
                          several_micro_batches() +
                              "model { moe { router { input_jitter: 0.1 allow_non_causal: true } " +
                              change + " } } parallel { exchange { rows: PER_CHOICE } }");
  }
}

TEST_F(CudaLayers, EveryKindOfLayer) {
  const Corpus corpus;
  for (const char* change : {
           "model { norm { kind: LAYERNORM } moe { expert_kind: GELU expert_bias_terms: true } }",
           "model { moe { shared_gate: true } attention { qkv_bias: true out_bias: true } }",
           "model { attention { qk_norm: false latent { kv_lora_rank: 6 q_lora_rank: 5 "
           "nope_head_dim: 4 "
           "rope_head_dim: 2 v_head_dim: 5 } } }",
           "model { attention { sliding_window: 4 } }",
       }) {
    SCOPED_TRACE(change);
    expect_same_gradients(corpus, "", change);
  }
}

TEST_F(CudaLayers, MultiTokenPrediction) {
  const Corpus corpus;
  for (const char* change : {
           "model { mtp { depth: 2 } }",
           "model { mtp { depth: 2 } } train { recompute: MOE_LAYER }",
           "model { mtp { depth: 1 } attention { sliding_window: 4 } } train { recompute: LAYER }",
           "model { mtp { depth: 1 } moe { router { hash { k: 2 } weights: UNIFORM } } }",
       }) {
    SCOPED_TRACE(change);
    expect_same_gradients(corpus, "", several_micro_batches() + change);
  }
}

}  // namespace
}  // namespace witan::test
