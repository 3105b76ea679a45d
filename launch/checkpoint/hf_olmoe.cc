// OLMoE: every layer sparse, queries and keys normalised over all heads together.
#include "core/base/error.h"
#include "core/model/param_table.h"
#include "launch/checkpoint/hf_architecture.h"

namespace witan {
namespace {

using configs::ModelConfig;

void read(HfConfigReader& in, ModelConfig& model) {
  read_hf_common(in, {4096, 1e-5, 1e4}, model);
  read_hf_plain_heads(in, model);
  configs::AttentionConfig& attention = *model.mutable_attention();
  attention.set_qk_norm(true);
  attention.set_qk_norm_scope(configs::AttentionConfig::PROJECTION);
  const bool bias = in.flag("attention_bias", false);
  attention.set_qkv_bias(bias);
  attention.set_out_bias(bias);
  in.expect_absent("clip_qkv");
  if (attention.has_head_dim() && attention.head_dim() * attention.heads() != model.d_model()) {
    in.refuse("head_dim", "expected hidden_size / num_attention_heads");
  }
  configs::MoeConfig& moe = *model.mutable_moe();
  moe.set_d_ff(in.size("intermediate_size"));
  moe.set_experts(in.size("num_experts"));
  configs::RouterConfig& router = *moe.mutable_router();
  router.set_score(configs::RouterConfig::SOFTMAX);
  router.set_weights(in.flag("norm_topk_prob", false) ? configs::RouterConfig::RENORMALIZED
                                                      : configs::RouterConfig::AS_IS);
  router.mutable_top_k()->set_k(read_hf_top_k(in, "num_experts", moe.experts()));
}

void check(const ModelConfig& model, std::vector<std::string>& obstacles) {
  const configs::AttentionConfig& attention = model.attention();
  const ModelDims dims(model);
  check_hf_common(model, obstacles);
  check_hf_moe(model, configs::RouterConfig::SOFTMAX, obstacles);
  check_hf_every_layer_sparse(model, obstacles);
  check_hf_no_shared_expert(model, obstacles);
  check_hf_no_expert_bias(model, obstacles);
  if (!attention.qk_norm() || attention.qk_norm_scope() != configs::AttentionConfig::PROJECTION) {
    obstacles.emplace_back("model.attention has no qk_norm of scope PROJECTION");
  }
  if (attention.qkv_bias() != attention.out_bias()) {
    obstacles.emplace_back("only one of model.attention.qkv_bias and out_bias is set");
  }
  if (dims.heads * dims.head_dim != dims.d_model) {
    obstacles.emplace_back("model.attention.head_dim is not d_model / heads");
  }
  check_hf_top_k(model, obstacles);
}

void write(const ModelConfig& model, nlohmann::ordered_json& json) {
  const ModelDims dims(model);
  json["attention_bias"] = model.attention().qkv_bias();
  json["clip_qkv"] = nullptr;
  json["intermediate_size"] = dims.moe_ff;
  write_hf_top_k(model, json);
  json["output_router_logits"] = false;
  json["pad_token_id"] = nullptr;
}

}  // namespace

const HfArchitecture kHfOlmoe = {"olmoe", "OlmoeForCausalLM", "OLMoE", read, check, write};

}  // namespace witan
