// Qwen2-MoE (Qwen1.5-MoE-A2.7B): a gated shared expert beside the routed ones, biases of queries,
// keys and values, weights as they are.
#include <algorithm>

#include "core/base/error.h"
#include "core/model/param_table.h"
#include "launch/checkpoint/hf_architecture.h"

namespace witan {
namespace {

using configs::ModelConfig;

// Layer i is sparse if it is not listed and decoder_sparse_step divides i + 1.
void read_pattern(HfConfigReader& in, ModelConfig& model) {
  std::vector<bool> sparse(static_cast<std::size_t>(std::min<std::int64_t>(model.layers(), 4096)));
  const std::int64_t step = in.size("decoder_sparse_step", 1);
  for (std::size_t i = 0; i < sparse.size(); ++i) {
    sparse[i] = (static_cast<std::int64_t>(i) + 1) % step == 0;
  }
  const nlohmann::json listed =
      in.has("mlp_only_layers") ? in["mlp_only_layers"] : nlohmann::json::array();
  for (const nlohmann::json& layer : listed) {
    if (!layer.is_number_unsigned() || layer.get<std::size_t>() >= sparse.size()) {
      return in.refuse("mlp_only_layers", "expected a list of layers, counted from 0");
    }
    sparse[layer.get<std::size_t>()] = false;
  }
  std::int64_t dense = 0;
  for (const bool is_sparse : sparse) dense += is_sparse ? 0 : 1;
  if (dense == 0) return;
  model.mutable_ffn()->set_d_ff(in.size("intermediate_size"));
  for (std::size_t i = 0; i < sparse.size(); ++i) {
    if (sparse[i]) {
      model.mutable_moe()->mutable_pattern()->add_list(static_cast<std::int64_t>(i));
    }
  }
  if (dense == model.layers()) in.problem("mlp_only_layers: leaves no sparse layer");
}

void read(HfConfigReader& in, ModelConfig& model) {
  read_hf_common(in, {32768, 1e-6, 1e4}, model);
  read_hf_plain_heads(in, model);
  model.mutable_attention()->set_qkv_bias(in.flag("qkv_bias", true));
  configs::MoeConfig& moe = *model.mutable_moe();
  moe.set_d_ff(in.size("moe_intermediate_size"));
  moe.set_shared_d_ff(in.size("shared_expert_intermediate_size"));
  moe.set_shared_gate(true);
  moe.set_experts(in.size("num_experts"));
  configs::RouterConfig& router = *moe.mutable_router();
  router.set_score(configs::RouterConfig::SOFTMAX);
  router.set_weights(in.flag("norm_topk_prob", false) ? configs::RouterConfig::RENORMALIZED
                                                      : configs::RouterConfig::AS_IS);
  router.mutable_top_k()->set_k(read_hf_top_k(in, "num_experts", moe.experts()));
  in.expect_false("use_sliding_window");
  read_pattern(in, model);
}

void check(const ModelConfig& model, std::vector<std::string>& obstacles) {
  check_hf_common(model, obstacles);
  check_hf_moe(model, configs::RouterConfig::SOFTMAX, obstacles);
  check_hf_no_expert_bias(model, obstacles);
  if (model.attention().has_latent()) obstacles.emplace_back("model.attention.latent is set");
  if (model.attention().qk_norm()) obstacles.emplace_back("model.attention.qk_norm is set");
  if (model.attention().out_bias()) obstacles.emplace_back("model.attention.out_bias is set");
  if (!model.moe().shared_gate()) obstacles.emplace_back("model.moe.shared_gate is not set");
  check_hf_top_k(model, obstacles);
}

void write(const ModelConfig& model, nlohmann::ordered_json& json) {
  const ModelDims dims(model);
  write_hf_plain_heads(model, json);
  json["qkv_bias"] = model.attention().qkv_bias();
  json["intermediate_size"] = dims.dense_ff > 0 ? dims.dense_ff : dims.shared_ff;
  json["moe_intermediate_size"] = dims.moe_ff;
  json["shared_expert_intermediate_size"] = dims.shared_ff;
  write_hf_top_k(model, json);
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < dims.is_moe.size(); ++i) {
    if (!dims.is_moe[i]) json["mlp_only_layers"].push_back(i);
  }
  json["use_sliding_window"] = false;
  json["output_router_logits"] = false;
}

}  // namespace

const HfArchitecture kHfQwen2Moe = {"qwen2_moe", "Qwen2MoeForCausalLM", "Qwen2-MoE", read, check,
                                    write};

}  // namespace witan
