// DeepSeek-V2 and V3: latent attention, the first layers dense, shared experts. V2 routes by
// softmax, V3 by sigmoid among the best groups with a bias in the choice.
#include "core/base/error.h"
#include "core/model/param_table.h"
#include "launch/checkpoint/hf_architecture.h"

namespace witan {
namespace {

using configs::ModelConfig;
using configs::RouterConfig;
using Json = nlohmann::ordered_json;

constexpr double kLatentNormEps = 1e-6;  // fixed in transformers

void read_latent(HfConfigReader& in, ModelConfig& model) {
  configs::LatentAttention& latent = *model.mutable_attention()->mutable_latent();
  // Null: no latent of queries. Absent: the default of both classes.
  latent.set_q_lora_rank(in.names("q_lora_rank") ? in.size("q_lora_rank", 0) : 1536);
  latent.set_kv_lora_rank(in.size("kv_lora_rank", 512));
  latent.set_nope_head_dim(in.size("qk_nope_head_dim", 128));
  latent.set_rope_head_dim(in.size("qk_rope_head_dim", 64));
  latent.set_v_head_dim(in.size("v_head_dim", 128));
  latent.set_norm_eps(kLatentNormEps);
  in.expect_false("attention_bias");
  const std::int64_t heads = model.attention().heads();
  if (in.has("num_key_value_heads") && in.size("num_key_value_heads", heads) != heads) {
    in.refuse("num_key_value_heads",
              detail::concat("expected num_attention_heads (", heads,
                             "): latent attention has a key for every head"));
  }
}

void read_layers(HfConfigReader& in, std::int64_t dense_absent, ModelConfig& model) {
  std::int64_t dense = dense_absent;
  if (in.has("first_k_dense_replace")) {
    dense = in["first_k_dense_replace"] == 0 ? 0 : in.size("first_k_dense_replace", 0);
  }
  in.expect("moe_layer_freq", 1);
  if (dense == 0) return;
  model.mutable_ffn()->set_d_ff(in.size("intermediate_size"));
  model.mutable_moe()->mutable_pattern()->set_first(dense);
  if (dense >= model.layers() && model.layers() > 0) {
    in.refuse("first_k_dense_replace",
              detail::concat("expected less than num_hidden_layers (", model.layers(), ")"));
  }
}

void read_experts(HfConfigReader& in, std::int64_t shared_absent, ModelConfig& model) {
  configs::MoeConfig& moe = *model.mutable_moe();
  moe.set_d_ff(in.size("moe_intermediate_size"));
  moe.set_experts(in.size("n_routed_experts"));
  const bool none = in.names("n_shared_experts") && !in.has("n_shared_experts");
  moe.set_shared_d_ff(none ? 0 : in.size("n_shared_experts", shared_absent) * moe.d_ff());
}

void read_groups(HfConfigReader& in, std::int64_t group_top, ModelConfig& model) {
  configs::MoeConfig& moe = *model.mutable_moe();
  configs::GroupLimitedSelection& groups = *moe.mutable_router()->mutable_group_limited();
  groups.set_k(read_hf_top_k(in, "n_routed_experts", moe.experts()));
  groups.set_n_group(in.size("n_group", 8));
  groups.set_topk_group(in.size("topk_group", 4));
  groups.set_group_top(group_top);
}

void read_v2(HfConfigReader& in, ModelConfig& model) {
  read_hf_common(in, {2048, 1e-6, 1e4}, model);
  read_latent(in, model);
  read_experts(in, 2, model);
  read_layers(in, 0, model);
  RouterConfig& router = *model.mutable_moe()->mutable_router();
  router.set_score(RouterConfig::SOFTMAX);
  router.set_weights(RouterConfig::AS_IS);
  router.set_routed_scaling_factor(in.number("routed_scaling_factor", 1.0));
  in.expect("scoring_func", "softmax");
  in.expect_false("norm_topk_prob");
  in.expect_false("mlp_bias");
  if (in.has("topk_method") && in["topk_method"] == "group_limited_greedy") {
    read_groups(in, 1, model);
  } else {
    in.expect("topk_method", "greedy");
    router.mutable_top_k()->set_k(read_hf_top_k(in, "n_routed_experts", model.moe().experts()));
  }
}

void read_v3(HfConfigReader& in, ModelConfig& model) {
  read_hf_common(in, {4096, 1e-6, 1e4}, model);
  read_latent(in, model);
  model.mutable_attention()->mutable_latent()->set_rope_interleaved(
      in.flag("rope_interleave", true));
  read_experts(in, 1, model);
  read_layers(in, 3, model);
  RouterConfig& router = *model.mutable_moe()->mutable_router();
  router.set_score(RouterConfig::SIGMOID);
  router.set_weights(in.flag("norm_topk_prob", true) ? RouterConfig::RENORMALIZED
                                                     : RouterConfig::AS_IS);
  router.set_routed_scaling_factor(in.number("routed_scaling_factor", 2.5));
  in.expect("scoring_func", "sigmoid");
  in.expect("topk_method", "noaux_tc");
  read_groups(in, 2, model);
  model.mutable_moe()->add_balance()->mutable_expert_bias();
}

bool has_expert_bias(const ModelConfig& model) {
  for (const configs::BalancerConfig& balancer : model.moe().balance()) {
    if (balancer.has_expert_bias()) return true;
  }
  return false;
}

// The dense layers stand in front of the sparse ones.
bool dense_layers_first(const ModelDims& dims) {
  for (std::size_t i = 1; i < dims.is_moe.size(); ++i) {
    if (dims.is_moe[i - 1] && !dims.is_moe[i]) return false;
  }
  return true;
}

void check_common(const ModelConfig& model, std::vector<std::string>& obstacles) {
  const ModelDims dims(model);
  check_hf_common(model, obstacles);
  if (!model.attention().has_latent()) {
    obstacles.emplace_back("model.attention.latent is not set");
  } else if (model.attention().latent().norm_eps() != kLatentNormEps) {
    obstacles.emplace_back("model.attention.latent.norm_eps is not 1e-6");
  }
  if (!dense_layers_first(dims)) {
    obstacles.emplace_back("a dense layer stands behind a sparse one");
  }
  if (dims.shared_ff == 0 || dims.shared_ff % dims.moe_ff != 0) {
    obstacles.emplace_back("model.moe.shared_d_ff is not a multiple of model.moe.d_ff above 0");
  }
  if (model.moe().shared_gate()) obstacles.emplace_back("model.moe.shared_gate is set");
}

void check_v2(const ModelConfig& model, std::vector<std::string>& obstacles) {
  const RouterConfig& router = model.moe().router();
  check_common(model, obstacles);
  check_hf_moe(model, RouterConfig::SOFTMAX, obstacles);
  check_hf_no_expert_bias(model, obstacles);
  if (!model.attention().latent().rope_interleaved()) {
    obstacles.emplace_back("model.attention.latent.rope_interleaved is not set");
  }
  if (!router.has_top_k() &&
      !(router.has_group_limited() && router.group_limited().group_top() == 1)) {
    obstacles.emplace_back(
        "model.moe.router.selection is neither top_k nor group_limited with group_top 1");
  }
  if (router.weights() != RouterConfig::AS_IS) {
    obstacles.emplace_back("model.moe.router.weights is not AS_IS");
  }
  if (model.d_model() % model.attention().heads() != 0) {
    obstacles.emplace_back("model.d_model is not a multiple of model.attention.heads");
  }
}

void check_v3(const ModelConfig& model, std::vector<std::string>& obstacles) {
  const RouterConfig& router = model.moe().router();
  check_common(model, obstacles);
  check_hf_moe(model, RouterConfig::SIGMOID, obstacles);
  if (!has_expert_bias(model)) obstacles.emplace_back("model.moe.balance has no expert_bias");
  if (!router.has_top_k() &&
      !(router.has_group_limited() && router.group_limited().group_top() == 2)) {
    obstacles.emplace_back(
        "model.moe.router.selection is neither top_k nor group_limited with group_top 2");
  }
  if (router.weights() != RouterConfig::RENORMALIZED && router.weights() != RouterConfig::AS_IS) {
    obstacles.emplace_back("model.moe.router.weights is neither RENORMALIZED nor AS_IS");
  }
}

void write_common(const ModelConfig& model, Json& json) {
  const ModelDims dims(model);
  json["q_lora_rank"] = dims.q_rank > 0 ? Json(dims.q_rank) : Json(nullptr);
  json["kv_lora_rank"] = dims.kv_rank;
  json["qk_nope_head_dim"] = dims.nope_dim;
  json["qk_rope_head_dim"] = dims.rope_dim;
  json["v_head_dim"] = dims.v_dim;
  json["attention_bias"] = false;
  json["intermediate_size"] = dims.dense_ff > 0 ? dims.dense_ff : dims.moe_ff;
  json["first_k_dense_replace"] = dims.layers - dims.moe_layers();
  json["moe_layer_freq"] = 1;
  json["moe_intermediate_size"] = dims.moe_ff;
  json["n_routed_experts"] = dims.experts;
  json["n_shared_experts"] = dims.shared_ff / dims.moe_ff;
  json["num_experts_per_tok"] = dims.top_k;
  json["routed_scaling_factor"] = model.moe().router().routed_scaling_factor();
}

void write_v2(const ModelConfig& model, Json& json) {
  const RouterConfig& router = model.moe().router();
  const bool groups = router.has_group_limited();
  write_common(model, json);
  json["scoring_func"] = "softmax";
  json["norm_topk_prob"] = false;
  json["topk_method"] = groups ? "group_limited_greedy" : "greedy";
  json["n_group"] = groups ? Json(router.group_limited().n_group()) : Json(nullptr);
  json["topk_group"] = groups ? Json(router.group_limited().topk_group()) : Json(nullptr);
  json["mlp_bias"] = false;
}

void write_v3(const ModelConfig& model, Json& json) {
  const RouterConfig& router = model.moe().router();
  const bool groups = router.has_group_limited();
  write_common(model, json);
  json["scoring_func"] = "sigmoid";
  json["norm_topk_prob"] = router.weights() == RouterConfig::RENORMALIZED;
  json["topk_method"] = "noaux_tc";
  json["n_group"] = groups ? router.group_limited().n_group() : 1;
  json["topk_group"] = groups ? router.group_limited().topk_group() : 1;
  json["rope_interleave"] = model.attention().latent().rope_interleaved();
  json["num_nextn_predict_layers"] = model.mtp().depth();
}

}  // namespace

const HfArchitecture kHfDeepseekV2 = {
    "deepseek_v2", "DeepseekV2ForCausalLM", "DeepSeek-V2", read_v2, check_v2, write_v2};
const HfArchitecture kHfDeepseekV3 = {
    "deepseek_v3", "DeepseekV3ForCausalLM", "DeepSeek-V3", read_v3, check_v3, write_v3};

}  // namespace witan
