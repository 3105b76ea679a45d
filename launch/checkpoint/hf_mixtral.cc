// Mixtral: every layer sparse, top-k with renormalised weights.
#include "core/model/param_table.h"
#include "launch/checkpoint/hf_architecture.h"

namespace witan {
namespace {

using configs::ModelConfig;

void read(HfConfigReader& in, ModelConfig& model) {
  read_hf_common(in, {131072, 1e-5, 1e6}, model);
  read_hf_plain_heads(in, model);
  configs::MoeConfig& moe = *model.mutable_moe();
  moe.set_d_ff(in.size("intermediate_size"));
  moe.set_experts(in.size("num_local_experts"));
  moe.set_expert_kind(configs::MoeConfig::SWIGLU);
  configs::RouterConfig& router = *moe.mutable_router();
  router.set_score(configs::RouterConfig::SOFTMAX);
  router.set_weights(configs::RouterConfig::RENORMALIZED);
  router.mutable_top_k()->set_k(read_hf_top_k(in, "num_local_experts", moe.experts()));
  in.expect_zero("router_jitter_noise");
  in.expect_false("attention_bias");
  if (in.has("sliding_window")) read_hf_window(in.size("sliding_window"), model);
}

void check(const ModelConfig& model, std::vector<std::string>& obstacles) {
  const configs::RouterConfig& router = model.moe().router();
  check_hf_common(model, obstacles);
  check_hf_plain_attention(model, obstacles);
  check_hf_moe(model, configs::RouterConfig::SOFTMAX, obstacles);
  check_hf_every_layer_sparse(model, obstacles);
  check_hf_no_shared_expert(model, obstacles);
  check_hf_no_expert_bias(model, obstacles);
  if (!router.has_top_k()) obstacles.emplace_back("model.moe.router.selection is not top_k");
  if (router.weights() != configs::RouterConfig::RENORMALIZED) {
    obstacles.emplace_back("model.moe.router.weights is not RENORMALIZED");
  }
  if (router.routed_scaling_factor() != 1.0) {
    obstacles.emplace_back("model.moe.router.routed_scaling_factor is not 1");
  }
}

void write(const ModelConfig& model, nlohmann::ordered_json& json) {
  const ModelDims dims(model);
  write_hf_plain_heads(model, json);
  json["intermediate_size"] = dims.moe_ff;
  json["num_local_experts"] = dims.experts;
  json["num_experts_per_tok"] = dims.top_k;
  write_hf_window(model, json);
  json["router_jitter_noise"] = 0.0;
  json["output_router_logits"] = false;
}

}  // namespace

const HfArchitecture kHfMixtral = {"mixtral", "MixtralForCausalLM", "Mixtral", read, check, write};

}  // namespace witan
